"""Which tokens a context-parallel rank holds: chunks r and 2P - 1 - r of 2P equal chunks.

Under a causal mask the work of a chunk grows with its place in the sequence;
the pair (r, 2P - 1 - r) has the same work on every rank, and every step of the
ring costs every rank the same (Fang and Zhao 2024, arXiv 2405.07719; Brandon et
al. 2023 reach the same balance by striping). One function gives each rank's
share to the data, the positions, the loss and the tests.
"""

import torch
from torch import Tensor


def chunk_indices(rank: int, cp: int) -> tuple[int, int]:
    """The two chunks of `rank`, in the order in which they lie in its local tensor: rank 1 of 4 holds 1 and 6."""
    if not 0 <= rank < cp:
        raise ValueError(f"rank {rank} is not one of {cp} context-parallel ranks; ranks are 0 to {cp - 1}")
    return rank, 2 * cp - 1 - rank


def chunk_tokens(sequence_len: int, cp: int) -> int:
    """Tokens of one chunk: sequence_len / (2 x cp). 8,192 at cp 2: 2,048."""
    chunks = 2 * cp
    if sequence_len % chunks:
        below = max(sequence_len // chunks, 1) * chunks
        raise ValueError(
            f"sequence_len {sequence_len} does not split into {chunks} equal chunks "
            f"(context_parallel_size {cp}); use {below} or {below + chunks}"
        )
    return sequence_len // chunks


def shard(whole: Tensor, *, rank: int, cp: int, dim: int) -> Tensor:
    """The share of `rank`: [.., S, ..] -> [.., S/cp, ..] along `dim`, its two chunks one after the other."""
    if cp == 1:
        return whole
    size = chunk_tokens(whole.shape[dim], cp)
    return torch.cat([whole.narrow(dim, chunk * size, size) for chunk in chunk_indices(rank, cp)], dim=dim)


def unshard(shares: list[Tensor], *, dim: int) -> Tensor:
    """The whole from the shares of all ranks in rank order: the inverse of `shard`."""
    cp = len(shares)
    if cp == 1:
        return shares[0]
    halves = [share.chunk(2, dim=dim) for share in shares]
    return torch.cat([early for early, _ in halves] + [late for _, late in reversed(halves)], dim=dim)


def positions(rank: int, cp: int, sequence_len: int, device: torch.device | str = "cpu") -> Tensor:
    """Global positions [S/cp] of the tokens of `rank`, as rotary embeddings need them."""
    return shard(torch.arange(sequence_len, device=device), rank=rank, cp=cp, dim=0)
