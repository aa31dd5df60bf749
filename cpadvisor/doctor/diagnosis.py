"""One finding of the doctor: what was looked at, what was seen, what it costs, and the change that mends it."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from cpadvisor.write.edit import REMOVE, Change

SEVERITIES = ("error", "warning", "note", "ok")
"""Worst first. `ok` is a check that found nothing: the doctor shows what it looked at, too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mend:
    """What mends it: changes of a config that one key applies, or a command for the user's shell, or both."""

    text: str
    """In words, with the value."""
    changes: tuple[Change, ...] = ()
    """Of the config in question; empty where no line of a config mends it."""
    command: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """One check and its outcome."""

    rule: str
    """A name of ours, such as `shm`, unique among the checks of one subject."""
    severity: str
    """One of SEVERITIES."""
    title: str
    """One line."""
    evidence: str
    """What was measured or read, with the value and the limit."""
    effect: str | None = None
    """What it costs or breaks."""
    mends: tuple[Mend, ...] = ()
    """The nearest first."""
    card: tuple[str, ...] = ()
    """Rows of the card that this finding carries, such as D1."""


def sort_diagnoses(found: Iterable[Diagnosis]) -> tuple[Diagnosis, ...]:
    """Worst first, in the order of the checks within each severity."""
    return tuple(sorted(found, key=lambda one: SEVERITIES.index(one.severity)))


def diagnoses_json(found: Iterable[Diagnosis], *, subject: str) -> dict[str, Any]:
    """What `doctor --json` prints. `subject` is node, config or run; `ok` means that no finding is an error."""
    rows = tuple(found)
    return {
        "schema": 1,
        "subject": subject,
        "ok": all(one.severity != "error" for one in rows),
        "findings": [
            {
                "rule": one.rule,
                "severity": one.severity,
                "title": one.title,
                "evidence": one.evidence,
                "effect": one.effect,
                "card": list(one.card),
                "mends": [_mend_json(mend) for mend in one.mends],
            }
            for one in rows
        ],
    }


def _mend_json(mend: Mend) -> dict[str, Any]:
    changes = [
        {"key": change.key, "remove": change.value is REMOVE, "value": None if change.value is REMOVE else change.value}
        for change in mend.changes
    ]
    return {"text": mend.text, "changes": changes, "command": mend.command}
