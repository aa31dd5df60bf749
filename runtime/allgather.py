"""Exact causal attention over a sequence that is spread over ranks: every rank gathers all K and V at once.

The share's own keys are attended to while the others arrive; then two blocks are
left, whatever the number of ranks: all queries against the chunks before the early
one, the late ones against those between this rank's two. With packed documents all
that a rank has to compute is one call, where the kernel can (runtime.spans). The
price is memory for K and V of the whole sequence (Llama 3 trains so, arXiv
2407.21783). Shares are zigzag, so the work is equal on every rank.
"""

from collections.abc import Sequence

import torch.distributed as dist
from torch import Tensor

from runtime import blocks, comm, zigzag
from runtime.blocks import Place
from runtime.kernels import Kernel
from runtime.partial import Given, Gradients, Output
from runtime.spans import Spans


def forward(
    q_BSHD: Tensor, k_BSGD: Tensor, v_BSGD: Tensor, place: Place, group: dist.ProcessGroup, kernel: Kernel
) -> tuple[Tensor, Tensor]:
    """out [B, S, H, D] in q's dtype and log-sum-exp [B, H, S] in float32, for the whole causal sequence."""
    gathering = Gathering(k_BSGD, v_BSGD, place, group)
    if _is_one_call(place, kernel):
        return Spans(place, *gathering.whole(), kernel).forward(q_BSHD)
    output = Output(q_BSHD, k_BSGD, v_BSGD, place, kernel)
    output.add(blocks.gathered(place), *gathering.whole())
    return output.result()


def backward(
    given: Given, k_BSGD: Tensor, v_BSGD: Tensor, place: Place, group: dist.ProcessGroup, kernel: Kernel
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of q, k, v in their dtypes. Those of other ranks' K and V go home and are summed there."""
    gathering = Gathering(k_BSGD, v_BSGD, place, group)
    if _is_one_call(place, kernel):
        dq, *whole = Spans(place, *gathering.whole(), kernel).backward(given)
        dk, dv = (zigzag.shard(grads, rank=place.rank, cp=place.size, dim=1).clone() for grads in whole)
        for part_dk, part_dv in _sent_home([grads.to(k_BSGD.dtype) for grads in whole], place, group):
            dk += part_dk
            dv += part_dv
        return dq, dk.to(k_BSGD.dtype), dv.to(v_BSGD.dtype)
    gradients = Gradients(given, k_BSGD, v_BSGD, place, kernel)
    computed = gradients.of(blocks.gathered(place), *gathering.whole())
    for dk, dv in _sent_home(computed, place, group):
        gradients.add_home(dk, dv)
    return gradients.result()


def _is_one_call(place: Place, kernel: Kernel) -> bool:
    """Whether spans beat blocks: with packed documents alone.

    One causal document on 2 x H200: gathered, cuDNN's blocks took 1.01 times a ring's seconds at 32,768 tokens;
    flash-attn 4's single call took 1.07 times, and 1.16 at 16,384: it begins when all keys are here.
    """
    return place.documents is not None and kernel.packed_forward is not None


def _sent_home(whole_BTGD: Sequence[Tensor], place: Place, group: dist.ProcessGroup) -> list[comm.Parts]:
    """Every rank gets its share of each tensor; what the others computed of this rank's."""
    others = _others(place)
    outgoing = {
        peer: tuple(zigzag.shard(whole, rank=peer, cp=place.size, dim=1) for whole in whole_BTGD) for peer in others
    }
    parts = next(iter(outgoing.values()))
    lane = comm.lane(group, "scattered gradients", parts[0].device, slots=1)
    shapes = dict.fromkeys(others, tuple(part.shape for part in parts))
    return list(lane.start(outgoing, shapes, room_bytes=comm.pair_bytes(parts[0])).wait().values())


class Gathering:
    """K and V of all ranks on their way here."""

    def __init__(self, k_BSGD: Tensor, v_BSGD: Tensor, place: Place, group: dist.ProcessGroup) -> None:
        self._own, self._place = (k_BSGD, v_BSGD), place
        lane = comm.lane(group, "gathered keys and values", k_BSGD.device, slots=1)
        others = _others(place)
        self._message = lane.start(
            dict.fromkeys(others, self._own),
            dict.fromkeys(others, (k_BSGD.shape, v_BSGD.shape)),
            room_bytes=comm.pair_bytes(k_BSGD),
        )

    def whole(self) -> tuple[Tensor, Tensor]:
        """K and V of the whole sequence, [B, S x P, G, D] both; waits for them."""
        shares = self._message.wait() | {self._place.rank: self._own}
        ks, vs = zip(*(shares[rank] for rank in range(self._place.size)), strict=True)
        return zigzag.unshard(list(ks), dim=1), zigzag.unshard(list(vs), dim=1)


def _others(place: Place) -> list[int]:
    return [rank for rank in range(place.size) if rank != place.rank]
