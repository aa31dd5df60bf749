"""What is to be seen of a run at one instant, frozen: the command line prints it, the app draws it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cpadvisor.watch.failure import Failure

Points = tuple[tuple[int, float], ...]
"""(step, value) in rising steps; a value that was no number is nan."""

LIVE_STATES = ("launching", "initialising", "warming_up", "running", "hung", "stopping")
FINAL_STATES = ("done", "failed", "out_of_memory", "stopped", "lost")


def state_label(state: str) -> str:
    """A state in words: `out_of_memory` reads `out of memory`."""
    return state.replace("_", " ")


@dataclass(frozen=True, slots=True, kw_only=True)
class RankView:
    """One process of the training."""

    rank: int
    pid: int | None = None
    alive: bool = False
    halted: bool = False
    """Its process is stopped by a signal or held by a debugger."""
    step: int | None = None
    """The last step it told of."""
    gpu: int | None = None
    allocated_bytes: int | None = None
    peak_bytes: int | None = None
    last_event_t: float | None = None
    """Unix seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """What a rank sent in its newest step by one operation of context parallelism. Times are sums of sampled ones."""

    op: str
    """`send_recv` round a ring, `all_gather` or `all_to_all`."""
    sent_bytes: int
    wire_s: float | None = None
    """On the links; None where it was not timed."""
    exposed_s: float | None = None
    """What nothing hid."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunView:
    """One run. The state is worked out from processes, events and exit status at the moment of the look."""

    run: str
    directory: Path
    state: str
    """One of LIVE_STATES or FINAL_STATES."""
    reason: str | None = None
    """Why it ended as it did, or hangs; None while all is well and when it is done."""
    failure: Failure | None = None
    """The root cause with its evidence and mend, where the state is failed, out_of_memory, lost or hung."""
    exit: int | None = None
    """Exit status of the launcher process, negative for a signal; None where nobody saw it."""
    engine: str | None = None
    model: str | None = None
    layout: Mapping[str, int] = field(default_factory=lambda: dict[str, int]())
    layout_label: str = "1×1×1×1"
    sequence_len: int | None = None
    world: int = 1
    cp_method: str | None = None
    kernel: str | None = None
    step: int | None = None
    """The last finished step, from 1; None before the first."""
    steps: int | None = None
    checkpoint_step: int | None = None
    """The step from which a resume goes on; None where no training state is kept."""
    started: float = 0.0
    """Unix seconds."""
    elapsed_s: float = 0.0
    eta_s: float | None = None
    loss: Points = ()
    tokens_per_s_per_gpu: Points = ()
    step_s: Points = ()
    split_s: Mapping[str, float] = field(default_factory=lambda: dict[str, float]())
    """Parts of the last step."""
    grad_norm: float | None = None
    exchanges: tuple[Exchange, ...] = ()
    """Of the lowest rank that tells of them."""
    ranks: tuple[RankView, ...] = ()
    peak_bytes: int | None = None
    """Largest peak over the ranks."""
    prediction: Mapping[str, Any] | None = None
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    """What to know of the directory itself: written by another schema version, events that could not be read."""

    @property
    def is_final(self) -> bool:
        """Whether nothing of this run lives any more."""
        return self.state in FINAL_STATES
