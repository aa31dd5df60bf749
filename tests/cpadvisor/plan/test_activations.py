from dataclasses import replace

import pytest

from cpadvisor.plan.activations import (
    cp_buffer_bytes,
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


def test_gathered_keys_do_not_shrink_with_more_ranks(one):
    sizes = {
        cp_buffer_bytes(replace(one, layout=Layout(cp=cp), cp_method="allgather", engine=AXOLOTL_021))
        for cp in (2, 4, 8)
    }
    assert len(sizes) == 1


def test_float32_processes_hold_twice_the_bytes_but_for_the_log_sum_exp(one, cpu):
    assert layer_token_bytes(replace(one, gpu=cpu)) == 2 * (168_064 - 4 * 32) + 4 * 32
