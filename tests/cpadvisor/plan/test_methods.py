from dataclasses import replace

import pytest

from cpadvisor.plan.engines import AXOLOTL_021, CPADVISOR
from cpadvisor.plan.layout import Layout
from cpadvisor.plan.methods import (
    Way,
    asked_way,
    cp_ways,
    degree_problem,
    fitting_way,
    method_problem,
    selected_degree,
    selected_method,
    usp_degrees,
    way_label,
)
from runtime.heads import exchanges


def ways(model, layout):
    return [
        way_label(way.method, cp=layout.cp, ulysses=way.ulysses)
        for way in cp_ways(CPADVISOR, model, layout, gpus_per_node=8)
    ]


def test_the_bundled_trainer_has_every_way_that_the_heads_allow(llama_8b):
    assert ways(llama_8b, Layout(cp=2)) == ["ring", "allgather", "ulysses"]
    assert ways(llama_8b, Layout(cp=8)) == ["ring", "allgather", "ulysses", "usp 4×2", "usp 2×4"]
    assert ways(llama_8b, Layout(cp=9)) == ["ring", "allgather"]
    assert ways(llama_8b, Layout(cp=1)) == ["none"]


def test_kv_heads_fewer_than_ranks_are_repeated(llama_8b):
    # 32 query heads and 8 KV heads over 16 ranks: two queries a rank, each KV head on two of them.
    assert degree_problem(llama_8b, Layout(cp=16), 16) is None
    assert ways(llama_8b, Layout(cp=16))[2:] == ["ulysses", "usp 8×2", "usp 4×4", "usp 2×8"]


def test_heads_that_do_not_divide_are_named(llama_8b):
    qwen = replace(llama_8b, heads=28, kv_heads=4)
    assert method_problem(qwen, Layout(cp=8), "ulysses") == "28 query heads do not divide over 8 ranks"
    assert usp_degrees(qwen, Layout(cp=8)) == (4, 2)
    three = replace(llama_8b, heads=12, kv_heads=3)
    assert degree_problem(three, Layout(cp=2), 2) == "3 KV heads neither divide over 2 ranks nor repeat evenly on them"


def test_tp_leaves_its_share_of_heads(llama_8b):
    # 16 heads and 4 KV heads of each TP rank: over 32 ranks there is half a head.
    assert degree_problem(llama_8b, Layout(cp=16, tp=2), 16) is None
    assert degree_problem(llama_8b, Layout(cp=32, tp=2), 32) == "16 query heads do not divide over 32 ranks"


def test_usp_leaves_a_ring(llama_8b):
    assert method_problem(llama_8b, Layout(cp=2), "usp") == "cp 2 has no divisor between 1 and itself"
    assert method_problem(llama_8b, Layout(cp=9), "usp") == "32 query heads do not divide over 3 ranks"
    assert method_problem(llama_8b, Layout(cp=4), "usp") is None
    assert method_problem(llama_8b, Layout(cp=2), "ring") is None
    assert method_problem(llama_8b, Layout(), "usp") is None


@pytest.mark.parametrize(
    ("block", "cp", "way"),
    [
        ({}, 4, Way(method="ring")),
        ({"method": "allgather"}, 4, Way(method="allgather")),
        ({"method": "ulysses"}, 4, Way(method="ulysses", ulysses=4)),
        ({"method": "usp"}, 8, Way(method="usp", ulysses=4)),
        ({"method": "usp", "ulysses_degree": 2}, 8, Way(method="usp", ulysses=2)),
        ({"method": "usp", "ulysses_degree": 3}, 8, Way(method="usp", ulysses=4)),
        ({"method": "usp", "ulysses_degree": [2]}, 8, Way(method="usp", ulysses=4)),
        ({"method": "none"}, 4, Way()),
        ({"method": "usp", "ulysses_degree": 2}, 1, Way()),
        ({"method": ["ring"]}, 4, Way(method="ring")),
    ],
)
def test_a_block_is_read_as_the_trainer_reads_it(llama_8b, block, cp, way):
    assert asked_way(block, llama_8b, Layout(cp=cp)) == way


@pytest.mark.parametrize(
    ("way", "cp", "fits"),
    [
        (Way(method="ulysses", ulysses=4), 2, Way(method="ulysses", ulysses=2)),
        (Way(method="ulysses", ulysses=8), 12, Way(method="usp", ulysses=4)),
        (Way(method="usp", ulysses=2), 8, Way(method="usp", ulysses=2)),
        (Way(method="usp", ulysses=2), 2, Way(method="ring")),
        (Way(method="allgather"), 9, Way(method="allgather")),
        (Way(method="ring"), 1, Way()),
        (Way(), 2, Way(method="ring")),
    ],
)
def test_the_method_stays_where_it_runs_another_layout_and_gives_way_to_the_nearest(llama_8b, way, cp, fits):
    assert fitting_way(way, llama_8b, Layout(cp=cp)) == fits


@pytest.mark.parametrize(("heads", "kv_heads"), [(32, 8), (28, 4), (12, 3), (40, 40), (8, 1)])
def test_the_planner_and_the_trainer_allow_the_same_degrees(llama_8b, heads, kv_heads):
    model = replace(llama_8b, heads=heads, kv_heads=kv_heads)
    for degree in range(1, 65):
        assert (degree_problem(model, Layout(cp=degree), degree) is None) == exchanges(heads, kv_heads, degree)


# axolotl-ringmaster 0.2.7, strategies/usp.py:29-90, on nodes of 8: KV heads a TP rank, cp, ranks that exchange heads.
@pytest.mark.parametrize(
    ("kv_heads", "cp", "ulysses", "method"),
    [
        (8, 2, 2, "ulysses"),
        (8, 8, 8, "ulysses"),
        (8, 16, 8, "usp"),
        (4, 4, 4, "ulysses"),
        (4, 8, 4, "usp"),
        (4, 16, 4, "usp"),
        (2, 2, 2, "ulysses"),
        (2, 4, 2, "usp"),
        (2, 8, 2, "usp"),
        (1, 4, 1, "allgather"),
        (8, 1, 1, "none"),
    ],
)
def test_axolotl_s_method_follows_its_selector(llama_8b, kv_heads, cp, ulysses, method):
    model, layout = replace(llama_8b, kv_heads=kv_heads), Layout(cp=cp)
    degree = selected_degree(model, layout, gpus_per_node=8)
    assert (degree, selected_method(layout, ulysses=degree)) == (ulysses, method)
    assert cp_ways(AXOLOTL_021, model, layout, gpus_per_node=8) == (Way(method=method, ulysses=degree),)


def test_tp_leaves_fewer_kv_heads_to_exchange(llama_8b):
    assert selected_degree(llama_8b, Layout(tp=4, cp=4), gpus_per_node=16) == 2
