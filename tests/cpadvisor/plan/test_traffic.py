from dataclasses import replace
from functools import partial

import pytest

from cpadvisor.plan.candidate import Candidate
from cpadvisor.plan.engines import AXOLOTL_021, CPADVISOR
from cpadvisor.plan.layout import Layout
from cpadvisor.plan.traffic import (
    gathered_kv_bytes,
    gradient_hop_bytes,
    hop_bytes,
    layer_gather_bytes,
    layer_reduce_bytes,
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


def test_float32_gradients_make_a_hop_of_twice_the_bytes_and_float32_processes_send_float32(ring, cpu):
    assert gradient_hop_bytes(ring) == 128 * MIB
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


def test_what_a_rank_sends_in_a_step_is_the_sum_of_its_hops():
    # tiny at 512 tokens over 2: a hop is 2 tensors x 256 tokens x 4 heads x 16 x 4 bytes = 128 KiB, float32 gradients
    # as much. Two layers, forward, backward and gradients: 6 hops.
    hop = ring_hop_bytes(tokens=512, kv_heads=4, head_dim=16, layout=Layout(cp=2), width=4)
    assert hop == 128 * 1024
    step = partial(ring_step_bytes, hop=hop, gradient_hop=hop, layers=2)
    assert step(cp=2, recomputed_layers=0, micro_batches=1) == 6 * hop
    # A recomputed layer repeats its forward hop, each micro-batch takes all of them, cp 4 has three where cp 2 has one.
    assert step(cp=2, recomputed_layers=2, micro_batches=1) == 8 * hop
    assert step(cp=2, recomputed_layers=0, micro_batches=3) == 18 * hop
    assert step(cp=4, recomputed_layers=0, micro_batches=1) == 18 * hop
