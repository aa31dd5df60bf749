"""Events of one rank, folded as they come into what is known of it now."""

from collections import deque
from pathlib import Path
from typing import Any

from cpadvisor.processes import ProcessId
from cpadvisor.watch.state import End
from runtime.telemetry import EventReader, events_path

WARNINGS_KEPT = 20


class RankEvents:
    """Follows the events file of one rank; each poll costs what was added since the last."""

    def __init__(self, run_dir: Path, rank: int) -> None:
        self.rank = rank
        self.start: dict[str, Any] = {}
        self.process: ProcessId | None = None
        self.end: End | None = None
        self.allocated_bytes: int | None = None
        self.peak_bytes: int | None = None
        self.last_t: float | None = None
        self.step: int | None = None
        self.warnings: deque[str] = deque(maxlen=WARNINGS_KEPT)
        self._reader = EventReader(events_path(run_dir, rank))

    def poll(self) -> list[dict[str, Any]]:
        """Fold what is new; gives the new `step` events, which are series and no state."""
        steps: list[dict[str, Any]] = []
        for event in self._reader.poll():
            self.last_t = event.get("t", self.last_t)
            kind = event["kind"]
            if kind == "step" and isinstance(event.get("step"), int):
                steps.append(event)
            elif kind in _FOLDS:
                _FOLDS[kind](self, event)
            if isinstance(event.get("step"), int) and kind in ("step", "heartbeat"):
                self.step = event["step"]
        return steps

    def on_start(self, event: dict[str, Any]) -> None:
        """A process of this rank begins; after a resume it is another one, and the old end counts no more."""
        self.start = event
        self.end = None
        pid, ticks = event.get("pid"), event.get("pid_start")
        self.process = None
        if isinstance(pid, int) and isinstance(ticks, int):
            self.process = ProcessId(pid=pid, start_ticks=ticks)

    def on_memory(self, event: dict[str, Any]) -> None:
        """Bytes by the trainer's own allocator."""
        self.allocated_bytes = event.get("allocated_bytes", self.allocated_bytes)
        peak = event.get("peak_allocated_bytes")
        if isinstance(peak, int):
            self.peak_bytes = max(peak, self.peak_bytes or 0)

    def on_warning(self, event: dict[str, Any]) -> None:
        """A finding of the trainer, kept once."""
        message = f"rank {self.rank}: {event.get('message', event.get('rule', 'warning without a text'))}"
        if message not in self.warnings:
            self.warnings.append(message)

    def on_end(self, event: dict[str, Any]) -> None:
        """The rank's last word."""
        self.end = End(
            rank=self.rank, state=str(event.get("state")), reason=event.get("reason"), t=float(event.get("t", 0.0))
        )


_FOLDS = {
    "start": RankEvents.on_start,
    "memory": RankEvents.on_memory,
    "warning": RankEvents.on_warning,
    "end": RankEvents.on_end,
}
