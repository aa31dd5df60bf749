"""What the doctor found, as text: each finding with evidence, effect and mends; what is well in a line."""

import shlex
from collections.abc import Iterator, Sequence

from cpadvisor.doctor.diagnosis import SEVERITIES, Diagnosis
from cpadvisor.report.wrap import indented

OF_THE_MACHINE = ("oom", "slow", "hang")
"""Symptoms that a machine may have caused as well as a file."""

_COLUMN = 11
_PLURALS = {"error": "errors", "warning": "warnings", "note": "notes", "ok": "ok"}


def doctor_text(found: Sequence[Diagnosis], *, subject: str, target: str | None, width: int) -> str:
    """Everything, worst first. `target` is the file or run that `--apply` takes, None where there is no file."""
    parts = [f"{subject}: {counts_label(found)}"]
    parts += ["\n".join(_finding(one, target, width)) for one in found if one.severity != "ok"]
    well = [one for one in found if one.severity == "ok"]
    if well:
        names = ", ".join(one.rule for one in well)
        parts.append("\n".join(indented(names, width=width, label="ok", column=_COLUMN)))
    return "\n\n".join(parts)


def guided_text(found: Sequence[Diagnosis], *, subject: str, symptom: str, target: str | None, width: int) -> str:
    """The steps of one symptom in their order: what was looked at, what was seen, what to do.

    Where a file or a run was asked about, the machine under it is the next place to look.
    """
    parts = [f"{subject}, symptom {symptom}: {counts_label(found)}"]
    parts += ["\n".join(_step(number, one, target, width)) for number, one in enumerate(found, start=1)]
    if target is not None and symptom in OF_THE_MACHINE:
        parts.append(f"then the machine itself\n{_command(f'cpadvisor doctor --symptom {symptom}')}")
    return "\n\n".join(parts)


def counts_label(found: Sequence[Diagnosis]) -> str:
    """`1 error, 2 warnings, 14 ok`; `nothing looked at` where there is none."""
    counts = {severity: sum(one.severity == severity for one in found) for severity in SEVERITIES}
    said = [f"{count} {severity if count == 1 else _PLURALS[severity]}" for severity, count in counts.items() if count]
    return ", ".join(said) or "nothing looked at"


def _finding(one: Diagnosis, target: str | None, width: int) -> Iterator[str]:
    rows = f" ({' '.join(one.card)})" if one.card else ""
    yield from indented(f"{one.rule}: {one.title}{rows}", width=width, label=one.severity, column=_COLUMN)
    yield from _body(one, target, width, seen="evidence")


def _step(number: int, one: Diagnosis, target: str | None, width: int) -> Iterator[str]:
    rows = f" ({' '.join(one.card)})" if one.card else ""
    label = f"{number}. {one.severity}"
    yield from indented(f"{one.rule}: {one.title}{rows}", width=width, label=label, column=_COLUMN + 2)
    yield from _body(one, target, width, seen="seen")


def _body(one: Diagnosis, target: str | None, width: int, *, seen: str) -> Iterator[str]:
    for number, line in enumerate(one.evidence.splitlines() or [""]):
        yield from _entry(seen if number == 0 else "", line, width)
    if one.effect:
        yield from _entry("effect", one.effect, width)
    applied = False
    for number, mend in enumerate(one.mends, start=1):
        yield from _entry("mend" if len(one.mends) == 1 else f"mend {number}", mend.text, width)
        if mend.changes and target is not None and not applied:
            applied = True
            yield _command(f"cpadvisor doctor {shlex.quote(target)} --apply {one.rule}")
        elif mend.command and not mend.changes:
            yield _command(mend.command)


def _entry(label: str, text: str, width: int) -> list[str]:
    return indented(text, width=width, label=f"  {label}", column=_COLUMN)


def _command(command: str) -> str:
    """On one line, however long: it is there to be copied."""
    return f"{' ' * _COLUMN}$ {command}"
