"""Which GPU takes which local rank, so that the groups that talk most have the best links.

Tensor-parallel groups come first, then each hop of the context-parallel rings, then neighbours of dp_shard;
replicas are outermost. NCCL does not reorder a send/recv ring, so the order of ranks is the ring.
"""

from dataclasses import dataclass
from functools import lru_cache

from cpadvisor.fabric import best_ring
from cpadvisor.node import Node, link_rank
from cpadvisor.plan.layout import Layout

Ranks = tuple[tuple[int, ...], ...]
"""Quality of the link between each two GPUs of a node, by row; grows with the quality."""

SEARCH_STEPS = 20_000
"""Positions tried before a quality counts as out of reach. A bound for large irregular nodes: eight GPUs need less."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalShape:
    """How the axes fall on one node: degrees of the parts of groups that lie inside it."""

    gpus: int
    tp: int
    cp: int
    dp_shard: int
    ring_closes: bool
    """The whole CP group lies inside, so that the last rank sends to the first."""


def local_shape(layout: Layout, gpus: int) -> LocalShape:
    """The inner part of each axis on a node of `gpus`: what divides it from the inside out.

    dp_shard 2 x cp 8 on nodes of 4: cp has 4 ranks inside and its ring does not close there.
    """
    tp = _inner(layout.tp, gpus)
    cp = _inner(layout.cp, gpus // tp) if tp == layout.tp else 1
    shard = _inner(layout.dp_shard, gpus // (tp * cp)) if cp == layout.cp else 1
    return LocalShape(gpus=gpus, tp=tp, cp=cp, dp_shard=shard, ring_closes=cp == layout.cp)


def _inner(degree: int, room: int) -> int:
    """The largest divisor of `room` that divides `degree` or that `degree` reaches."""
    return max(d for d in range(1, room + 1) if room % d == 0 and degree % d == 0)


def link_ranks(node: Node) -> Ranks:
    """The quality of each link, the worse of its two directions where a paste disagrees with itself."""
    ranks = [[link_rank(code) for code in row] for row in node.links]
    size = range(len(ranks))
    return tuple(tuple(min(ranks[row][column], ranks[column][row]) for column in size) for row in size)


def rank_order(node: Node, layout: Layout) -> tuple[int, ...]:
    """GPU index of each local rank, the same on every node.

    DGX-1V at cp 8: 0, 3, 2, 1, 5, 6, 7, 4, where each hop is two NVLinks; 0 to 7 in order would cross the
    sockets twice.
    """
    shape = local_shape(layout, len(node.gpus))
    if shape.cp == shape.gpus > 2 and shape.ring_closes:
        ring = best_ring(node)
        if ring is not None:
            return ring.order
    return tuple(node.indices[row] for row in _best_rows(link_ranks(node), shape))


@lru_cache(maxsize=4096)
def _best_rows(ranks: Ranks, shape: LocalShape) -> tuple[int, ...]:
    """Rows in rank order: the best worst link of TP, given that the best worst CP hop, given both dp_shard's."""
    qualities = sorted({ranks[i][j] for i in range(shape.gpus) for j in range(i)}, reverse=True)
    if len(qualities) <= 1:
        return tuple(range(shape.gpus))
    floor = qualities[-1]
    limits = {"tp": floor, "cp": floor, "dp_shard": floor}
    best = tuple(range(shape.gpus))
    for axis, degree in (("tp", shape.tp), ("cp", shape.cp), ("dp_shard", shape.dp_shard)):
        for quality in qualities if degree > 1 else ():
            found = _arrange(ranks, shape, limits | {axis: quality})
            if found is not None:
                limits[axis], best = quality, found
                break
    return best


def _arrange(ranks: Ranks, shape: LocalShape, limits: dict[str, int]) -> tuple[int, ...] | None:
    """The first order, lowest indices first, whose every link reaches its axis's limit; None where there is none."""
    order: list[int] = []
    joins = _joins(shape)
    steps = 0

    def fits(row: int) -> bool:
        return all(ranks[row][order[place]] >= limits[axis] for axis, place in joins[len(order)])

    def extend() -> bool:
        nonlocal steps
        if len(order) == shape.gpus:
            return True
        for row in _openers(order, shape):
            steps += 1
            if steps > SEARCH_STEPS:
                return False
            if fits(row):
                order.append(row)
                if extend():
                    return True
                order.pop()
        return False

    return tuple(order) if extend() else None


def _joins(shape: LocalShape) -> list[list[tuple[str, int]]]:
    """For each position, the earlier positions that it talks to, with the axis."""
    joins: list[list[tuple[str, int]]] = []
    for place in range(shape.gpus):
        earlier = [("tp", other) for other in range(place - place % shape.tp, place)]
        context = place // shape.tp % shape.cp
        if context:
            earlier.append(("cp", place - shape.tp))
        if shape.ring_closes and shape.cp > 2 and context == shape.cp - 1:
            earlier.append(("cp", place - context * shape.tp))
        block = shape.tp * shape.cp
        if place // block % shape.dp_shard:
            earlier.append(("dp_shard", place - block))
        joins.append(earlier)
    return joins


def _openers(order: list[int], shape: LocalShape) -> list[int]:
    """Rows that may come next; a replica begins with the lowest that is left, for replicas are interchangeable."""
    left = [row for row in range(shape.gpus) if row not in order]
    replica = shape.tp * shape.cp * shape.dp_shard
    closed = shape.ring_closes and len(order) % replica == 0
    return left[:1] if closed else left
