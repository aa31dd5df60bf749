from cpadvisor import catalog
from cpadvisor.plan.layout import Layout
from cpadvisor.plan.links import group_links, see_fabric
from cpadvisor.plan.placement import rank_order
from cpadvisor.probe.recorded import load_node


def test_a_ring_has_better_links_than_what_goes_straight_between_any_two(h100):
    # DGX-1V: every hop of its best ring is two NVLinks, and other pairs have one or none.
    fabric, layout = see_fabric(load_node("dgx-1v"), h100, None), Layout(cp=8)
    links = group_links(fabric, layout, rank_order(fabric.node, layout))
    assert links["cp_ring"].worst == "NV2"
    assert links["cp_home"].bytes_per_s < links["cp_ring"].bytes_per_s
    assert links["cp_heads"].members == 1


def test_neighbours_exchange_heads_and_every_second_rank_is_on_a_ring(h100):
    fabric, layout = see_fabric(load_node("dgx-1v"), h100, None), Layout(cp=8)
    links = group_links(fabric, layout, rank_order(fabric.node, layout), ulysses=2)
    assert (links["cp_heads"].members, links["cp_ring"].members, links["cp_home"].members) == (2, 4, 4)
    assert links["cp_heads"].worst == "NV2"


def test_across_nodes_each_rank_has_its_own_network_card():
    gpu = catalog.load_gpus()["h100-80g"]
    fabric, layout = see_fabric(load_node("dgx-h100"), gpu, 50e9), Layout(cp=16)
    order = fabric.node.indices
    whole = group_links(fabric, layout, order, ulysses=16)
    assert (whole["cp_heads"].worst, whole["cp_heads"].bytes_per_s) == ("network", 50e9)
    split = group_links(fabric, layout, order, ulysses=8)
    assert split["cp_heads"].worst == "NV18"
    assert (split["cp_ring"].members, split["cp_ring"].worst, split["cp_home"].worst) == (2, "network", "network")
