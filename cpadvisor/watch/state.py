"""The state of a run follows from its processes, its events and its exit status; no file says it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """The last word of one rank."""

    rank: int
    state: str
    """`done`, `failed` or `stopped`."""
    reason: str | None
    t: float
    """Unix seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What was seen of a run at one instant."""

    world: int
    agent_known: bool
    """torchrun's process stands in the record."""
    alive: bool
    """torchrun or a rank of it still runs."""
    started_ranks: int = 0
    stepped: bool = False
    ends: Mapping[int, End] = field(default_factory=lambda: dict[int, End]())
    stop_asked_t: float | None = None
    """Unix seconds of the first `stop`."""
    exit: int | None = None
    rank_failed: bool = False
    """torchrun's own report names a rank that failed."""
    age_s: float = 0.0
    """Seconds since the launch."""


LAUNCH_GRACE_S = 10.0
"""Between the record and the first process lies the start of an interpreter, on a busy machine some seconds."""


def derive(seen: Evidence) -> str:
    """One of the live or final states.

    A run that lives is `stopping` once that was asked, else as far as its events tell. One that is gone is `done`
    when every rank said so; `stopped` when it was asked to before any rank failed; `failed` when a rank, torchrun or
    the exit status says so; `lost` when nothing says how it ended.
    """
    return _live(seen) if seen.alive else _final(seen)


def _live(seen: Evidence) -> str:
    if seen.stop_asked_t is not None:
        return "stopping"
    if seen.stepped:
        return "running"
    return "initialising" if seen.started_ranks else "launching"


def _final(seen: Evidence) -> str:
    ends = seen.ends.values()
    if sum(end.state == "done" for end in ends) == seen.world:
        return "done"
    failed = min((end.t for end in ends if end.state == "failed"), default=math.inf)
    stopped = min((end.t for end in ends if end.state == "stopped"), default=math.inf)
    if seen.stop_asked_t is not None:
        return "failed" if failed < seen.stop_asked_t else "stopped"
    # A rank that is stopped from outside breaks its peers' connections, and a rank that fails has its peers stopped.
    if seen.rank_failed or failed < stopped:
        return "failed"
    if stopped < math.inf:
        return "stopped"
    if seen.exit is not None:
        return "failed" if seen.exit else "done"
    if not seen.agent_known and seen.age_s < LAUNCH_GRACE_S:
        return "launching"
    return "lost"
