"""Events of one rank, folded as they come into what is known of it now."""

from collections import deque
from pathlib import Path
from typing import Any

from cpadvisor.processes import ProcessId
from cpadvisor.watch.events import EventFile, Events, number, text, whole
from cpadvisor.watch.state import End
from cpadvisor.watch.view import Exchange
from runtime.telemetry import events_path

WARNINGS_KEPT = 20


class RankEvents:
    """Follows the events of one rank; each poll costs what was added since the last."""

    def __init__(self, run_dir: Path, rank: int, events: Events | None = None) -> None:
        self.rank = rank
        self.start: dict[str, Any] = {}
        self.process: ProcessId | None = None
        self.pid: int | None = None
        self.door: str | None = None
        """Path of the unix socket that answers while the main thread hangs."""
        self.end: End | None = None
        self.out_of_memory: dict[str, Any] | None = None
        """The event of that name, of the process that runs now or ran last."""
        self.allocated_bytes: int | None = None
        self.peak_bytes: int | None = None
        self.started_t: float | None = None
        """When it had built its model."""
        self.last_t: float | None = None
        self.step: int | None = None
        self.finished_steps = 0
        """Of that process."""
        self.checkpoint_s: float | None = None
        """The longest checkpoint so far."""
        self.checkpoint_step: int | None = None
        """Of the newest that a resume goes on from."""
        self.exchanges: dict[str, Exchange] = {}
        """Of its newest step, by operation of the group cp."""
        self.warnings: deque[str] = deque(maxlen=WARNINGS_KEPT)
        self.source = EventFile(events_path(run_dir, rank)) if events is None else events
        self._announced = False

    def poll(self) -> list[dict[str, Any]]:
        """Fold what is new; gives the new `step` events, which are series and no state."""
        steps: list[dict[str, Any]] = []
        for event in self.source.poll():
            t = number(event, "t")
            self.last_t = self.last_t if t is None else t
            if event["kind"] in _FOLDS:
                _FOLDS[event["kind"]](self, event)
            step = whole(event, "step")
            if step is not None and event["kind"] in ("step", "heartbeat"):
                self.step = step
            if step is not None and event["kind"] == "step":
                self.finished_steps += 1
                steps.append(event)
        return steps

    def on_process(self, event: dict[str, Any]) -> None:
        """A process of this rank begins; after a resume it is another one, and the old end counts no more."""
        self._begin(event)
        self.door = text(event, "door")
        self._announced = True

    def on_start(self, event: dict[str, Any]) -> None:
        """The model is built. Trainers that announce no process begin with this event."""
        if not self._announced:
            self._begin(event)
        self._announced = False
        self.start = event
        self.started_t = number(event, "t")

    def _begin(self, event: dict[str, Any]) -> None:
        self.end = self.out_of_memory = self.door = self.started_t = None
        self.start = {}
        self.exchanges = {}
        self.finished_steps = 0
        if self.pid is not None:  # trainers that announce no process warn before they begin
            self.warnings.clear()
        self.pid, ticks = whole(event, "pid"), whole(event, "pid_start")
        known = self.pid is not None and ticks is not None
        self.process = ProcessId(pid=self.pid, start_ticks=ticks) if known else None  # pyright: ignore[reportArgumentType]

    def on_memory(self, event: dict[str, Any]) -> None:
        """Bytes by the trainer's own allocator."""
        now, peak = whole(event, "allocated_bytes"), whole(event, "peak_allocated_bytes")
        self.allocated_bytes = self.allocated_bytes if now is None else now
        if peak is not None:
            self.peak_bytes = max(peak, self.peak_bytes or 0)

    def on_nccl(self, event: dict[str, Any]) -> None:
        """What it sent in a step for K and V to meet the queries of other ranks."""
        op, sent = text(event, "op"), whole(event, "bytes")
        if event.get("group") == "cp" and op is not None and sent is not None:
            wire_s, exposed_s = number(event, "wire_s"), number(event, "exposed_s")
            self.exchanges[op] = Exchange(op=op, sent_bytes=sent, wire_s=wire_s, exposed_s=exposed_s)

    def on_out_of_memory(self, event: dict[str, Any]) -> None:
        """What was held when the allocator gave up; the end follows."""
        self.out_of_memory = event

    def on_checkpoint(self, event: dict[str, Any]) -> None:
        """How long the ranks say nothing while one is written, and which step it keeps; a model alone keeps none."""
        seconds = number(event, "seconds")
        if seconds is not None:
            self.checkpoint_s = max(seconds, self.checkpoint_s or 0.0)
        if event.get("resumable") is True:
            self.checkpoint_step = whole(event, "step")

    def on_warning(self, event: dict[str, Any]) -> None:
        """A finding of the trainer, kept once."""
        told = text(event, "message") or text(event, "rule") or "warning without a text"
        message = f"rank {self.rank}: {told}"
        if message not in self.warnings:
            self.warnings.append(message)

    def on_end(self, event: dict[str, Any]) -> None:
        """The rank's last word."""
        self.end = End(
            rank=self.rank,
            state=str(event.get("state")),
            reason=text(event, "reason"),
            t=number(event, "t") or 0.0,
            kind=text(event, "cause"),
            step=whole(event, "in_step") or whole(event, "step"),  # older trainers tell the last finished one alone
        )


_FOLDS = {
    "process": RankEvents.on_process,
    "start": RankEvents.on_start,
    "memory": RankEvents.on_memory,
    "nccl": RankEvents.on_nccl,
    "out_of_memory": RankEvents.on_out_of_memory,
    "checkpoint": RankEvents.on_checkpoint,
    "warning": RankEvents.on_warning,
    "end": RankEvents.on_end,
}
