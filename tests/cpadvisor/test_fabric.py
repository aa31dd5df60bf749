from itertools import permutations

from hypothesis import given, settings
from hypothesis import strategies as st

from cpadvisor.fabric import best_ring, fabric_warnings, islands
from cpadvisor.node import Gpu, Node, link_rank

# NVIDIA DGX-1 with Tesla V100 white paper (WP-08437-002), figure 4: the hybrid cube mesh.
DGX1V_NV2 = {(0, 3), (0, 4), (1, 2), (1, 5), (2, 3), (4, 7), (5, 6), (6, 7)}
DGX1V_NV1 = {(0, 1), (0, 2), (1, 3), (2, 6), (3, 7), (4, 5), (4, 6), (5, 7)}


def make_node(size, code, *, name=None):
    links = [[None] * size for _ in range(size)]
    for high in range(size):
        for low in range(high):
            links[low][high] = links[high][low] = code(low, high)
    gpus = tuple(Gpu(index=index, name=name) for index in range(size))
    return Node(name="made", source="topo", gpus=gpus, links=tuple(map(tuple, links)))


def dgx1v():
    return make_node(8, lambda a, b: "NV2" if (a, b) in DGX1V_NV2 else "NV1" if (a, b) in DGX1V_NV1 else "SYS")


def pairs_node(pairs):
    return make_node(8, lambda a, b: "NV12" if (a, b) in pairs else "NODE" if a // 4 == b // 4 else "SYS")


@st.composite
def random_nodes(draw, *, most, codes=("NV1", "NV2", "NV18", "PIX", "PHB", "SYS")):
    size = draw(st.integers(1, most))
    drawn = {(low, high): draw(st.sampled_from(codes)) for high in range(size) for low in range(high)}
    return make_node(size, lambda low, high: drawn[low, high])


def test_eight_gpus_behind_nvswitch_are_one_island_and_ring_in_their_own_order():
    node = make_node(8, lambda a, b: "NV18")
    assert islands(node) == (tuple(range(8)),)
    ring = best_ring(node)
    assert ring is not None and (ring.order, ring.worst) == (tuple(range(8)), "NV18")
    assert fabric_warnings(node) == ()


def test_a_dgx_1v_rings_over_two_links_on_every_hop_and_falls_into_two_quads():
    node = dgx1v()
    ring = best_ring(node)
    assert ring is not None and (ring.order, ring.worst) == ((0, 3, 2, 1, 5, 6, 7, 4), "NV2")
    assert islands(node) == ((0, 1, 2, 3), (4, 5, 6, 7))
    (warning,) = fabric_warnings(node)
    assert "12 of 28 pairs" in warning and "0,3,2,1,5,6,7,4" in warning and "NV2" in warning


def test_bridged_pairs_are_found_where_their_indices_are_no_neighbours():
    node = pairs_node({(0, 5), (1, 2), (3, 4), (6, 7)})
    assert islands(node) == ((0, 5), (1, 2), (3, 4), (6, 7))
    ring = best_ring(node)
    assert ring is not None
    hops = set(zip(ring.order, (*ring.order[1:], ring.order[0]), strict=True))
    assert {frozenset(pair) for pair in ((0, 5), (1, 2), (3, 4), (6, 7))} <= {frozenset(hop) for hop in hops}
    assert fabric_warnings(node) == ()


def test_a_gpu_that_fell_off_nvlink_is_named_with_the_command_that_shows_it():
    node = make_node(8, lambda a, b: "NODE" if 2 in (a, b) else "NV18", name="NVIDIA B200")
    (warning,) = fabric_warnings(node)
    assert warning.startswith("GPU2 fell off NVLink") and "-i 2" in warning and "NV18" in warning
    assert islands(node) == ((0, 1, 3, 4, 5, 6, 7), (2,))
    ring = best_ring(node)
    assert ring is not None and ring.worst == "NODE"
    without = best_ring(node, (0, 1, 3, 4, 5, 6, 7))
    assert without is not None and without.worst == "NV18"


def test_a_card_of_another_product_beside_nvlink_is_no_fallen_gpu():
    node = make_node(5, lambda a, b: "SYS" if 4 in (a, b) else "NV12", name="NVIDIA A100-SXM4-80GB")
    display = Gpu(index=4, name="NVIDIA DGX Display")
    mixed = Node(name="station", source="nvml", gpus=(*node.gpus[:4], display), links=node.links)
    assert fabric_warnings(mixed) == ()


def test_a_gpu_with_fewer_links_than_its_peers_is_named_with_both_counts():
    node = make_node(4, lambda a, b: "NV16" if 3 in (a, b) else "NV18")
    assert fabric_warnings(node) == ("links are down: GPU3 NV16 where the others have NV18",)


def test_a_missing_bridge_among_pairs_is_told_apart_from_a_fallen_gpu():
    node = make_node(4, lambda a, b: "NV4" if (a, b) == (0, 1) else "NODE")
    (warning,) = fabric_warnings(node)
    assert warning.startswith("GPU2, GPU3 without NVLink") and "bridge" in warning


def test_a_pcie_box_says_so_and_an_sxm_product_without_nvlink_is_doubted():
    (plain,) = fabric_warnings(make_node(2, lambda a, b: "PHB", name="NVIDIA L40S"))
    assert "no NVLink" in plain and "PHB" in plain
    for name in ("NVIDIA A100-SXM4-80GB", "NVIDIA H100 80GB HBM3", "NVIDIA H100 NVL", "NVIDIA B200", "NVIDIA GB200"):
        (doubt,) = fabric_warnings(make_node(2, lambda a, b: "NODE", name=name))
        assert name in doubt and "nvidia-smi topo -m`" in doubt and "fabric manager" in doubt


def test_one_gpu_and_processes_of_a_cpu_have_no_fabric_to_warn_about():
    assert fabric_warnings(make_node(1, lambda a, b: "SYS")) == ()
    assert fabric_warnings(make_node(2, lambda a, b: "SYS", name="cpu")) == ()
    assert best_ring(make_node(1, lambda a, b: "SYS")) is None
    assert islands(make_node(1, lambda a, b: "SYS")) == ((0,),)


def test_indices_with_gaps_keep_their_own_numbers():
    node = dgx1v().subset((7, 4, 5))
    assert islands(node) == ((4, 5, 7),)
    ring = best_ring(node)
    assert ring is not None and (ring.order, ring.worst) == ((4, 5, 7), "NV1")


def test_a_pair_that_is_faster_one_way_counts_as_its_slower_way():
    node = make_node(2, lambda a, b: "NV4")
    torn = Node(name="torn", source="topo", gpus=node.gpus, links=((None, "NV4"), ("SYS", None)))
    assert islands(torn) == ((0,), (1,))
    ring = best_ring(torn)
    assert ring is not None and ring.worst == "SYS"


def test_sixteen_gpus_behind_switches_and_in_pairs_are_ordered_exactly():
    hgx2 = best_ring(make_node(16, lambda a, b: "NV6"))
    assert hgx2 is not None and hgx2.order == tuple(range(16))
    # 8 PIX pairs over two sockets: 8 PIX, 6 NODE and 2 SYS hops, which index order reaches.
    paired = make_node(16, lambda a, b: "PIX" if a // 2 == b // 2 else "NODE" if a // 8 == b // 8 else "SYS")
    ring = best_ring(paired)
    assert ring is not None and (ring.order, ring.worst) == (tuple(range(16)), "SYS")


def test_beyond_sixteen_unlike_gpus_the_tour_is_still_whole():
    node = make_node(24, lambda a, b: f"NV{(a * 7 + b * 3) % 17 + 1}" if (a + b) % 3 else "SYS")
    ring = best_ring(node)
    assert ring is not None and sorted(ring.order) == list(range(24)) and ring.order[0] == 0
    assert sorted(sum(islands(node), ())) == list(range(24))


def brute_islands(node):
    """The least growth string of all partitions into cliques with the fewest groups."""
    size = len(node.gpus)
    strings = [[]]
    for _ in range(size):
        strings = [[*string, group] for string in strings for group in range(max(string, default=-1) + 2)]

    def holds(string):
        return all(
            string[a] != string[b] or (node.links[a][b] or "").startswith("NV") for a in range(size) for b in range(a)
        )

    best = min((string for string in strings if holds(string)), key=lambda string: (max(string), string))
    return tuple(tuple(m for m in range(size) if best[m] == group) for group in range(max(best) + 1))


@settings(max_examples=60, deadline=None)
@given(random_nodes(most=7, codes=("NV1", "NV2", "SYS")))
def test_islands_are_the_fewest_cliques_with_low_indices_first(node):
    assert islands(node) == brute_islands(node)


def hop_ranks(node, order):
    return [link_rank(node.link(a, b)) for a, b in zip(order, (*order[1:], order[0]), strict=True)]


@settings(max_examples=60, deadline=None)
@given(random_nodes(most=7))
def test_the_ring_is_the_best_of_all_permutations(node):
    ring = best_ring(node)
    if len(node.gpus) < 2:
        assert ring is None
        return
    orders = [(0, *rest) for rest in permutations(range(1, len(node.gpus)))]
    best = min(orders, key=lambda o: (-min(hop_ranks(node, o)), -sum(hop_ranks(node, o)), o))
    assert ring is not None and ring.order == best
    assert link_rank(ring.worst) == min(hop_ranks(node, best))


@settings(max_examples=25, deadline=None)
@given(random_nodes(most=12))
def test_islands_partition_the_gpus_and_every_pair_in_one_has_nvlink(node):
    groups = islands(node)
    assert sorted(sum(groups, ())) == list(node.indices)
    assert all((node.link(a, b) or "").startswith("NV") for group in groups for a in group for b in group if a != b)
