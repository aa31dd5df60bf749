"""What each process group can move: the slowest link on its path, the rate over it, and what one message costs.

A CP ring is held to its slowest hop in rank order. A collective's ring is NCCL's own choice, so it is held to the
slowest hop of the best tour of its members; across nodes each member drives its own NIC.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations

from cpadvisor.fabric import best_ring
from cpadvisor.hardware import GpuSpec, link_bytes_per_s
from cpadvisor.node import Node, is_nvlink
from cpadvisor.plan.layout import Layout

NETWORK = "network"

ASSUMED_NIC_BYTES_PER_S = 50e9
"""One 400 Gbit/s NIC a GPU, as HGX nodes are sold; taken where several nodes are planned without a rate."""

COLLECTIVE_SHARE = 0.75
"""Share of the link that a collective's ring reaches: 274 of 371 GB/s for 1 GiB all-gathers on 2 x H200 (measured)."""

EXCHANGE_S = 120e-6
"""One batch of isend and irecv issued from Python: the floor measured on 2 x H200."""
COLLECTIVE_BASE_S = 8.4e-6
HOP_S = {"nvlink": 3.4e-6, "pcie": 5.7e-6, NETWORK: 14e-6}
"""NCCL's own latencies of a ring with the simple protocol (nccl src/graph/tuning.cc)."""
GLOO_S = 200e-6
"""One gloo message between processes of a host. An estimate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupLink:
    """The path of one kind of group; the worst of all groups of that kind."""

    members: int
    worst: str | None
    """The code of the slowest link, `network` between nodes, None for a group of one."""
    bytes_per_s: float
    """Over that link, one way, before the share that collectives reach."""
    exchange_s: float
    hop_s: float

    @property
    def crosses_nodes(self) -> bool:
        """Whether the slowest link is the network."""
        return self.worst == NETWORK

    def exchange(self, size: float) -> float:
        """Seconds in which each member sends `size` bytes to its neighbour: latency + bytes / rate."""
        return self.exchange_s + size / self.bytes_per_s if self.members > 1 else 0.0

    def gather(self, size: float) -> float:
        """Seconds to all-gather, reduce-scatter or all-to-all to `size` bytes in all on each member.

        base + (n - 1) x hop latency + (n - 1) / n x bytes / rate. 1 GiB over 8 GPUs at 371 GB/s x 0.75: 3.4 ms.
        """
        if self.members == 1:
            return 0.0
        others = self.members - 1
        moved = size * others / self.members
        return COLLECTIVE_BASE_S + others * self.hop_s + moved / (self.bytes_per_s * COLLECTIVE_SHARE)

    def all_reduce(self, size: float) -> float:
        """Seconds to all-reduce `size` bytes: a reduce-scatter and an all-gather."""
        return 2 * self.gather(size)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fabric:
    """A node seen by the planner: the GPU's rates, and the network between nodes."""

    node: Node
    gpu: GpuSpec
    nic_bytes_per_s: float

    @property
    def gpus(self) -> int:
        """GPUs of one node."""
        return len(self.node.gpus)

    def code(self, pair: tuple[int, int]) -> str | None:
        """The worse code of the two directions between two rows."""
        there, back = self.node.links[pair[0]][pair[1]], self.node.links[pair[1]][pair[0]]
        return min((there, back), key=lambda code: link_bytes_per_s(self.gpu, code))


def see_fabric(node: Node, gpu: GpuSpec, nic_bytes_per_s: float | None) -> Fabric:
    """The fabric of a node; an unknown NIC is taken for 400 Gbit/s."""
    return Fabric(node=node, gpu=gpu, nic_bytes_per_s=nic_bytes_per_s or ASSUMED_NIC_BYTES_PER_S)


def group_links(fabric: Fabric, layout: Layout, order: tuple[int, ...], *, ulysses: int = 1) -> Mapping[str, GroupLink]:
    """The link of each kind of group: `tp`, `cp`, `fsdp` (dp_shard x cp), `dp_replicate`, and those of `cp_links`."""
    rows = tuple(fabric.node.indices.index(index) for index in order)
    tp, cp = layout.tp, layout.cp
    return {
        **cp_links(fabric, layout, order, ulysses=ulysses),
        "tp": _collective(fabric, rows, stride=1, degree=tp),
        "cp": _collective(fabric, rows, stride=tp, degree=cp),
        "fsdp": _collective(fabric, rows, stride=tp, degree=layout.shard_group),
        "dp_replicate": _collective(fabric, rows, stride=tp * layout.shard_group, degree=layout.dp_replicate),
    }


def cp_links(fabric: Fabric, layout: Layout, order: tuple[int, ...], *, ulysses: int) -> Mapping[str, GroupLink]:
    """The parts of the cp group where `ulysses` neighbours exchange heads.

    `cp_heads` between those neighbours, `cp_ring` from one rank of the ring to the next, `cp_home` between any two of
    the ring, as gradients go straight home.
    """
    rows = tuple(fabric.node.indices.index(index) for index in order)
    stride, ring = layout.tp * ulysses, layout.cp // ulysses
    return {
        "cp_heads": _pairs(fabric, rows, stride=layout.tp, degree=ulysses),
        "cp_ring": _ring(fabric, rows, stride=stride, degree=ring),
        "cp_home": _pairs(fabric, rows, stride=stride, degree=ring),
    }


def tp_link(fabric: Fabric, layout: Layout, order: tuple[int, ...]) -> GroupLink:
    """The link of the TP groups alone."""
    rows = tuple(fabric.node.indices.index(index) for index in order)
    return _collective(fabric, rows, stride=1, degree=layout.tp)


def _inside(gpus: int, *, stride: int, degree: int) -> int:
    """Ranks of one group that share a node; 1 where they are spread one a node or do not fall evenly."""
    if stride >= gpus or gpus % stride:
        return 1
    room = gpus // stride
    if room % degree == 0:
        return degree
    return room if degree % room == 0 else 1


def _local_groups(rows: tuple[int, ...], *, stride: int, members: int) -> Iterable[tuple[int, ...]]:
    block = stride * members
    for base in range(0, len(rows) - block + 1, block):
        for offset in range(stride):
            yield tuple(rows[base + offset + member * stride] for member in range(members))


def _ring(fabric: Fabric, rows: tuple[int, ...], *, stride: int, degree: int) -> GroupLink:
    """A send/recv ring in rank order: across nodes one rank's NIC carries the hop."""
    inside = _inside(fabric.gpus, stride=stride, degree=degree)
    if inside < degree:
        return _network(fabric, degree, rate=fabric.nic_bytes_per_s)
    hops = [
        (group[member], group[(member + 1) % degree])
        for group in _local_groups(rows, stride=stride, members=degree)
        for member in range(degree)
    ]
    return _over(fabric, degree, hops)


def _pairs(fabric: Fabric, rows: tuple[int, ...], *, stride: int, degree: int) -> GroupLink:
    """Messages between any two members: held to the slowest pair, and across nodes to each one's own NIC."""
    inside = _inside(fabric.gpus, stride=stride, degree=degree)
    if inside < degree:
        return _network(fabric, degree, rate=fabric.nic_bytes_per_s)
    groups = _local_groups(rows, stride=stride, members=degree)
    return _over(fabric, degree, [pair for group in groups for pair in combinations(group, 2)])


def _collective(fabric: Fabric, rows: tuple[int, ...], *, stride: int, degree: int) -> GroupLink:
    """NCCL's own ring: inside a node the best tour, across nodes at most the NICs of the members of a node together."""
    inside = _inside(fabric.gpus, stride=stride, degree=degree)
    hops = [
        hop
        for group in _local_groups(rows, stride=stride, members=inside)
        if inside > 1
        for hop in _best_hops(fabric, group)
    ]
    if inside == degree:
        return _over(fabric, degree, hops)
    local = _over(fabric, degree, hops).bytes_per_s if hops else float("inf")
    return _network(fabric, degree, rate=min(local, fabric.nic_bytes_per_s * inside))


def _best_hops(fabric: Fabric, group: tuple[int, ...]) -> list[tuple[int, int]]:
    indices = fabric.node.indices
    ring = best_ring(fabric.node, tuple(indices[row] for row in group))
    assert ring is not None, f"a group of {len(group)} GPUs has a ring"
    tour = [indices.index(index) for index in ring.order]
    return list(zip(tour, [*tour[1:], tour[0]], strict=True))


def _over(fabric: Fabric, degree: int, hops: list[tuple[int, int]]) -> GroupLink:
    if degree == 1 or not hops:
        return GroupLink(members=degree, worst=None, bytes_per_s=float("inf"), exchange_s=0.0, hop_s=0.0)
    worst = min(hops, key=lambda hop: link_bytes_per_s(fabric.gpu, fabric.code(hop)))
    code = fabric.code(worst)
    kind = "nvlink" if is_nvlink(code) else "pcie"
    on_cpu = fabric.gpu.is_cpu
    return GroupLink(
        members=degree,
        worst=code or "SYS",
        bytes_per_s=link_bytes_per_s(fabric.gpu, code),
        exchange_s=GLOO_S if on_cpu else EXCHANGE_S,
        hop_s=GLOO_S if on_cpu else HOP_S[kind],
    )


def _network(fabric: Fabric, degree: int, *, rate: float) -> GroupLink:
    return GroupLink(members=degree, worst=NETWORK, bytes_per_s=rate, exchange_s=EXCHANGE_S, hop_s=HOP_S[NETWORK])
