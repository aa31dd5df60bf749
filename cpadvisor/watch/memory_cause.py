"""Which memory term took more than was predicted when a GPU ran out, and the nearest knob that gives it back.

The trainer measures four groups at that moment; the planner's terms are summed into the same groups. What the
allocator holds beyond parameters, gradients and optimizer counts as activations, so gathered weights and buffers do.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cpadvisor.plan.memory import COMMUNICATOR_BYTES, CONTEXT_BYTES
from cpadvisor.units import GIB, format_bytes
from cpadvisor.watch.events import number, numbers, text, whole

GROUPS: Mapping[str, tuple[str, ...]] = {
    "parameters": ("parameters",),
    "gradients": ("gradients", "unsharded_gradients"),
    "optimizer": ("optimizer",),
    "activations": (
        "activations",
        "autocast_weights",
        "attention_workspace",
        "backward_workspace",
        "cp_buffers",
        "fsdp_buffers",
        "hidden_gradient",
        "logits",
        "recomputed_layer",
        "root_group",
    ),
    "fragments": ("allocator",),
    "others": ("context", "nccl", "messages", "process"),
}
"""What the trainer measures by the planner's terms (plan/memory.py)."""

UNSURE_OTHERS_BYTES = GIB
"""What contexts, displays and monitors may hold beyond the estimate before other processes are blamed."""
_WORDS = {"fragments": "the allocator's fragments", "others": "contexts and other processes"}
_PHASE_GROUP = {"build": "parameters", "forward": "activations", "backward": "activations", "optimizer": "optimizer"}
_PHASE_WORDS = {
    "build": "while the model was built",
    "forward": "in the forward pass",
    "backward": "in the backward pass",
    "optimizer": "in the optimizer's step",
    "data": "while a batch was read",
    "save": "while the model was written",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupBytes:
    """One group of terms."""

    name: str
    measured: int
    """With what was asked for last, where that belongs to this group."""
    predicted: int | None

    @property
    def excess(self) -> int:
        """Bytes above the prediction; 0 where nothing was predicted."""
        if self.predicted is None:
            return 0
        return self.measured - self.predicted - (UNSURE_OTHERS_BYTES if self.name == "others" else 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryCause:
    """Where the memory went."""

    phase: str | None
    step: int | None
    """The one that was under way; None while the model was built."""
    groups: tuple[GroupBytes, ...]
    term: str | None
    """The group that exceeded its prediction most; None where none did."""
    headline: str
    """Continues `rank 0 ran out of GPU memory `."""
    evidence: tuple[str, ...]


def memory_cause(event: Mapping[str, Any], prediction: Mapping[str, Any] | None, *, gpu: int | None) -> MemoryCause:
    """The groups of one `out_of_memory` event beside their prediction, and the one that exceeded most."""
    phase = text(event, "phase")
    groups = _groups(event, prediction or {}, phase)
    worst = max(groups, key=lambda group: group.excess)
    term = worst.name if worst.excess > 0 else None
    step = None if phase == "build" else whole(event, "step")
    where = _PHASE_WORDS.get(phase or "", "") + ("" if step is None else f" of step {step}")
    return MemoryCause(
        phase=phase,
        step=step,
        groups=groups,
        term=term,
        headline=f"{where}: {_verdict(event, groups, worst, term, gpu)}".strip(),
        evidence=(_asked(event), *_table(groups)),
    )


def _groups(event: Mapping[str, Any], prediction: Mapping[str, Any], phase: str | None) -> tuple[GroupBytes, ...]:
    measured = numbers(event, "terms_bytes")
    allocated, reserved = number(event, "allocated_bytes"), number(event, "reserved_bytes")
    if allocated is not None and reserved is not None:
        measured["fragments"] = max(0, reserved - allocated)
    measured["others"] = number(event, "other_bytes") or 0
    growing = _PHASE_GROUP.get(phase or "", "activations")
    measured[growing] = measured.get(growing, 0) + (number(event, "requested_bytes") or 0)
    terms = numbers(prediction, "terms_bytes")
    return tuple(
        GroupBytes(name=name, measured=int(measured.get(name, 0)), predicted=_predicted(name, terms)) for name in GROUPS
    )


def _predicted(name: str, terms: Mapping[str, float]) -> int | None:
    """The sum of a group's terms. Gradients are absent at many a peak; they never take more than float32 parameters."""
    if not terms:
        return CONTEXT_BYTES + COMMUNICATOR_BYTES if name == "others" else None
    total = sum(terms.get(term, 0) for term in GROUPS[name])
    if name == "activations":
        known = {term for group in GROUPS.values() for term in group}
        total += sum(size for term, size in terms.items() if term not in known)
    if name == "gradients":
        total = max(total, terms.get("parameters", 0))
    return int(total)


def _verdict(
    event: Mapping[str, Any], groups: tuple[GroupBytes, ...], worst: GroupBytes, term: str | None, gpu: int | None
) -> str:
    if term is None:
        largest = max(groups, key=lambda group: group.measured)
        had = f"the GPU's {format_bytes(number(event, 'limit_bytes'))} are too few"
        said = "no term exceeded its prediction" if largest.predicted is not None else "no terms were predicted"
        return f"{said}, {had}; most went to {_label(largest.name)}, {format_bytes(largest.measured)}"
    place = f" of GPU {gpu}" if term == "others" and gpu is not None else ""
    verb = "hold" if term == "others" else "need"
    return (
        f"{_label(term)} {verb} {format_bytes(worst.measured)}{place}, {format_bytes(worst.predicted)} were predicted"
    )


def _asked(event: Mapping[str, Any]) -> str:
    asked, free, limit = (number(event, key) for key in ("requested_bytes", "free_bytes", "limit_bytes"))
    return f"asked for {format_bytes(asked)} with {format_bytes(free)} free of {format_bytes(limit)}"


def _table(groups: tuple[GroupBytes, ...]) -> list[str]:
    rows = [f"{'term':<12}  {'measured':>10}  {'predicted':>10}"]
    for group in groups:
        rows.append(f"{group.name:<12}  {format_bytes(group.measured):>10}  {format_bytes(group.predicted):>10}")
    return rows


def _label(name: str) -> str:
    return _WORDS.get(name, name)
