"""What is known of a run that has ended: its record, the last events of its ranks, what its files say, its exit."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cpadvisor.runrecord import RunRecord
from cpadvisor.watch.clues import Clues
from cpadvisor.watch.state import End
from cpadvisor.watch.view import Points


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One run."""

    record: RunRecord
    name: str
    """How commands name the run."""
    code: str = "\0"
    """What the paths of the trainer's copy begin with; no evidence is worth that much of a line."""
    spoken: frozenset[int] = frozenset()
    """Ranks that have said anything."""
    ends: tuple[End, ...] = ()
    out_of_memory: Mapping[int, Mapping[str, Any]] = field(default_factory=lambda: dict[int, Mapping[str, Any]]())
    """Events of that name by rank."""
    clues: Clues = field(default_factory=Clues)
    exit: int | None = None
    checkpoint_step: int | None = None
    """From which a resume goes on."""
    losses: Points = ()
    """Of the last steps."""
    oom_kills: int | None = None
    """Processes that the kernel killed for want of memory while the run ran; None where nobody counted."""
