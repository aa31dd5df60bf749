"""The best closed tour over a matrix of link ranks: best slowest hop, then best sum, then lowest positions.

GPUs whose links are alike are interchangeable, and real machines have few
kinds: the exact search runs over how many of each kind are left (Held and Karp
1962, over kinds instead of cities). Eight GPUs behind NVSwitch are one kind;
16 GPUs that all differ are the worst case, a second or two.
"""

from functools import lru_cache

Ranks = tuple[tuple[int, ...], ...]
"""`ranks[a][b]` grows with the quality of the link between a and b; symmetric."""

EXACT_STATES = 1 << 20
"""States that the exact search may visit: 16 GPUs of 16 kinds. Above, the tour goes to the nearest GPU left."""

_NO_TOUR = -1


@lru_cache(maxsize=256)
def best_tour(ranks: Ranks) -> tuple[int, ...]:
    """Positions in the order of the tour, from position 0; of the two directions the lower comes first.

    Two PIX pairs (rank 5) with SYS (rank 1) between them, 0-1 and 2-3, give 0, 1, 2, 3: any closed tour
    crosses SYS twice, and this one keeps both PIX hops.
    """
    size = len(ranks)
    if size < 4 or len({ranks[a][b] for a in range(size) for b in range(size) if a != b}) == 1:
        return tuple(range(size))
    kinds = _kinds(ranks)
    if _states(kinds) > EXACT_STATES:
        return _nearest_tour(ranks)
    for worst in _slowest_hops(ranks):
        tour = _Search(ranks, kinds, worst).tour()
        if tour:
            return tour
    raise AssertionError("the lowest rank of any pair admits every tour")


def _kinds(ranks: Ranks) -> tuple[int, ...]:
    """The kind of each position: two are of a kind when swapping them leaves the matrix as it is."""
    kinds: list[int] = []
    leaders: list[int] = []
    for position in range(len(ranks)):
        kind = next((k for k, leader in enumerate(leaders) if _alike(ranks, leader, position)), len(leaders))
        if kind == len(leaders):
            leaders.append(position)
        kinds.append(kind)
    return tuple(kinds)


def _alike(ranks: Ranks, first: int, second: int) -> bool:
    return all(ranks[first][k] == ranks[second][k] for k in range(len(ranks)) if k not in (first, second))


def _states(kinds: tuple[int, ...]) -> int:
    total = len(set(kinds))
    for kind in set(kinds):
        total *= kinds.count(kind) + 1
    return total


def _slowest_hops(ranks: Ranks) -> list[int]:
    """Ranks that the slowest hop may have, best first: no GPU's second best link is below it."""
    size = len(ranks)
    ceiling = min(sorted(ranks[a][b] for b in range(size) if b != a)[-2] for a in range(size))
    return sorted({ranks[a][b] for a in range(size) for b in range(size) if a != b and ranks[a][b] <= ceiling})[::-1]


class _Search:
    """Tours none of whose hops is below `worst`: the best sum from each state, and the lowest tour that reaches it.

    A state is how many GPUs of each kind are left, written as one number in a mixed radix, and the last one's kind.
    """

    def __init__(self, ranks: Ranks, kinds: tuple[int, ...], worst: int) -> None:
        self.kinds = kinds
        count = max(kinds) + 1
        self.counts = [kinds.count(kind) for kind in range(count)]
        self.weights = [1] * count
        for kind in range(1, count):
            self.weights[kind] = self.weights[kind - 1] * (self.counts[kind - 1] + 1)
        members = [[position for position, k in enumerate(kinds) if k == kind] for kind in range(count)]
        self.hops = [
            [(other, rank) for other in range(count) if (rank := _between(ranks, members, kind, other)) >= worst]
            for kind in range(count)
        ]
        self.closing = dict(self.hops[kinds[0]])
        self.best: dict[int, int] = {}

    def tour(self) -> tuple[int, ...]:
        """The whole tour, or nothing where every tour has a slower hop."""
        left = sum(weight * count for weight, count in zip(self.weights, self.counts, strict=True))
        left -= self.weights[self.kinds[0]]
        last = self.kinds[0]
        if self._rest(left, last) == _NO_TOUR:
            return ()
        tour, waiting = [0], list(range(1, len(self.kinds)))
        while waiting:
            position = next(p for p in waiting if self._continues(left, last, self.kinds[p]))
            tour.append(position)
            waiting.remove(position)
            last = self.kinds[position]
            left -= self.weights[last]
        return tuple(tour)

    def _continues(self, left: int, last: int, kind: int) -> bool:
        """Whether a best tour may go from `last` to a GPU of `kind`."""
        rest = self._rest(left - self.weights[kind], kind)
        hop = next((rank for other, rank in self.hops[last] if other == kind), _NO_TOUR)
        return _NO_TOUR not in (rest, hop) and hop + rest == self._rest(left, last)

    def _rest(self, left: int, last: int) -> int:
        """The best sum of the hops still to come, the closing one included; _NO_TOUR where none closes."""
        if left == 0:
            return self.closing.get(last, _NO_TOUR)
        key = left * len(self.counts) + last
        known = self.best.get(key)
        if known is not None:
            return known
        best = _NO_TOUR
        for kind, rank in self.hops[last]:
            weight = self.weights[kind]
            if left // weight % (self.counts[kind] + 1):
                rest = self._rest(left - weight, kind)
                if rest != _NO_TOUR and rank + rest > best:
                    best = rank + rest
        self.best[key] = best
        return best


def _between(ranks: Ranks, members: list[list[int]], kind: int, other: int) -> int:
    """The rank between GPUs of two kinds; within a kind of one GPU there is no hop."""
    if kind != other:
        return ranks[members[kind][0]][members[other][0]]
    return ranks[members[kind][0]][members[kind][1]] if len(members[kind]) > 1 else _NO_TOUR


def _nearest_tour(ranks: Ranks) -> tuple[int, ...]:
    tour, waiting = [0], list(range(1, len(ranks)))
    while waiting:
        following = max(waiting, key=lambda position: (ranks[tour[-1]][position], -position))
        tour.append(following)
        waiting.remove(following)
    return tuple(tour)
