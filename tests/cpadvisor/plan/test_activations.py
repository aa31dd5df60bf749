from dataclasses import replace

import pytest

from cpadvisor.plan.activations import (
    cp_buffer_bytes,
    cp_buffers,
    layer_token_bytes,
    recomputed_token_bytes,
    saved_token_bytes,
)
from cpadvisor.plan.candidate import Candidate
from cpadvisor.plan.engines import AXOLOTL_021, CPADVISOR
from cpadvisor.plan.layout import Layout


@pytest.fixture
def one(llama_8b, h100):
    return Candidate(model=llama_8b, engine=CPADVISOR, gpu=h100, layout=Layout(), sequence_len=8192, recompute="none")


def test_llama_8b_saves_what_saved_tensor_hooks_count_but_for_norm_scales_and_rotary_tables(one):
    # Counted: 168,072 with fused norms, of which 2 x 4 are a norm's scale; 201,352 with Hugging Face's, of which
    # another 2 x 2 x 128 are cosines and sines.
    assert layer_token_bytes(one) == 168_072 - 8
    assert layer_token_bytes(replace(one, engine=AXOLOTL_021)) == 201_352 - 8 - 512


def test_full_recomputation_keeps_the_layer_s_input_and_attention_saved_adds_output_and_log_sum_exp(one):
    assert saved_token_bytes(replace(one, recompute="full")) == 2 * 4096
    assert saved_token_bytes(replace(one, recompute="attention_saved")) == 2 * 4096 + 2 * 4096 + 4 * 32


@pytest.mark.parametrize("policy", ["none", "attention_saved", "full"])
def test_what_is_kept_and_what_is_recomputed_make_up_the_layer(one, policy):
    candidate = replace(one, recompute=policy)
    assert saved_token_bytes(candidate) + recomputed_token_bytes(candidate) == layer_token_bytes(candidate)


def test_hugging_face_s_tensor_parallelism_leaves_norms_whole(one):
    # 16 x 4,096 stay; (4 q + 4 kv + 4 heads + 8 f) = 135,296 are halved.
    halved = replace(one, engine=AXOLOTL_021, layout=Layout(tp=2))
    assert layer_token_bytes(halved) == 65_536 + 135_296 / 2


def test_sequence_parallelism_halves_norms_too_and_pays_for_two_gathered_inputs(one):
    halved = replace(one, layout=Layout(tp=2))
    assert layer_token_bytes(halved) == 168_064 / 2 + 4 * 4096 * 0.5


def test_a_ring_holds_two_shares_of_keys_and_two_of_their_gradients_and_sums_those_of_several_ranks(one):
    # A token of a pair: 2 tensors x 1,024 wide x 2 bytes = 4,096. Two received, two returning; a float32 pair sums.
    ring = replace(one, layout=Layout(cp=2), cp_method="ring")
    assert cp_buffers(ring) == {"received": 8192, "returning": 8192}
    assert cp_buffer_bytes(ring) == 4096 * 16_384
    assert cp_buffers(replace(ring, layout=Layout(cp=4))) == {"received": 8192, "returning": 8192, "sums": 8192}
    assert cp_buffer_bytes(replace(ring, layout=Layout(cp=4))) == 2048 * 24_576
    assert cp_buffer_bytes(one) == 0


def test_gathered_keys_of_the_bundled_trainer_are_of_every_rank_and_so_are_their_gradients(one):
    # A rank of cp: 2 x 1,024 x 2 bytes of K and V twice, three times of their gradients; a float32 pair sums.
    gathered = replace(one, layout=Layout(cp=4), cp_method="allgather")
    assert cp_buffers(gathered) == {"gathered": 4 * 8192, "gathered_gradients": 4 * 12_288, "sums": 8192}
    assert cp_buffer_bytes(gathered) == 2048 * (4 * 20_480 + 8192)


def test_exchanged_heads_are_held_as_sent_and_as_received_and_repeated_where_they_are_few(one):
    # 2 x 2 bytes x (2 x 4,096 + 2 x 1,024) = 40,960; over 16 ranks each KV head is there twice: 2 x 2,048.
    heads = replace(one, layout=Layout(cp=8), cp_method="ulysses", ulysses=8)
    assert cp_buffers(heads) == {"exchanged": 40_960}
    assert cp_buffers(replace(heads, layout=Layout(cp=16), ulysses=16)) == {"exchanged": 49_152}
    both = replace(heads, cp_method="usp", ulysses=2)
    assert cp_buffers(both) == {"received": 8192, "returning": 8192, "sums": 8192, "exchanged": 40_960}


def test_gathered_keys_do_not_shrink_with_more_ranks(one):
    sizes = {
        cp_buffer_bytes(replace(one, layout=Layout(cp=cp), cp_method="allgather", engine=AXOLOTL_021))
        for cp in (2, 4, 8)
    }
    assert len(sizes) == 1


def test_float32_processes_hold_twice_the_bytes_but_for_the_log_sum_exp(one, cpu):
    assert layer_token_bytes(replace(one, gpu=cpu)) == 2 * (168_064 - 4 * 32) + 4 * 32
