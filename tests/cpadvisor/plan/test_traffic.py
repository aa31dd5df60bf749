from dataclasses import replace
from functools import partial

import pytest

from cpadvisor.catalog import find_model
from cpadvisor.plan.candidate import Candidate
from cpadvisor.plan.engines import AXOLOTL_021, CPADVISOR
from cpadvisor.plan.layout import Layout
from cpadvisor.plan.methods import Way
from cpadvisor.plan.traffic import (
    forward_halves,
    gather_step_bytes,
    gathered_kv_bytes,
    gradient_halves,
    gradient_hop_bytes,
    heads_step_bytes,
    hop_bytes,
    layer_gather_bytes,
    layer_reduce_bytes,
    rank_step_bytes,
    replica_bytes,
    ring_hop_bytes,
    ring_step_bytes,
    ring_tokens_needed,
    root_gather_bytes,
    tensor_parallel_bytes,
    ulysses_bytes,
)

MIB = 2**20


@pytest.fixture
def ring(llama_8b, h100):
    return Candidate(
        model=llama_8b,
        engine=CPADVISOR,
        gpu=h100,
        layout=Layout(cp=8),
        sequence_len=131072,
        recompute="full",
        cp_method="ring",
    )


def test_llama_8b_at_128k_on_cp_8_sends_64_mib_a_hop():
    assert ring_hop_bytes(tokens=131072, kv_heads=8, head_dim=128, layout=Layout(cp=8)) == 64 * MIB


def test_tensor_parallelism_halves_a_hop(ring):
    assert ring_hop_bytes(tokens=131072, kv_heads=8, head_dim=128, layout=Layout(cp=8, tp=2)) == 32 * MIB
    assert hop_bytes(replace(ring, micro_batch=2)) == 128 * MIB


def test_gradients_go_home_as_wide_as_keys_and_axolotl_s_ring_carries_them_in_float32(ring, cpu):
    assert gradient_hop_bytes(ring) == hop_bytes(ring) == 64 * MIB
    assert gradient_hop_bytes(replace(ring, engine=AXOLOTL_021)) == 128 * MIB
    on_cpu = replace(ring, gpu=cpu)
    assert hop_bytes(on_cpu) == 128 * MIB
    assert gradient_hop_bytes(on_cpu) == 128 * MIB


def test_a_padded_length_is_sent_whole(ring):
    # 10,000 tokens over 3 ranks are 3,334 each: 2 tensors x 3,334 x 8 heads x 128 x 2 bytes.
    padded = replace(ring, engine=AXOLOTL_021, layout=Layout(cp=3), sequence_len=10000)
    assert hop_bytes(padded) == 2 * 3334 * 8 * 128 * 2


def test_ulysses_exchanges_q_k_v_and_the_output(ring):
    # 16,384 tokens x 2 bytes x (2 x 4,096 + 2 x 1,024) = 320 MiB.
    assert ulysses_bytes(replace(ring, cp_method="ulysses", ulysses=8)) == 320 * MIB


def test_gathered_keys_are_those_of_the_ranks_that_exchange_no_heads(ring):
    assert gathered_kv_bytes(replace(ring, ulysses=1)) == 8 * 64 * MIB
    assert gathered_kv_bytes(replace(ring, ulysses=4)) == 2 * 64 * MIB


def test_a_layer_is_gathered_in_bf16_and_reduced_in_the_engine_s_width(ring):
    # 218,112,000 parameters a layer, 1,050,677,248 outside the layers.
    assert layer_gather_bytes(ring) == 2 * 218_112_000
    assert layer_reduce_bytes(ring) == 4 * 218_112_000
    assert layer_reduce_bytes(replace(ring, engine=AXOLOTL_021)) == 2 * 218_112_000
    assert root_gather_bytes(ring) == 2 * 1_050_677_248


def test_replicas_reduce_a_shard_and_tp_sums_the_hidden_state(ring):
    assert replica_bytes(ring) == 4 * 8_030_261_248 // 8
    assert tensor_parallel_bytes(ring) == 16384 * 2 * 4096


def test_grouped_heads_hide_a_hop_from_857_tokens_on_at_350_gigabytes_a_second(ring):
    # 2 x (8 / 32) x 600e12 / 350e9 = 857.
    assert ring_tokens_needed(ring, flops_per_s=600e12, bytes_per_s=350e9) == pytest.approx(857, abs=0.5)


def test_exchanged_heads_make_a_share_of_more_tokens_and_fewer_heads():
    hop = partial(ring_hop_bytes, tokens=131072, kv_heads=8, head_dim=128, layout=Layout(cp=8))
    assert hop(ulysses=2) == 64 * MIB
    # 2 heads on each of 2 ranks are 4 heads, of which there are 2: each is there twice.
    assert ring_hop_bytes(tokens=131072, kv_heads=2, head_dim=128, layout=Layout(cp=8), ulysses=4) == 32 * MIB


def test_heads_fewer_than_ranks_are_repeated_before_they_are_exchanged(ring):
    # 16 ranks, 8 heads: 8,192 tokens x 2 bytes x (2 x 4,096 + 2 x 2,048) = 192 MiB.
    assert ulysses_bytes(replace(ring, layout=Layout(cp=16), cp_method="ulysses", ulysses=16)) == 192 * MIB


@pytest.mark.parametrize("ranks", [2, 3, 4, 8])
def test_halves_are_what_a_walk_round_the_ring_counts(ranks):
    # A share leaves its source downwards. At each hop it is whole while its source is above the receiver.
    sent, home = [0] * ranks, [0] * ranks
    for source in range(ranks):
        for hop in range(1, ranks):
            receiver = (source - hop) % ranks
            halves = 2 if source > receiver else 1
            sent[(receiver + 1) % ranks] += halves
            home[receiver] += halves
    assert [forward_halves(ranks, rank) for rank in range(ranks)] == sent
    assert [gradient_halves(ranks, rank) for rank in range(ranks)] == home
    # 0.75 (P - 1) shares on average.
    assert sum(sent) == sum(home) == 1.5 * (ranks - 1) * ranks


def test_what_a_rank_sends_in_a_step_depends_on_its_place_in_the_ring():
    # tiny at 512 tokens over 2: a share is 2 tensors x 256 tokens x 4 heads x 16 x 4 bytes = 128 KiB.
    hop = ring_hop_bytes(tokens=512, kv_heads=4, head_dim=16, layout=Layout(cp=2), width=4)
    assert hop == 128 * 1024
    step = partial(ring_step_bytes, hop=hop, layers=2)
    assert step(ranks=2, rank=0, recomputed_layers=0, micro_batches=1) == 512 * 1024
    assert step(ranks=2, rank=1, recomputed_layers=0, micro_batches=1) == 640 * 1024
    # A recomputed layer repeats its forward, each micro-batch takes all of it.
    assert step(ranks=2, rank=1, recomputed_layers=2, micro_batches=1) == (640 + 256) * 1024
    assert step(ranks=2, rank=0, recomputed_layers=0, micro_batches=3) == 3 * 512 * 1024
    # cp 4, rank 1: 6 halves forward, 6 again, 5 home; two layers of 64 KiB halves.
    assert step(ranks=4, rank=1, recomputed_layers=0, micro_batches=1) == 2 * 17 * 64 * 1024


def test_gathering_sends_the_own_share_to_each_other_rank_three_times():
    step = partial(gather_step_bytes, share=128 * 1024, layers=2, micro_batches=1)
    assert step(ranks=2, recomputed_layers=0) == 768 * 1024
    assert step(ranks=4, recomputed_layers=2) == 3 * (2 * 3 + 2) * 128 * 1024


def test_exchanged_heads_send_all_but_the_own_part_of_once_and_its_gradients():
    # 384 KiB of q, k, v and output and 8 KiB of log-sum-exp over 2 ranks: half of it leaves.
    step = partial(heads_step_bytes, once=384 * 1024, lse=8 * 1024, ranks=2, layers=2, micro_batches=1)
    assert step(recomputed_layers=0) == 2 * (3 * 192 + 2 * 4) * 1024 == 1_196_032
    assert step(recomputed_layers=2) == 1_597_440


# What the trainer sent on CPU processes, rank by rank: `tiny`, 512 tokens, two layers.
@pytest.mark.parametrize(
    ("way", "cp", "recomputed", "sent"),
    [
        (Way(method="ring"), 4, 0, [{"send_recv": size} for size in (786_432, 1_114_112, 917_504, 720_896)]),
        (Way(method="ring"), 4, 2, [{"send_recv": size} for size in (983_040, 1_507_328, 1_245_184, 983_040)]),
        (Way(method="allgather"), 4, 0, [{"all_gather": 1_179_648}] * 4),
        (Way(method="allgather"), 2, 2, [{"all_gather": 1_048_576}] * 2),
        (Way(method="ulysses", ulysses=4), 4, 0, [{"all_to_all": 897_024}] * 4),
        (Way(method="ulysses", ulysses=4), 4, 2, [{"all_to_all": 1_198_080}] * 4),
        (
            Way(method="usp", ulysses=2),
            4,
            2,
            [{"send_recv": size, "all_to_all": 798_720} for size in (327_680, 327_680, 458_752, 458_752)],
        ),
    ],
)
def test_the_formulas_are_what_the_trainer_counts(way, cp, recomputed, sent):
    step = partial(
        rank_step_bytes,
        find_model("tiny"),
        Layout(cp=cp),
        way,
        tokens=512,
        width=4,
        micro_batch=1,
        micro_batches=1,
        recomputed_layers=recomputed,
    )
    assert [step(rank=rank) for rank in range(cp)] == sent
