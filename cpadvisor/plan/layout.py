"""A layout says over how many GPUs each axis of the training is split, and which rank sits where.

Axes from the outside in: dp_replicate, dp_shard, cp, tp. Rank
((replicate x dp_shard + shard) x cp + context) x tp + tensor, the order of
axolotl's and accelerate's device mesh: tensor-parallel groups are neighbours,
context-parallel groups have stride tp, replicas are outermost and cross nodes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from cpadvisor.errors import LayoutError

AXES = ("dp_replicate", "dp_shard", "cp", "tp")
"""Outermost first."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Layout:
    """Degrees of the four axes; their product is the number of GPUs."""

    dp_replicate: int = 1
    dp_shard: int = 1
    tp: int = 1
    cp: int = 1

    def __post_init__(self) -> None:
        for axis in AXES:
            if self.degree(axis) < 1:
                raise LayoutError(f"{axis} is {self.degree(axis)}; every size is a whole number from 1 up; use 1")

    def degree(self, axis: str) -> int:
        """The size of one axis by its name."""
        return int(getattr(self, axis))

    @property
    def world(self) -> int:
        """GPUs in all: dp_replicate x dp_shard x tp x cp (card row F1)."""
        return self.dp_replicate * self.dp_shard * self.tp * self.cp

    @property
    def shard_group(self) -> int:
        """GPUs over which parameters, gradients and optimizer states are sharded: dp_shard x cp."""
        return self.dp_shard * self.cp

    @property
    def data_ranks(self) -> int:
        """Ranks that see different sequences: dp_replicate x dp_shard (card row F2)."""
        return self.dp_replicate * self.dp_shard

    @property
    def label(self) -> str:
        """`1×2×1×4`: dp_replicate, dp_shard, tp, cp."""
        return f"{self.dp_replicate}×{self.dp_shard}×{self.tp}×{self.cp}"

    @property
    def words(self) -> str:
        """The axes above 1 by name, `dp_shard 2 × cp 4`; `one GPU` where there is none."""
        parts = [f"{axis} {self.degree(axis)}" for axis in AXES if self.degree(axis) > 1]
        return " × ".join(parts) or "one GPU"

    def groups(self, axis: str) -> tuple[tuple[int, ...], ...]:
        """The ranks of each process group of an axis; together they partition the ranks.

        dp_shard 2 x cp 2: groups of cp are (0, 1) and (2, 3), of dp_shard (0, 2) and (1, 3).
        """
        position = AXES.index(axis)
        degrees = [self.degree(name) for name in AXES]
        stride = _product(degrees[position + 1 :])
        block = stride * degrees[position]
        return tuple(
            tuple(base + offset + member * stride for member in range(degrees[position]))
            for base in range(0, self.world, block)
            for offset in range(stride)
        )


def _product(values: list[int]) -> int:
    result = 1
    for value in values:
        result *= value
    return result


def divisors(number: int) -> tuple[int, ...]:
    """All whole divisors in rising order: 12 gives 1, 2, 3, 4, 6, 12."""
    return tuple(candidate for candidate in range(1, number + 1) if number % candidate == 0)


def factorisations(world: int) -> Iterator[Layout]:
    """Every layout whose product is `world`: 20 of them for 8."""
    for replicate, shard, cp in product(divisors(world), repeat=3):
        if world % (replicate * shard * cp) == 0:
            yield Layout(dp_replicate=replicate, dp_shard=shard, cp=cp, tp=world // (replicate * shard * cp))


def chunk_neighbours(tokens: int, cp: int) -> tuple[int, int]:
    """The nearest lengths, at or below and above `tokens`, that split into 2 x cp equal chunks.

    10,000 tokens at cp 3 (6 chunks): 9,996 and 10,002. A length that splits is its own lower neighbour;
    the lower one is never below one token a chunk.
    """
    chunks = 2 * cp
    below = max(tokens // chunks, 1) * chunks
    return below, below + chunks


def require_even_chunks(tokens: int, cp: int) -> None:
    """Refuse a length that zigzag chunks do not divide (card row F3). Raises LayoutError."""
    chunks = 2 * cp
    if cp == 1 or tokens % chunks == 0:
        return
    below, above = chunk_neighbours(tokens, cp)
    raise LayoutError(
        f"sequence_len {tokens} does not split into {chunks} equal chunks (context_parallel_size {cp}); "
        f"use {below} or {above}"
    )
