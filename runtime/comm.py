"""One hop of a ring: send to the next rank while receiving from the one before, and compute in between.

The group's communicator is its own, so on GPUs a hop runs on the communicator's
stream beside the kernels; `wait` makes the current stream wait for the arrival,
not the host. Each group counts what it sent: the figure that the formula of the
planner is held against. What a rank has begun is counted too: it tells who lags.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(slots=True)
class Traffic:
    """What a group has sent from this rank since the last look."""

    hops: int = 0
    sent_bytes: int = 0


_traffic: dict[str, Traffic] = {}


def take_traffic(group_name: str) -> Traffic:
    """What the group sent since the last call, and start again from zero."""
    return _traffic.pop(group_name, Traffic())


_begun = 0
"""Hops that this rank has begun."""


def begun(groups: Sequence[dist.ProcessGroup]) -> int:
    """Exchanges that this rank has begun since it met the others: hops, and what these groups count (collectives).

    All ranks begin the same ones in the same order. On GPUs the host runs ahead of its device until it reads a value:
    of ranks that wait for each other, the one that has begun the fewest stopped first, wherever the others stand.
    """
    counted = (group._get_sequence_number_for_group() for group in groups)  # pyright: ignore[reportAttributeAccessIssue]
    return _begun + sum(counted)


_keeping_own: set[str] = set()


def keep_own(group_name: str) -> None:
    """A fault to test with: from now on this rank takes what it sent in place of what arrives."""
    _keeping_own.add(group_name)


class Hop:
    """One exchange under way; `wait` gives what arrived."""

    def __init__(self, sent: Tensor, received: Tensor, works: Sequence[dist.Work], *, keeps_own: bool = False) -> None:
        self._sent = sent
        """Held until the exchange is over: the communicator reads it."""
        self._received = received
        self._works = works
        self._keeps_own = keeps_own

    def wait(self) -> Tensor:
        """The tensor of the rank before, same shape and dtype as the one sent."""
        for work in self._works:
            work.wait()
        return self._sent if self._keeps_own else self._received


def start_hop(tensor: Tensor, group: dist.ProcessGroup) -> Hop:
    """Send `tensor` to the next rank of the group and receive the one of the rank before. Returns at once.

    Every rank of the group has to start the same hops in the same order.
    """
    global _begun
    _begun += 1
    rank, size = dist.get_rank(group), dist.get_world_size(group)
    received = torch.empty_like(tensor)
    works = dist.batch_isend_irecv(
        [
            dist.P2POp(dist.isend, tensor, group=group, group_peer=(rank + 1) % size),
            dist.P2POp(dist.irecv, received, group=group, group_peer=(rank - 1) % size),
        ]
    )
    traffic = _traffic.setdefault(group.group_name, Traffic())
    traffic.hops += 1
    traffic.sent_bytes += tensor.numel() * tensor.element_size()
    return Hop(tensor, received, works, keeps_own=group.group_name in _keeping_own)


def read(values: Tensor) -> list[float]:
    """Numbers on the host. Here it waits for its device, and so for the ranks that the device waits for."""
    return values.tolist()
