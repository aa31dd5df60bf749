"""Whether a variant computes what one kernel on one GPU computes: relative errors of out, dq, dk and dv."""

from collections.abc import Mapping

import torch
from torch import Tensor

from runtime import zigzag
from runtime.bench.inputs import RowInputs
from runtime.bench.launch import RankError, Ranks
from runtime.bench.variants import Variant, first_line

TOLERANCE = 2e-2
"""bf16 rounds to 4e-3; an exchange that goes astray is off by tenths."""
NAMES = ("out", "dq", "dk", "dv")


def outcome(variant: Variant, inputs: RowInputs) -> list[Tensor]:
    """Out, dq, dk, dv as [B, S, H, D]."""
    tensors = inputs.of(variant)
    with variant.context():
        out = variant.attend(*tensors.qkv)
        found = [out.detach(), *torch.autograd.grad(out, tensors.qkv, tensors.dout)]
    return [tensor.transpose(1, 2) for tensor in found] if variant.heads_first else found


def errors(ranks: Ranks, variant: Variant, inputs: RowInputs, truth: list[Tensor]) -> dict[str, float] | str:
    """Relative L2 error of each tensor over all ranks, or why the variant does not run.

    `truth` holds the whole tensors. The error is |x - truth| / |truth| with both norms over the whole sequence.
    """
    try:
        sums, reason = _squares(variant, outcome(variant, inputs), truth, ranks), None
    except Exception as error:  # what an experimental part of torch raises is its own affair
        sums, reason = [], f"does not run: {first_line(error)}"
    answers = ranks.gather((sums, reason))
    reasons = {said for _, said in answers if said is not None}
    if reasons and any(said is None for _, said in answers):
        raise RankError(f"{variant.name} fails on some ranks alone: {'; '.join(sorted(reasons))}")
    if reasons:
        return min(reasons)
    return {name: _ratio([found[index] for found, _ in answers]) for index, name in enumerate(NAMES)}


def _squares(variant: Variant, found: list[Tensor], truth: list[Tensor], ranks: Ranks) -> list[tuple[float, float]]:
    """Sums of squares of the difference and of the truth, for this rank's part of each tensor."""
    pairs: list[tuple[float, float]] = []
    for own, whole in zip(found, truth, strict=True):
        right = whole if variant.is_whole else zigzag.shard(whole, rank=ranks.rank, cp=ranks.size, dim=1)
        difference = own.float() - right.float()
        pairs.append((difference.square().sum(dtype=torch.float64).item(), right.float().square().sum().item()))
    return pairs


def _ratio(pairs: list[tuple[float, float]]) -> float:
    return (sum(off for off, _ in pairs) / sum(right for _, right in pairs)) ** 0.5


def wrong(found: Mapping[str, float]) -> str | None:
    """The tensors that are off, a NaN among them; None for a sound variant."""
    off = [f"{name} {error:.1e}" for name, error in found.items() if not error <= TOLERANCE]
    return f"WRONG: {', '.join(off)} relative" if off else None
