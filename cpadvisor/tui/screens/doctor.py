"""Doctor: what was looked at on this machine, in the config or of the run; of one finding the evidence and the mend."""

from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.message import Message

from cpadvisor.tui.exam import LOOKED_AT, MARKS, counts, matching
from cpadvisor.tui.screens.base import NARROW, StageScreen, panel
from cpadvisor.tui.screens.finding_rows import card_facts, finding_facts, found_columns, found_row, report_text
from cpadvisor.tui.screens.picker import Picker
from cpadvisor.tui.session import Session
from cpadvisor.tui.widgets.facts import Fact, Facts
from cpadvisor.tui.widgets.filter_line import FilterLine
from cpadvisor.tui.widgets.lines import Line
from cpadvisor.tui.widgets.table import Column, Grid, RowTable, cell

if TYPE_CHECKING:
    from cpadvisor.doctor.diagnosis import Diagnosis, Mend

SYMPTOMS = ("oom", "slow", "nan", "split", "cp", "hang")
"""As `doctor --symptom` takes them."""


class DoctorScreen(StageScreen):
    """The checks at the left, worst first; the chosen one at the right."""

    MODE = "doctor"
    AUTO_FOCUS = "#found"
    QUIET = frozenset({"launch", "stop"})
    BINDINGS: ClassVar = [
        Binding("v", "app.next_subject", "Subject", id="doctor-subject", tooltip="This machine, the config, the run"),
        Binding("s", "symptom", "Symptom", id="doctor-symptom", tooltip="Begin at what you see: the checks behind it"),
        Binding("m", "next_mend", "Mend", id="doctor-mend", tooltip="The next mend of this finding; enter applies it"),
        Binding("r", "app.examine", "Again", id="doctor-again", tooltip="Look again"),
        Binding("slash", "filter", "Filter", id="doctor-filter", tooltip="Only the checks that hold these words"),
    ]

    class Complained(Message):
        """A symptom was chosen; None for all checks."""

        def __init__(self, symptom: str | None) -> None:
            super().__init__()
            self.symptom = symptom

    class MendChosen(Message):
        """This mend is to be shown, and applied if the user agrees."""

        def __init__(self, title: str, mend: "Mend") -> None:
            super().__init__()
            self.title = title
            self.mend = mend

    def __init__(self) -> None:
        super().__init__()
        self._listed: tuple[Diagnosis, ...] = ()
        self._rule: str | None = None
        self._mend = 0

    def body(self) -> ComposeResult:
        """Two columns, one below the other in a narrow terminal."""
        with Vertical(id="examined"):
            yield RowTable(id="found")
            yield FilterLine(id="found-filter")
        with Vertical(id="about-finding"):
            yield Facts(id="finding")
            yield Facts(id="finding-card")

    def on_resize(self) -> None:
        """The card's rows have a panel of their own where there is room."""
        super().on_resize()
        self.show(self.session)

    def show(self, session: Session) -> None:
        """Hand the exam to the widgets."""
        self._listed = self._wanted(session)
        table = self.query_one("#found", RowTable)
        looking, examined = _is_looking(session), _is_examined(session)
        said = self.words["looking at" if looking else "no such check" if examined else "not examined"]
        numbered = session.symptom is not None
        rows = tuple(found_row(one, place if numbered else None) for place, one in enumerate(self._listed, start=1))
        table.grid = Grid(columns=found_columns(self.words), rows=rows, empty=said)
        self._keep_cursor(table)
        panel(table, self._title(session), self._counts(session, looking=looking))
        self._show_finding(session)

    def _wanted(self, session: Session) -> "tuple[Diagnosis, ...]":
        """The checks of the symptom in its order, all of them without one, and of those what the filter leaves."""
        if session.exam is None or not _is_examined(session):
            return ()
        found = session.exam.found
        if session.symptom is not None:
            from cpadvisor.doctor import guided

            found = guided(found, session.symptom)
        return matching(found, self.query_one(FilterLine).text)

    def _keep_cursor(self, table: RowTable) -> None:
        """Stay on the check that was chosen, wherever it stands now."""
        rules = [one.rule for one in self._listed]
        with self.prevent(RowTable.Moved):
            table.cursor = rules.index(self._rule) if self._rule in rules else 0

    def _title(self, session: Session) -> Line:
        exam = session.exam
        known = exam is not None and exam.subject.kind == session.subject and exam.subject.path is not None
        label = exam.subject.label if exam is not None and known else ""
        runs: list[tuple[str, str]] = [(self.words[f"of {session.subject}"], "accent")]
        runs.append((f"  {label}" if label else "", "muted"))
        if session.symptom is not None:
            runs.append((f" · {self.words[f'symptom {session.symptom}']}", "warn"))
        return tuple(runs)

    def _counts(self, session: Session, *, looking: bool) -> Line:
        if looking:
            return ((f"◌ {self.words['looking at']}", "accent"),)
        shown = [(severity, number) for severity, number in counts(self._listed).items() if number]
        return tuple(
            (f"{'  ' if place else ''}{MARKS[severity][0]} {number}", MARKS[severity][1])
            for place, (severity, number) in enumerate(shown)
        )

    def _said(self, session: Session) -> tuple[Line, ...]:
        """What stands in place of a finding: what is looked at, or why nothing could be."""
        if _is_looking(session):
            return (((f"{self.words['looking at']} {LOOKED_AT[session.subject]}", "muted"),),)
        problem = session.problems.get("exam")
        return ((("▲ ", "warn"), (problem, "plain")),) if problem else ()

    def _show_finding(self, session: Session) -> None:
        finding, card = self.query_one("#finding", Facts), self.query_one("#finding-card", Facts)
        one = self._chosen
        if one is None:
            finding.facts, card.facts = (Fact(lines=self._said(session)),), ()
            panel(finding, self.words["finding"])
            card.display = False
            return
        mark, tone = MARKS[one.severity]
        rows = card_facts(one, self.words)
        narrow = self.size.width < NARROW
        blank = Fact(lines=(((" ", "plain"),),))
        finding.facts = (*finding_facts(one, self._mend, self.words), *((blank, *rows) if narrow and rows else ()))
        panel(finding, ((f"{mark} ", tone), (one.title, tone if one.severity != "ok" else "plain")), one.rule)
        card.facts = rows
        card.display = bool(rows) and not narrow
        panel(card, self.words["card says"], " ".join(one.card))

    @property
    def _chosen(self) -> "Diagnosis | None":
        place = self.query_one("#found", RowTable).cursor
        return self._listed[place] if place < len(self._listed) else None

    @on(RowTable.Moved, "#found")
    def _moved(self, event: RowTable.Moved) -> None:
        event.stop()
        chosen = self._chosen
        self._rule, self._mend = (chosen.rule if chosen else None), 0
        self._show_finding(self.session)

    @on(RowTable.Picked, "#found")
    def _picked(self, event: RowTable.Picked) -> None:
        event.stop()
        one = self._chosen
        if one is not None and one.mends:
            self.post_message(self.MendChosen(one.title, one.mends[self._mend]))
        else:
            self.app.notify(self.words["nothing to mend"], markup=False)

    def action_next_mend(self) -> None:
        """The next of several mends."""
        one = self._chosen
        if one is not None and one.mends:
            self._mend = (self._mend + 1) % len(one.mends)
            self._show_finding(self.session)

    def action_symptom(self) -> None:
        """Ask what the user sees."""
        rows = tuple((cell(name, "accent"), cell(self.words[f"symptom {name}"])) for name in SYMPTOMS)
        rows = (*rows, (cell(self.words["all"], "accent"), cell(self.words["all checks"])))
        grid = Grid(columns=(Column(title=self.words["symptom"]), Column(title="", flexible=True)), rows=rows)
        symptom = self.session.symptom
        cursor = SYMPTOMS.index(symptom) if symptom in SYMPTOMS else 0
        self.app.push_screen(Picker(self.words["what do you see"], grid, cursor=cursor), self._complained)

    def _complained(self, place: int | None) -> None:
        if place is not None:
            self._rule = None
            self.post_message(self.Complained(SYMPTOMS[place] if place < len(SYMPTOMS) else None))

    def copied(self) -> str | None:
        """The report as text."""
        exam = self.session.exam
        return None if exam is None else report_text(exam.subject, self._listed, symptom=self.session.symptom)

    def action_filter(self) -> None:
        """Type what the checks have to hold."""
        self.query_one(FilterLine).open()

    @on(FilterLine.Changed)
    def _filtered(self) -> None:
        self.show(self.session)

    @on(FilterLine.Left)
    def _filter_left(self) -> None:
        self.query_one("#found").focus()


def _is_examined(session: Session) -> bool:
    """Whether there is an exam of the chosen subject."""
    return session.exam is not None and session.exam.subject.kind == session.subject


def _is_looking(session: Session) -> bool:
    """Whether an exam is on its way: each subject is examined as it comes on the screen, beside other stages."""
    return session.busy == "exam" or not (_is_examined(session) or "exam" in session.problems)
