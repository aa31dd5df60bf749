"""What the links of a node add up to: its NVLink islands, its best ring, and what is wrong with its fabric.

A send/recv ring runs at the pace of its slowest hop and NCCL does not reorder
it, so the order of the ranks is part of the answer: a DGX-1V visited as
0, 3, 2, 1, 5, 6, 7, 4 is NV2 on every hop, visited as 0 .. 7 it crosses SYS twice.
"""

from collections.abc import Iterable

from cpadvisor.node import Node, Ring, is_nvlink, link_rank
from cpadvisor.ring_order import best_tour

EXACT_GPUS = 16
"""Up to here the partition is proved to be the smallest; the largest single node, HGX-2, has 16 GPUs."""

MOST_GPUS = 64
"""More on one node is a misread text or a damaged file: no machine comes near."""

_NVLINK_PRODUCTS = ("SXM", "NVL", "HBM3", "H20", "B200", "B300")
"""Parts of names of products that leave the factory with NVLink: SXM boards, NVL pairs, H200 and H20, Blackwell."""


def islands(node: Node) -> tuple[tuple[int, ...], ...]:
    """The fewest groups of GPUs in which every pair has NVLink; of equal ones, each low index joins the earliest group.

    A DGX-1V, where NVLink joins no more than four all to all: (0, 1, 2, 3), (4, 5, 6, 7). A GPU
    without NVLink is a group of its own. Groups and members rise by index.
    """
    order = sorted(range(len(node.gpus)), key=lambda row: node.indices[row])
    joined = [[_joined(node, first, second) for second in order] for first in order]
    fewest = _mutually_apart(joined) if len(order) <= EXACT_GPUS else len(order)
    for limit in range(max(fewest, 1), len(order) + 1):
        groups = _partition(joined, limit)
        if groups is not None:
            return tuple(tuple(node.indices[order[member]] for member in group) for group in groups)
    return ()


def _joined(node: Node, first: int, second: int) -> bool:
    return is_nvlink(node.links[first][second]) and is_nvlink(node.links[second][first])


def _mutually_apart(joined: list[list[bool]]) -> int:
    """A number of GPUs of which no two share an island, so the partition has at least as many groups."""
    chosen: list[int] = []
    for candidate in sorted(range(len(joined)), key=lambda row: sum(joined[row])):
        if not any(joined[candidate][other] for other in chosen):
            chosen.append(candidate)
    return len(chosen)


def _partition(joined: list[list[bool]], limit: int) -> list[list[int]] | None:
    """The first partition into at most `limit` cliques, trying for each member in turn the earliest group first."""
    groups: list[list[int]] = []

    def place(member: int) -> bool:
        if member == len(joined):
            return True
        for group in groups:
            if all(joined[member][other] for other in group):
                group.append(member)
                if place(member + 1):
                    return True
                group.pop()
        if len(groups) == limit:
            return False
        groups.append([member])
        if place(member + 1):
            return True
        groups.pop()
        return False

    return groups if place(0) else None


def best_ring(node: Node, indices: tuple[int, ...] | None = None) -> Ring | None:
    """The closed tour of the GPUs with the best slowest hop, then the best sum of `link_rank`, then the lowest indices.

    It starts at the lowest index. None below two GPUs.
    """
    chosen = sorted(node.indices if indices is None else indices)
    if len(chosen) < 2:
        return None
    rows = [node.indices.index(index) for index in chosen]
    ranks = tuple(tuple(0 if a == b else _slower(node, a, b)[0] for b in rows) for a in rows)
    tour = [rows[position] for position in best_tour(ranks)]
    hops = zip(tour, [*tour[1:], tour[0]], strict=True)
    worst = min((_slower(node, first, second) for first, second in hops), key=lambda hop: hop[0])
    return Ring(order=tuple(node.indices[row] for row in tour), worst=worst[1])


def _slower(node: Node, first: int, second: int) -> tuple[int, str | None]:
    """Rank and code of a pair; where its two directions differ, of the slower one."""
    there, back = node.links[first][second], node.links[second][first]
    code = there if link_rank(there) <= link_rank(back) else back
    return link_rank(code), code


def fabric_warnings(node: Node) -> tuple[str, ...]:
    """What an engineer has to know about the links before planning on them, one sentence a finding."""
    if len(node.gpus) < 2 or any(gpu.name == "cpu" for gpu in node.gpus):
        return ()
    linked = [row for row in range(len(node.gpus)) if any(_joined(node, row, other) for other in range(len(node.gpus)))]
    if not linked:
        return (_without_nvlink(node),)
    return tuple(_fallen(node, linked) + _degraded(node) + _not_all_to_all(node))


def _without_nvlink(node: Node) -> str:
    worst = min((_slower(node, a, b) for a in range(len(node.gpus)) for b in range(a)), key=lambda pair: pair[0])[1]
    names = [gpu.name for gpu in node.gpus if gpu.name is not None]
    name = next((name for name in names if any(part in name for part in _NVLINK_PRODUCTS)), None)
    if name is None:
        return f"no NVLink on this node: every pair of GPUs goes over PCIe, at worst {worst or 'an unknown path'}"
    return (
        f"{name} is made with NVLink but no pair shows it: check `nvidia-smi nvlink --status` and the fabric manager; "
        "if the matrix came from `nvidia-smi topo -mp`, which hides NVLink, give that of `nvidia-smi topo -m`"
    )


def _fallen(node: Node, linked: list[int]) -> list[str]:
    """GPUs without any NVLink beside like ones that have it."""
    peers = {node.gpus[row].name for row in linked}
    alone = [gpu for row, gpu in enumerate(node.gpus) if row not in linked and gpu.name in peers]
    if not alone:
        return []
    names = _gpu_list(gpu.index for gpu in alone)
    if max(len(group) for group in _components(node)) < 3:
        return [f"{names} without NVLink while other GPUs are bridged in pairs: a bridge is missing or not seated"]
    best = max((_slower(node, a, b) for a in linked for b in linked if a != b), key=lambda pair: pair[0])[1]
    others = _gpu_list(node.gpus[row].index for row in linked)
    return [
        f"{names} fell off NVLink: no link to the others, while {others} have {best}; check "
        f"`nvidia-smi nvlink --status -i {alone[0].index}`, reset it or plan without it"
    ]


def _degraded(node: Node) -> list[str]:
    """GPUs of an all-to-all island whose bonds are all narrower than the island's best."""
    found: list[str] = []
    for group in islands(node):
        if len(group) < 3 or group not in _components(node):
            continue
        best = {a: max(link_rank(node.link(a, b)) for b in group if b != a) for a in group}
        top = max(best.values())
        weak = [index for index in group if best[index] < top]
        if weak and len(weak) < len(group) - 1:
            codes = ", ".join(f"GPU{index} NV{best[index] - link_rank('NV1') + 1}" for index in weak)
            found.append(f"links are down: {codes} where the others have NV{top - link_rank('NV1') + 1}")
    return found


def _not_all_to_all(node: Node) -> list[str]:
    found: list[str] = []
    for group in _components(node):
        pairs = [(a, b) for a in group for b in group if a < b]
        bare = sum(not is_nvlink(node.link(a, b)) for a, b in pairs)
        ring = best_ring(node, group)
        if bare and ring is not None:
            order = ",".join(str(index) for index in ring.order)
            found.append(
                f"NVLink joins {_gpu_list(group)} but not all to all (hybrid cube mesh or a broken link): {bare} of "
                f"{len(pairs)} pairs go over PCIe; the rank order {order} keeps its slowest hop at {ring.worst}"
            )
    return found


def _components(node: Node) -> list[tuple[int, ...]]:
    """GPU indices that chains of NVLink connect, in groups."""
    left = sorted(range(len(node.gpus)), key=lambda row: node.indices[row])
    found: list[tuple[int, ...]] = []
    while left:
        group, edge = {left[0]}, [left[0]]
        while edge:
            row = edge.pop()
            fresh = {other for other in left if other not in group and _joined(node, row, other)}
            group |= fresh
            edge.extend(fresh)
        left = [row for row in left if row not in group]
        found.append(tuple(sorted(node.indices[row] for row in group)))
    return found


def _gpu_list(indices: Iterable[int]) -> str:
    return ", ".join(f"GPU{index}" for index in indices)
