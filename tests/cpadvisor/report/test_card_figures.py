"""The figures beside the card's: worked numbers by hand, and laws that ours keep."""

import pytest

from cpadvisor.card import load_rows
from cpadvisor.report.card_figures import FIGURES, figures_of

GIB = 2**30


@pytest.mark.parametrize("row", load_rows().values(), ids=lambda row: row.id)
def test_each_table_has_a_head_for_every_figure_and_no_other(row):
    figures = figures_of(row.id)
    assert (figures is None) == (row.columns is None)
    for line in figures or ():
        assert set(line) == set(row.columns.heads)


def test_every_computation_belongs_to_a_row():
    assert set(FIGURES) <= set(load_rows())


def test_f1_and_f2_are_the_card_s_worked_numbers():
    assert [(line["row"], line["gpus"]) for line in figures_of("F1")] == [("C2", 8), ("C5", 16)]
    assert figures_of("F2")[0]["sequences"] == 128  # 1 x 32 x 4 x 1


def test_f3_suggests_10002_and_names_both_neighbours():
    whole, uneven, _ = figures_of("F3")
    assert (whole["card_local_tokens"], whole["below_tokens"], whole["above_tokens"]) == (4096, 16384, None)
    # 2 x 3 = 6 chunks: 1,666 x 6 and 1,667 x 6.
    assert (uneven["card_tokens"], uneven["below_tokens"], uneven["above_tokens"]) == (10002, 9996, 10002)


def test_f4_activations_follow_the_card_and_the_peak_does_not():
    lines = figures_of("F4")
    assert [line["card_share"] for line in lines] == [0, 0.5, 0.75, 0.875]
    assert [line["activations_share"] for line in lines] == [0, 0.5, 0.75, 0.875]
    # 16 bytes x 8.03e9 parameters over 8 GPUs are 15 GiB that no cp divides.
    assert all(line["peak_bytes"] > 15 * GIB for line in lines)
    assert all(line["peak_share"] < line["card_share"] for line in lines[1:])


def test_f5_says_the_card_s_percentages_and_a_share_that_falls_with_the_length():
    lines = figures_of("F5")
    assert [line["card_share"] for line in lines[:3]] == [0.35, 0.65, 1.25]
    # 2 tensors x 16,384 local tokens x 8 heads x 128 x 2 bytes at 32K and cp 2: 64 MiB.
    assert next(line["hop_bytes"] for line in lines if (line["tokens"], line["cp"]) == (32768, 2)) == 64 * 2**20
    assert all(line["hops"] == line["cp"] - 1 for line in lines)
    for cp in (2, 4, 8):
        shares = [line["ring_share"] for line in lines if line["cp"] == cp]
        assert shares == sorted(shares, reverse=True)
        # 8,192 tokens over 8 ranks leave less attention a chunk than a message takes at least; the rest hides.
        assert all(0 < share < 0.1 for share in shares)
        assert all(share < 0.01 for share in shares[1:])


def test_f6_lays_the_card_s_table_beside_the_first_choice():
    lines = {line["tokens"]: line for line in figures_of("F6")}
    assert lines[4096]["card_layout"] == lines[4096]["our_layout"] == "dp_shard 8"
    assert lines[32768]["card_layout"] == "cp 4 × tp 2"
    assert all(line["peak_bytes"] < 80 * GIB for line in lines.values())


def test_f7_recomputed_needs_less_memory_and_more_time():
    lines = figures_of("F7")
    assert [(line["tokens"], line["cp"]) for line in lines] == [(4096, 1), (8192, 2), (16384, 2), (32768, 4)]
    for line in lines:
        assert 15 * GIB < line["recomputed_peak_bytes"] < line["peak_bytes"] < 80 * GIB
        assert line["recomputed_tokens_per_s_per_gpu"] < line["tokens_per_s_per_gpu"]
    assert lines[0]["ring_share"] == 0


def test_d1_the_card_s_remedy_doubles_the_batch():
    # 1 x 8 x 4, 1 x 16 x 2, 1 x 32 x 2
    assert [line["sequences"] for line in figures_of("D1")] == [32, 32, 64]


def test_k5_nvlink_comes_first_and_pcie_is_some_ten_times_slower():
    lines = figures_of("K5")
    assert [line["link"][:2] for line in lines] == ["NV", "NV", "NO", "NO"]
    assert lines[0]["times_slower"] == 1
    assert all(10 < line["times_slower"] < 100 for line in lines[2:])
    # 2 x (8 / 32) x FLOP/s / (bytes/s): more tokens the slower the link beside its GPU.
    assert lines[2]["tokens_to_hide"] > 5 * lines[0]["tokens_to_hide"]


def test_t2_more_cp_reaches_further_on_the_same_gpus():
    reach = [line["longest_tokens"] for line in figures_of("T2")]
    assert reach == sorted(reach)
    assert reach[3] > 4 * reach[0]


def test_p2_is_the_table_of_four_gpus():
    assert [[line[f"gpu_{rank}"] for rank in range(4)] for line in figures_of("P2")] == [
        [0, 1, 2, 3],
        [3, 0, 1, 2],
        [2, 3, 0, 1],
        [1, 2, 3, 0],
    ]
