"""What the events of one run say: the split of every rank, losses and gradient norms by step, bytes sent."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runtime.telemetry import EventReader, events_path


@dataclass(frozen=True, slots=True, kw_only=True)
class RankReading:
    """One rank's own words."""

    rank: int
    local_tokens: int | None = None
    method: str | None = None
    backend: str | None = None
    recomputed_layers: int = 0
    """Layers whose forward pass runs a second time, ring and all."""
    loss: Mapping[int, float | None] = field(default_factory=lambda: dict[int, float | None]())
    """By step, from 1; None for a value that was no number."""
    grad_norm: Mapping[int, float | None] = field(default_factory=lambda: dict[int, float | None]())
    sent_bytes: Mapping[int, int] = field(default_factory=lambda: dict[int, int]())
    """To the ranks that share the sequence, by step; empty where the trainer does not say."""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One run that has ended."""

    directory: Path
    cp: int
    sequence_len: int
    micro_batch: int
    ranks: tuple[RankReading, ...]

    @property
    def on_gpu(self) -> bool:
        """Whether it computed in bf16, as the trainer does on GPUs and nowhere else."""
        return self.ranks[0].backend == "nccl"


def read_run(directory: Path, *, world: int, cp: int, sequence_len: int, micro_batch: int) -> Reading:
    """The events of an ended run. A rank that said nothing reads as unknown."""
    ranks = tuple(_read_rank(directory, rank) for rank in range(world))
    return Reading(directory=directory, cp=cp, sequence_len=sequence_len, micro_batch=micro_batch, ranks=ranks)


def _read_rank(directory: Path, rank: int) -> RankReading:
    events = list(EventReader(events_path(directory, rank)).poll())
    start = next((event for event in reversed(events) if event["kind"] == "start"), {})
    steps = {event["step"]: event for event in events if event["kind"] == "step" and type(event.get("step")) is int}
    return RankReading(
        rank=rank,
        local_tokens=_whole(start.get("local_tokens")),
        method=start.get("cp_method"),
        backend=start.get("backend"),
        recomputed_layers=_whole((start.get("recompute") or {}).get("full")) or 0,
        loss={step: _number(event.get("loss")) for step, event in steps.items()},
        grad_norm={step: _number(event.get("grad_norm")) for step, event in steps.items()},
        sent_bytes=_sent_bytes(events),
        warnings=tuple(str(event.get("message")) for event in events if event["kind"] == "warning"),
    )


def _sent_bytes(events: list[dict[str, Any]]) -> dict[int, int]:
    """The sum of each step's `nccl` events of group cp, one an operation; one without a step counts in its order."""
    told = [event for event in events if event["kind"] == "nccl" and event.get("group") == "cp"]
    sums: dict[int, int] = {}
    for place, event in enumerate(told, start=1):
        if type(event.get("bytes")) is int:
            step = _whole(event.get("step")) or place
            sums[step] = sums.get(step, 0) + event["bytes"]
    return sums


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _whole(value: object) -> int | None:
    return value if type(value) is int else None
