from dataclasses import replace

import pytest

from cpadvisor.plan.candidate import Candidate
from cpadvisor.plan.cp_time import PACK_PASSES, cp_backward, cp_forward
from cpadvisor.plan.engines import CPADVISOR
from cpadvisor.plan.layout import Layout
from cpadvisor.plan.links import group_links, see_fabric

MIB = 2**20
NVLINK = 370.8e9
LONG = 1.0
"""Seconds of attention that hide any hop."""


@pytest.fixture
def ring(llama_8b, h100):
    return Candidate(
        model=llama_8b,
        engine=CPADVISOR,
        gpu=h100,
        layout=Layout(cp=8),
        sequence_len=131072,
        recompute="none",
        cp_method="ring",
    )


@pytest.fixture
def links_of(make_node):
    def links(candidate, code="NV18"):
        node = make_node(8, code)
        fabric = see_fabric(node, candidate.gpu, None)
        return group_links(fabric, candidate.layout, node.indices, ulysses=candidate.ulysses)

    return links


def collective(size, *, ranks):
    return 8.4e-6 + (ranks - 1) * 3.4e-6 + (ranks - 1) / ranks * size / (NVLINK * 0.75)


def test_seven_hops_of_a_ring_wait_for_what_a_chunk_of_attention_leaves(ring, links_of):
    hop = 120e-6 + 64 * MIB / NVLINK
    assert cp_forward(ring, links_of(ring), LONG) == (0.0, pytest.approx(7 * hop))
    exposed, hidden = cp_forward(ring, links_of(ring), 8 * 100e-6)
    assert (exposed, hidden) == (pytest.approx(7 * (hop - 100e-6)), pytest.approx(7 * 100e-6))


def test_the_last_gradient_of_a_ring_comes_home_beside_nothing(ring, links_of):
    exposed, hidden = cp_backward(ring, links_of(ring), LONG)
    hop = 120e-6 + 64 * MIB / NVLINK
    assert (exposed, hidden) == (pytest.approx(hop), pytest.approx(hop + 6 * 2 * hop))


def test_gathered_keys_hide_behind_the_own_share_and_their_gradients_behind_nothing(ring, links_of):
    gathered = replace(ring, cp_method="allgather")
    links, whole = links_of(gathered), collective(512 * MIB, ranks=8)
    # K and V of 8 ranks, 512 MiB, read and written once to lie in order; their gradients as often again, twice.
    ordering = 2 * 512 * MIB / gathered.gpu.hbm_bytes_per_s
    assert cp_forward(gathered, links, LONG) == (pytest.approx(ordering), pytest.approx(whole))
    assert cp_forward(gathered, links, 8 * 1e-3) == (pytest.approx(whole - 1e-3 + ordering), pytest.approx(1e-3))
    assert cp_backward(gathered, links, LONG) == (pytest.approx(whole + 3 * ordering), pytest.approx(whole))


def test_heads_are_exchanged_once_forward_and_twice_backward_and_packed_each_time(ring, links_of):
    # 320 MiB a rank, half of it before and half after the kernel.
    heads = replace(ring, cp_method="ulysses", ulysses=8)
    links = links_of(heads)
    once = 2 * collective(160 * MIB, ranks=8) + PACK_PASSES * 320 * MIB / heads.gpu.hbm_bytes_per_s
    assert cp_forward(heads, links, LONG) == (pytest.approx(once), 0.0)
    assert cp_backward(heads, links, LONG) == (pytest.approx(2 * once), 0.0)


def test_usp_exchanges_heads_over_neighbours_and_sends_larger_shares_round_the_rest(ring, links_of):
    both = replace(ring, cp_method="usp", ulysses=4)
    exposed, hidden = cp_forward(both, links_of(both), LONG)
    once = 2 * collective(160 * MIB, ranks=4) + PACK_PASSES * 320 * MIB / both.gpu.hbm_bytes_per_s
    assert exposed == pytest.approx(once)
    assert hidden == pytest.approx(120e-6 + 64 * MIB / NVLINK)


def test_without_context_parallelism_nothing_travels(ring, links_of):
    one = replace(ring, layout=Layout(dp_shard=8), cp_method="none")
    assert cp_forward(one, links_of(one), LONG) == cp_backward(one, links_of(one), LONG) == (0.0, 0.0)
