"""What the doctor is asked about, what it found there, and what a mend would change."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cpadvisor.doctor.diagnosis import Diagnosis, Mend

SUBJECTS = ("node", "config", "run")
"""In the order of the key that goes from one to the next."""

LOOKED_AT: Mapping[str, str] = {
    "node": "driver, NVML, links, /dev/shm, limits, torch, NCCL, cuDNN, flash-attn, other processes",
    "config": "sizes, lengths, kernels, memory, links of the cp group",
    "run": "its events, logs, processes, memory and speed beside their predictions",
}
"""Said while the doctor is at work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """One thing to examine."""

    kind: str
    """One of SUBJECTS."""
    label: str
    """What the screen calls it: a host, a file, a run."""
    path: Path | None = None
    """The file or the run directory; None for this machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exam:
    """Everything that was looked at, worst first."""

    subject: Subject
    found: "tuple[Diagnosis, ...]" = ()
    config: Path | None = None
    """The file that mends change; None where there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Remedy:
    """One mend with what it would do, shown before anything is written."""

    subject: Subject
    title: str
    mend: "Mend"
    path: Path | None = None
    """The config that changes; None for a mend that is a command alone."""
    diff: str = ""
    """Unified; empty where no line changes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mended:
    """A config that was changed, and where its predecessor is kept."""

    path: Path
    backup: Path | None


MARKS: Mapping[str, tuple[str, str]] = {
    "error": ("✖", "bad"),
    "warning": ("▲", "warn"),
    "note": ("○", "muted"),
    "ok": ("●", "ok"),
}
"""The mark of each severity and its tone, worst first."""


def counts(found: "Iterable[Diagnosis]") -> dict[str, int]:
    """How many findings of each severity, worst first; two errors and an ok give error 2, ok 1, the rest 0."""
    severities = [one.severity for one in found]
    return {severity: severities.count(severity) for severity in MARKS}


def matching(found: "Iterable[Diagnosis]", text: str) -> "tuple[Diagnosis, ...]":
    """The findings that hold every word of `text`, in any case, in rule, title, evidence or card rows."""
    words = text.lower().split()
    return tuple(one for one in found if all(word in _searched(one) for word in words))


def _searched(one: "Diagnosis") -> str:
    return " ".join((one.rule, one.severity, one.title, one.evidence, *one.card)).lower()
