"""Exact causal attention over a sequence that is spread over ranks: K and V travel round a ring.

Each rank keeps its Q. In step s rank r computes against the K/V of rank
(r + s) mod P while they already travel on, to the rank before; after P steps,
P - 1 hops, it has seen them all (Liu et al. 2023, arXiv 2310.01889). Which of
its queries meet which of those keys says runtime.blocks: equal work in every
step. Going downwards, K and V pass the ranks that need both chunks first, so
from rank P - 1 on only the early one travels.

In backward each block takes the merged output and log-sum-exp. K and V make
their round again; the gradients of each block's K and V go straight home, as
the kernel gives them, and are summed there in float32.
"""

from collections.abc import Iterator

import torch.distributed as dist
from torch import Tensor

from runtime import blocks, comm
from runtime.blocks import Place
from runtime.kernels import Kernel
from runtime.partial import Given, Gradients, Output


def forward(
    q_BSHD: Tensor, k_BSGD: Tensor, v_BSGD: Tensor, place: Place, group: dist.ProcessGroup, kernel: Kernel
) -> tuple[Tensor, Tensor]:
    """out [B, S, H, D] in q's dtype and log-sum-exp [B, H, S] in float32, for the whole causal sequence."""
    travelling = Travelling(k_BSGD, v_BSGD, place, group)
    output = Output(q_BSHD, k_BSGD, v_BSGD, place, kernel)
    for source, k, v in travelling:
        output.add(blocks.foreign(place, source), k, v)
    return output.result()


def backward(
    given: Given, k_BSGD: Tensor, v_BSGD: Tensor, place: Place, group: dist.ProcessGroup, kernel: Kernel
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of q, k, v in their dtypes."""
    travelling, returning = Travelling(k_BSGD, v_BSGD, place, group), Returning(k_BSGD, place, group)
    gradients = Gradients(given, k_BSGD, v_BSGD, place, kernel)
    for source, k, v in travelling:
        computed = gradients.of(blocks.foreign(place, source), k, v)
        returning.collect(gradients)
        returning.send(source, *computed)
    returning.collect(gradients)
    return gradients.result()


class Travelling:
    """K and V of the other ranks, one after the other; the next ones arrive while these are in use."""

    def __init__(self, k_BSGD: Tensor, v_BSGD: Tensor, place: Place, group: dist.ProcessGroup) -> None:
        self._place = place
        self._shape = k_BSGD.shape
        self._room_bytes = comm.pair_bytes(k_BSGD)
        self._lane = comm.lane(group, "keys and values", k_BSGD.device)
        self._message = self._pass_on(k_BSGD, v_BSGD, source=place.rank)

    def __iter__(self) -> Iterator[tuple[int, Tensor, Tensor]]:
        """(source, k, v): both chunks of a source after this rank, the early one of a source before it."""
        rank, size = self._place.rank, self._place.size
        for step in range(1, size):
            source = (rank + step) % size
            k, v = self._message.wait_for_one()
            if step < size - 1:
                self._message = self._pass_on(k, v, source=source)
            yield source, k, v

    def _pass_on(self, k: Tensor, v: Tensor, *, source: int) -> comm.Message:
        rank, size = self._place.rank, self._place.size
        before, after = (rank - 1) % size, (rank + 1) % size
        going = blocks.needed_tokens(self._place, source, before)
        coming = blocks.needed_tokens(self._place, (source + 1) % size, rank)
        shape = (self._shape[0], coming, *self._shape[2:])
        sent = k[:, :going], v[:, :going]
        return self._lane.start({before: sent}, {after: (shape, shape)}, room_bytes=self._room_bytes)


class Returning:
    """Gradients of K and V on their way home: each rank sends what it computed and receives what is its own."""

    def __init__(self, k_BSGD: Tensor, place: Place, group: dist.ProcessGroup) -> None:
        self._place = place
        self._shape = k_BSGD.shape
        self._room_bytes = comm.pair_bytes(k_BSGD)
        self._lane = comm.lane(group, "gradients", k_BSGD.device)
        self._message: comm.Message | None = None

    def send(self, source: int, dk: Tensor, dv: Tensor) -> None:
        """Gradients of the K and V of `source`; receives those of the rank for which this one is the source."""
        rank = self._place.rank
        user = (2 * rank - source) % self._place.size
        shape = (self._shape[0], blocks.needed_tokens(self._place, rank, user), *self._shape[2:])
        self._message = self._lane.start({source: (dk, dv)}, {user: (shape, shape)}, room_bytes=self._room_bytes)

    def collect(self, gradients: Gradients) -> None:
        """Add what was sent here, if anything was."""
        if self._message is not None:
            gradients.add_home(*self._message.wait_for_one())
        self._message = None
