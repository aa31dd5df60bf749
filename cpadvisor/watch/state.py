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
    kind: str | None = None
    """One of Failure's kinds, where the trainer knew it."""
    step: int | None = None
    """The step that was under way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What was seen of a run at one instant. Of a run that was resumed, only the latest attempt counts."""

    world: int
    agent_known: bool
    """torchrun's process stands in the record."""
    alive: bool
    """torchrun or a rank of it still runs."""
    halted: bool = False
    """A rank's process is stopped by a signal or held by a debugger."""
    writes_events: bool = True
    """The trainer tells what it does. Of one that does not, only the logs show that it lives."""
    spoken_ranks: int = 0
    """Ranks that have said anything, without events: printed anything."""
    started_ranks: int = 0
    """Ranks whose model is built."""
    finished_steps: int = 0
    ends: Mapping[int, End] = field(default_factory=lambda: dict[int, End]())
    stop_asked_t: float | None = None
    """Unix seconds of the first `stop`."""
    exit: int | None = None
    rank_failed: bool = False
    """torchrun's own report names a rank that failed."""
    age_s: float = 0.0
    """Seconds since the launch."""
    silent_s: float = 0.0
    """Seconds since any rank gave a sign of life, in events or else in logs, or since the launch."""
    silence_limit_s: float = math.inf


LAUNCH_GRACE_S = 10.0
"""Between the record and the first process lies the start of an interpreter, on a busy machine some seconds."""
WARM_UP_STEPS = 3
"""The first steps compile kernels, connect communicators and fill the allocator."""
SILENCE_S = 60.0
"""The trainer says something every 5 s, or at the end of a micro-batch that takes longer."""
SILENT_STEPS = 10
"""Medians of a step that a silence may last."""
SETUP_SILENCE_S = 600.0
"""Building a model, reading its weights and writing them at the end say nothing for minutes."""
_SILENT_CHECKPOINTS = 3


def derive(seen: Evidence) -> str:
    """One of the live or final states, `failed` for every run that failed.

    A run that lives is `stopping` once that was asked, `hung` where a rank is halted or all are silent for too long,
    else as far as its events tell; without events it is `running` once a rank has printed anything. One that is gone
    is `done` when every rank said so; `stopped` when it was asked to before any rank failed; `failed` when a rank,
    torchrun or the exit status says so; `lost` when nothing says how it ended.
    """
    return _live(seen) if seen.alive else _final(seen)


def silence_limit_s(
    *, step_s: float | None, expected_step_s: float | None, checkpoint_s: float | None, is_stepping: bool
) -> float:
    """How long all ranks may be silent before the run counts as hung.

    max(60 s, 10 x the median step, 3 x the longest checkpoint) between the first step and the last; at least 600 s,
    or 10 x the step that was predicted, before and after. Steps of 14 s: 140 s.
    """
    if not is_stepping:
        return max(SETUP_SILENCE_S, SILENT_STEPS * (step_s or expected_step_s or 0.0))
    return max(SILENCE_S, SILENT_STEPS * (step_s or 0.0), _SILENT_CHECKPOINTS * (checkpoint_s or 0.0))


def _live(seen: Evidence) -> str:
    if seen.stop_asked_t is not None:
        return "stopping"
    if seen.halted or seen.silent_s > seen.silence_limit_s:
        return "hung"
    if seen.finished_steps >= WARM_UP_STEPS or (seen.spoken_ranks and not seen.writes_events):
        return "running"
    if seen.started_ranks:
        return "warming_up"
    return "initialising" if seen.spoken_ranks else "launching"


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
