from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cpadvisor.node import link_rank
from cpadvisor.plan.layout import Layout
from cpadvisor.plan.links import group_links, see_fabric
from cpadvisor.plan.placement import LocalShape, local_shape, rank_order

# NVIDIA DGX-1 with Tesla V100 white paper (WP-08437-002), figure 4: the hybrid cube mesh.
DOUBLE = {(0, 3), (0, 4), (1, 2), (1, 5), (2, 3), (4, 7), (5, 6), (6, 7)}
SINGLE = {(0, 1), (0, 2), (1, 3), (2, 6), (3, 7), (4, 5), (4, 6), (5, 7)}
BRIDGED = {(0, 5), (1, 2), (3, 4), (6, 7)}
CODES = ("NV18", "NV2", "PIX", "NODE", "SYS")


def cube_mesh(low, high):
    return "NV2" if (low, high) in DOUBLE else "NV1" if (low, high) in SINGLE else "SYS"


def bridged_pairs(low, high):
    return "NV12" if (low, high) in BRIDGED else "NODE" if (low < 3) == (high < 3) else "SYS"


def test_dgx_1v_rings_over_two_nvlinks_on_every_hop(make_node, h100):
    node = make_node(8, cube_mesh)
    order = rank_order(node, Layout(cp=8))
    assert order == (0, 3, 2, 1, 5, 6, 7, 4)
    assert group_links(see_fabric(node, h100, None), Layout(cp=8), order)["cp_ring"].worst == "NV2"


@pytest.mark.parametrize("layout", [Layout(dp_shard=4, cp=2), Layout(dp_shard=4, tp=2)])
def test_groups_of_two_sit_on_the_bridges_of_non_neighbours(make_node, layout):
    order = rank_order(make_node(8, bridged_pairs), layout)
    pairs = {tuple(sorted(order[start : start + 2])) for start in range(0, 8, 2)}
    assert pairs == BRIDGED


def test_tp_takes_the_bridges_before_cp_does(make_node, h100):
    node = make_node(8, bridged_pairs)
    layout = Layout(dp_shard=2, tp=2, cp=2)
    links = group_links(see_fabric(node, h100, None), layout, rank_order(node, layout))
    assert links["tp"].worst == "NV12"
    assert links["cp_ring"].worst in ("NODE", "SYS")


def test_alike_links_leave_the_gpus_in_their_own_order(make_node):
    assert rank_order(make_node(8, "NV18"), Layout(dp_shard=2, tp=2, cp=2)) == tuple(range(8))


def test_cp_groups_stay_inside_islands_of_four(make_node, h100):
    node = make_node(8, lambda low, high: "NV12" if low % 2 == high % 2 else "SYS")
    layout = Layout(dp_shard=2, cp=4)
    order = rank_order(node, layout)
    assert {frozenset(order[:4]), frozenset(order[4:])} == {frozenset({0, 2, 4, 6}), frozenset({1, 3, 5, 7})}
    assert group_links(see_fabric(node, h100, None), layout, order)["cp_ring"].worst == "NV12"


def test_a_cp_group_over_two_nodes_has_an_open_chain_on_each():
    shape = local_shape(Layout(dp_shard=2, cp=8), 4)
    assert shape == LocalShape(gpus=4, tp=1, cp=4, dp_shard=1, ring_closes=False)


def test_a_ring_between_nodes_has_one_nic_and_a_collective_has_those_of_all_members(make_node, h100):
    fabric = see_fabric(make_node(8, "NV18"), h100, 50e9)
    links = group_links(fabric, Layout(cp=16), tuple(range(8)))
    assert links["cp_ring"].crosses_nodes
    assert links["cp_ring"].bytes_per_s == 50e9
    # Eight NICs of 50 GB/s carry more than the 18 x 20.6 GB/s of NVLink.
    assert links["fsdp"].bytes_per_s == pytest.approx(18 * 20.6e9)
    replicas = group_links(fabric, Layout(dp_replicate=2, dp_shard=8), tuple(range(8)))["dp_replicate"]
    assert replicas.bytes_per_s == 50e9


@st.composite
def small_nodes(draw):
    count = draw(st.sampled_from([2, 4, 6]))
    pairs = [(low, high) for high in range(count) for low in range(high)]
    return count, {pair: draw(st.sampled_from(CODES)) for pair in pairs}


def qualities(node, order, layout):
    """Worst link of TP, then of the CP ring, by brute reading of the groups."""
    worst = []
    for axis in ("tp", "cp"):
        ranks = [
            link_rank(node.link(order[group[i]], order[group[j]]))
            for group in layout.groups(axis)
            for i in range(len(group))
            for j in (range(i) if axis == "tp" else [(i + 1) % len(group)])
            if i != j
        ]
        worst.append(min(ranks, default=0))
    return tuple(worst)


@settings(max_examples=40, deadline=None)
@given(drawn=small_nodes(), data=st.data())
def test_no_other_order_gives_tp_or_then_cp_a_better_worst_link(make_node, drawn, data):
    count, codes = drawn
    node = make_node(count, lambda low, high: codes[low, high])
    tp = data.draw(st.sampled_from([d for d in (1, 2) if count % d == 0]))
    cp = data.draw(st.sampled_from([d for d in range(1, count // tp + 1) if count // tp % d == 0]))
    layout = Layout(dp_shard=count // tp // cp, tp=tp, cp=cp)
    found = qualities(node, rank_order(node, layout), layout)
    best = max(qualities(node, order, layout) for order in permutations(range(count)))
    assert found == best


@given(count=st.integers(1, 9), data=st.data())
def test_every_order_is_a_permutation_of_the_gpus(make_node, count, data):
    codes = {(i, j): data.draw(st.sampled_from(CODES)) for j in range(count) for i in range(j)}
    node = make_node(count, lambda low, high: codes[low, high])
    tp = data.draw(st.sampled_from([d for d in range(1, count + 1) if count % d == 0]))
    assert sorted(rank_order(node, Layout(tp=tp, cp=count // tp))) == list(range(count))
