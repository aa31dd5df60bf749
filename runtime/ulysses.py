"""Heads for tokens: u ranks exchange their shares so that each holds more of the sequence for fewer heads.

Attention then runs over what each holds as if the others were not there: over the
whole sequence where u is all of the group (DeepSpeed-Ulysses, arXiv 2309.14509),
over a share of a ring of P / u ranks otherwise (USP, arXiv 2405.07719). Adjacent
ranks exchange, and zigzag shares of adjacent ranks join to the zigzag share of the
ring. Where there are fewer K/V heads than ranks, each rank gets the one that its
query heads use, and their gradients are summed at home in float32.
"""

from collections.abc import Mapping, Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from runtime import comm, zigzag


class HeadExchange:
    """The ranks that exchange heads, seen from one of them. All tensors of a call have one dtype."""

    def __init__(self, group: dist.ProcessGroup, device: torch.device) -> None:
        self._lane = comm.lane(group, "heads", device, slots=1)
        self._rank, self._size = self._lane.rank, self._lane.size

    def gather(self, *tensors: Tensor) -> list[Tensor]:
        """[B, S, H, ..] -> [B, u x S, H/u, ..] of each tensor; fewer heads than ranks: [B, u x S, 1, ..]."""
        parts = {
            peer: tuple(tensor[:, :, self._heads_of(tensor.shape[2], peer)] for tensor in tensors)
            for peer in range(self._size)
        }
        shares = zip(*self._swap(parts), strict=True)
        # Early chunks in the order of the ranks, late ones in the reverse: the zigzag share of all of them.
        return [zigzag.unshard(list(share), dim=1) for share in shares]

    def scatter(self, *tensors: tuple[Tensor, int]) -> list[Tensor]:
        """[B, u x S, H/u, ..] -> [B, S, H, ..] of each (tensor, H): the way back.

        With fewer heads than ranks several ranks hold parts of one head, which are summed in float32.
        """
        parts = {
            peer: tuple(zigzag.shard(tensor, rank=peer, cp=self._size, dim=1) for tensor, _ in tensors)
            for peer in range(self._size)
        }
        shares = zip(*self._swap(parts), strict=True)
        return [self._joined(share, heads) for share, (_, heads) in zip(shares, tensors, strict=True)]

    def _swap(self, parts: Mapping[int, comm.Parts]) -> list[comm.Parts]:
        """Parts for each rank -> parts of each rank, in rank order."""
        own = parts[self._rank]
        outgoing = {peer: part for peer, part in parts.items() if peer != self._rank}
        shapes = dict.fromkeys(outgoing, tuple(part.shape for part in own))
        room_bytes = sum(part.numel() * part.element_size() for part in own)
        arrived = self._lane.start(outgoing, shapes, room_bytes=room_bytes).wait()
        return [own if peer == self._rank else arrived[peer] for peer in range(self._size)]

    def _heads_of(self, heads: int, rank: int) -> slice:
        """Of 32 heads rank 1 of 4 gets 8 to 15; of 2 heads ranks 2 and 3 of 4 get head 1."""
        first = rank * heads // self._size
        return slice(first, first + max(heads // self._size, 1))

    def _joined(self, shares: Sequence[Tensor], heads: int) -> Tensor:
        if heads >= self._size:
            return torch.cat(list(shares), dim=2)
        # u x [B, S, 1, D] -> [B, S, heads, u / heads, D]
        parts = torch.cat(list(shares), dim=2).unflatten(2, (heads, -1))
        return parts.sum(dim=3, dtype=torch.float32).to(parts.dtype)
