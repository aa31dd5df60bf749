"""Rows F1 to F6 and T1 to T6 of the reference card, each with its worked number."""

import pytest

from cpadvisor.plan.card import (
    CARD_RUNS,
    LARGEST_CP,
    LARGEST_TP_CP,
    LOWEST_CP_TOKENS,
    card_layout,
    effective_batch,
    gpus_needed,
    memory_saving,
    overhead_percent,
    suggested_length,
    table_layout,
    tree_cp,
)
from cpadvisor.plan.layout import Layout
from cpadvisor.plan.problem import survey
from cpadvisor.plan.search import advise
from cpadvisor.plan.workload import Workload


@pytest.fixture
def ask(make_node, h100, llama_8b):
    def ask(sequence_len, *, gpus=8, **workload):
        return advise(make_node(gpus, "NV18"), h100, Workload(model=llama_8b, sequence_len=sequence_len, **workload))

    return ask


def test_f1_gpus_are_the_product_of_the_four_sizes():
    assert gpus_needed(Layout(dp_shard=2, tp=2, cp=2)) == 8
    assert gpus_needed(Layout(dp_replicate=2, dp_shard=2, tp=2, cp=2)) == 16


def test_f2_the_effective_batch_leaves_cp_and_tp_out():
    assert effective_batch(micro_batch=1, accumulation=32, layout=Layout(dp_shard=4, cp=2)) == 128


def test_f3_the_next_multiple_up_is_suggested():
    assert suggested_length(16384, 4) == 16384
    assert suggested_length(10000, 3) == 10002


@pytest.mark.parametrize(("cp", "saving"), [(2, 0.5), (4, 0.75), (8, 0.875)])
def test_f4_the_saving_is_one_less_one_over_cp(cp, saving):
    assert memory_saving(cp) == saving


@pytest.mark.parametrize(("cp", "percent"), [(1, 0), (2, 35), (4, 65), (8, 125)])
def test_f5_the_overhead_is_twenty_and_fifteen_a_hop(cp, percent):
    assert overhead_percent(cp) == percent


@pytest.mark.parametrize(
    ("tokens", "layout"),
    [
        (2048, Layout(dp_shard=8)),
        (4096, Layout(dp_shard=8)),
        (8192, Layout(dp_shard=2, tp=2, cp=2)),
        (16384, Layout(dp_shard=2, tp=2, cp=2)),
        (32768, Layout(tp=2, cp=4)),
        (65536, Layout(tp=2, cp=4)),
    ],
)
def test_f6_the_table_by_length_for_eight_gpus(tokens, layout):
    assert table_layout(tokens) == layout


@pytest.mark.parametrize(("tokens", "cp"), [(4096, 1), (8192, 2), (16384, 2), (32768, 4), (65536, 4), (1048576, 4)])
def test_t6_the_tree_by_length(tokens, cp):
    assert tree_cp(tokens) == cp


def test_t1_below_8k_the_card_and_we_leave_the_sequence_whole(ask):
    assert LOWEST_CP_TOKENS == 8192
    advice = ask(4096)
    assert advice.card.layout == Layout(dp_shard=8) == advice.plans[0].layout
    assert advice.card.agrees


def test_t2_never_above_8_is_not_followed_where_the_length_needs_more(ask):
    assert LARGEST_CP == 8
    longest = ask(2**21, nodes=4, nic_bytes_per_s=50e9)
    assert longest.plans[0].layout.cp > LARGEST_CP
    assert longest.card.why.endswith("does, beyond the 8 of T2.")


def test_t3_cp_groups_are_asked_about_nvlink(ask):
    step = next(step for step in ask(131072).trace if step.rule == "T3")
    assert step.source == "card"
    assert step.answer.startswith("yes")


def test_t4_the_table_keeps_tp_times_cp_within_a_node():
    assert all(table_layout(2**k).tp * table_layout(2**k).cp <= LARGEST_TP_CP for k in range(11, 21))


def test_t5_tp_first_is_answered_by_sharding(ask):
    step = next(step for step in ask(131072).trace if step.rule == "T5")
    assert step.answer.startswith("no: dp_shard × cp divides the states already")


def test_at_32k_the_table_is_called_the_answer_and_the_scenario_is_named(ask):
    card = ask(32768).card
    assert card.layout == Layout(tp=2, cp=4)
    assert "C4 gives dp_shard 2 × cp 4" in card.why
    assert not card.agrees


def test_two_nodes_at_64k_take_scenario_c5(make_node, h100, llama_8b):
    workload = Workload(model=llama_8b, sequence_len=65536, nodes=2)
    layout, row = card_layout(survey(make_node(8, "NV18"), h100, workload))
    assert (layout, row) == (Layout(dp_replicate=2, dp_shard=2, tp=2, cp=2), "C5")


def test_a_card_layout_that_fits_is_compared_in_tokens_a_second(ask):
    card = ask(16384, engine="axolotl-0.20").card
    assert card.layout == Layout(dp_shard=2, tp=2, cp=2)
    assert "tokens/s/GPU against" in card.why


def test_gpus_that_the_card_s_cp_does_not_divide_have_no_card_layout(ask):
    card = ask(32768, gpus=2).card
    assert card.layout is None
    assert "does not divide 2 GPUs" in card.why


def test_f7_the_card_s_four_runs_of_llama_8b():
    assert [
        (run.tokens, run.cp, run.memory_gb, run.tokens_per_s_per_gpu, run.overhead_percent) for run in CARD_RUNS
    ] == [
        (4096, 1, 35, 3000, 0),
        (8192, 2, 25, 2400, 20),
        (16384, 2, 30, 2000, 33),
        (32768, 4, 25, 1200, 60),
    ]


def test_t4_a_cp_group_that_spans_nodes_is_warned_about(ask):
    longest = ask(2**21, nodes=4, nic_bytes_per_s=50e9)
    assert any("(card T3, T4)" in warning for warning in longest.plans[0].warnings)
