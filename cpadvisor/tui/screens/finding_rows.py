"""How a finding of the doctor reads: its row in the list, evidence, effect and mends, the card's rows, the report."""

from typing import TYPE_CHECKING

from cpadvisor.tui.exam import MARKS, Subject
from cpadvisor.tui.i18n import Words
from cpadvisor.tui.widgets.facts import Fact
from cpadvisor.tui.widgets.lines import Line
from cpadvisor.tui.widgets.table import Column, Row, cell

if TYPE_CHECKING:
    from cpadvisor.doctor.diagnosis import Diagnosis, Mend

PREDICTION = "cpadvisor.prediction."
"""Keys that a mend renews beside what it is about; the change shows them."""
COPY_WIDTH = 100
"""Columns of a copied report."""


def report_text(subject: Subject, found: "tuple[Diagnosis, ...]", *, symptom: str | None) -> str:
    """The checks as `cpadvisor doctor` prints them."""
    from cpadvisor.report.doctor import doctor_text, guided_text

    target = None if subject.path is None else subject.path.name if subject.kind == "run" else str(subject.path)
    if symptom is None:
        return doctor_text(found, subject=subject.label, target=target, width=COPY_WIDTH)
    return guided_text(found, subject=subject.label, symptom=symptom, target=target, width=COPY_WIDTH)


def found_columns(words: Words) -> tuple[Column, ...]:
    """Place, mark, title, rows of the card; a long title is cut before the card's rows are."""
    check = Column(title=words["check"], most=1, flexible=True)
    return (Column(title="", right=True), Column(title=""), check, Column(title=words["card row"]))


def found_row(one: "Diagnosis", place: int | None) -> Row:
    """One check: its place in a symptom's order, its mark, its title, the card's rows."""
    mark, tone = MARKS[one.severity]
    return (
        cell("" if place is None else str(place), "faint"),
        cell(mark, tone),
        cell(one.title, "muted" if one.severity == "ok" else "plain"),
        cell(" ".join(one.card), "faint"),
    )


def finding_facts(one: "Diagnosis", chosen: int, words: Words) -> tuple[Fact, ...]:
    """Evidence, effect, then the mends, the chosen one marked."""
    facts = [Fact(name=words["evidence"], lines=plain_lines(one.evidence))]
    if one.effect:
        facts.append(Fact(name=words["effect"], lines=plain_lines(one.effect, "warn")))
    for place, mend in enumerate(one.mends):
        name = words["mend"] if len(one.mends) == 1 else f"{words['mend']} {place + 1}"
        facts.append(Fact(lines=(((" ", "plain"),),)))
        facts.append(Fact(name=name, lines=mend_lines(mend, words, chosen=place == chosen), chosen=place == chosen))
    return tuple(facts)


def mend_lines(mend: "Mend", words: Words, *, chosen: bool) -> tuple[Line, ...]:
    """What it does in words, the keys that it sets or the command to type, and which key does so."""
    from cpadvisor.write.edit import REMOVE
    from cpadvisor.write.lines import scalar

    lines: list[Line] = [*plain_lines(mend.text, "ok")]
    for change in mend.changes:
        if change.key not in mend.text and not change.key.startswith(PREDICTION):
            value = words["removed"] if change.value is REMOVE else scalar(change.value)
            lines.append(((f"{change.key}: ", "accent"), (value, "plain")))
    if mend.command:
        lines.append((("$ ", "faint"), (mend.command, "plain")))
    if chosen and (mend.changes or mend.command):
        lines.append((("enter  ", "accent"), (words["shows the change" if mend.changes else "copies it"], "faint")))
    return tuple(lines)


def card_facts(one: "Diagnosis", words: Words) -> tuple[Fact, ...]:
    """The rows of the card that this finding carries."""
    from cpadvisor.card import load_rows

    rows = load_rows()
    return tuple(
        Fact(
            name=name, lines=(*plain_lines(words.of(rows[name].card)), *plain_lines(words.of(rows[name].ours), "muted"))
        )
        for name in one.card
        if name in rows
    )


def plain_lines(text: str, tone: str = "plain") -> tuple[Line, ...]:
    """Each line of a text as one line of a tone."""
    return tuple(((line, tone),) for line in text.splitlines())
