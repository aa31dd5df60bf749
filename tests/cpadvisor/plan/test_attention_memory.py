from dataclasses import replace

import pytest

from cpadvisor.plan.activations import cp_buffer_bytes
from cpadvisor.plan.attention_memory import (
    CUDNN,
    FLASH_ATTN_4,
    attention_call,
    backward_workspace,
    cp_buffers,
    lasting_buffers,
)
from cpadvisor.plan.candidate import Candidate
from cpadvisor.plan.engines import CPADVISOR
from cpadvisor.plan.layout import Layout
from cpadvisor.plan.memory import estimate_memory

# Peaks of one forward and backward above q, k, v and the gradient of the output, in bytes a local token, with the
# messages' own memory, on the rank that needed most: 2 x H200, torch 2.11.0+cu130, cuDNN 9.19.0, flash-attn 4.0.0b36,
# 2026-11-28; bf16, batch 1, heads of 128, 8,192 local tokens (the same at 4,096 and 16,384 within 0.4 %).
MEASURED = [
    ("none", 8, FLASH_ATTN_4, 45_568.0),
    ("none", 8, CUDNN, 53_632.0),
    ("none", 32, FLASH_ATTN_4, 49_664.0),
    ("none", 32, CUDNN, 49_536.0),
    ("ring", 8, FLASH_ATTN_4, 51_809.5 + 16_384),
    ("ring", 8, CUDNN, 55_680.0 + 16_384),
    ("ring", 32, FLASH_ATTN_4, 66_145.5 + 65_536),
    ("ring", 32, CUDNN, 65_920.0 + 65_536),
    ("allgather", 8, FLASH_ATTN_4, 68_193.5 + 8_192),
    ("allgather", 8, CUDNN, 72_064.0 + 8_192),
    ("allgather", 32, FLASH_ATTN_4, 131_681.5 + 32_768),
    ("allgather", 32, CUDNN, 131_456.0 + 32_768),
    ("ulysses", 8, FLASH_ATTN_4, 74_496.0 + 14_400),
    ("ulysses", 8, CUDNN, 82_560.0 + 14_400),
]


@pytest.fixture
def one(llama_8b, h100):
    return Candidate(model=llama_8b, engine=CPADVISOR, gpu=h100, layout=Layout(), sequence_len=16_384, recompute="none")


def shared(one, method, cp):
    ulysses = cp if method == "ulysses" else 1
    return one if method == "none" else replace(one, layout=Layout(cp=cp), cp_method=method, ulysses=ulysses)


@pytest.mark.parametrize(("method", "kv_heads", "workspace", "measured"), MEASURED)
def test_a_call_holds_what_was_measured_on_two_gpus_within_2_percent(one, method, kv_heads, workspace, measured):
    candidate = shared(replace(one, model=replace(one.model, kv_heads=kv_heads)), method, 2)
    assert sum(attention_call(candidate, workspace).values()) == pytest.approx(measured, rel=0.02)


def test_the_terms_of_a_ring_of_two_by_hand(one):
    # q 4,096, kv 1,024, 32 heads. cuDNN gives 2 x 8,192 bytes a key for dK and dV of each query head, here for half.
    assert attention_call(shared(one, "ring", 2)) == {
        "output": 2 * 4096 + 4 * 32,
        "gradients": 2 * (4096 + 2 * 1024),
        "kernel_queries": 4 * (4096 + 2 * 32),
        "kernel_keys": 2 * 2 * 4096 / 2,
        "block_gradients": 2 * (4096 + 2 * 1024 / 2),
        "received": 8192,
        "returning": 8192,
    }


def test_more_than_two_ranks_sum_gradients_in_float32(one):
    assert attention_call(shared(one, "ring", 4))["gradients"] == 4 * (4096 + 2 * 1024)


def test_the_workspace_of_a_layer_s_backward_has_the_gradient_of_the_output_and_not_the_output(one):
    assert backward_workspace(one) == 53_632 - (8192 + 128) + 8192


def test_a_ring_holds_two_shares_of_keys_and_two_of_their_gradients(one):
    # A token of a pair: 2 tensors x 1,024 wide x 2 bytes = 4,096. Two received, two returning.
    ring = shared(one, "ring", 2)
    assert cp_buffers(ring) == {"received": 8192, "returning": 8192}
    assert cp_buffer_bytes(ring) == 8192 * 16_384
    assert cp_buffer_bytes(one) == 0


def test_gathered_keys_are_held_whole_and_in_the_place_where_they_came(one):
    gathered = cp_buffers(shared(one, "allgather", 4))
    assert gathered == {
        "gathered": 4 * 4096,
        "gathered_gradients": 4 * 4096,
        "received": 3 * 4096,
        "returning": 3 * 4096,
    }


def test_places_of_messages_last_the_run_and_what_is_gathered_does_not(one, cpu):
    assert lasting_buffers(shared(one, "ring", 2)) == 16_384
    assert lasting_buffers(shared(one, "allgather", 4)) == 2 * 3 * 4096
    assert lasting_buffers(shared(one, "ulysses", 2)) == 14_400
    assert lasting_buffers(one) == lasting_buffers(replace(shared(one, "ring", 2), gpu=cpu)) == 0
    estimate = estimate_memory(shared(one, "ring", 2), limit_bytes=80 * 2**30)
    assert estimate.terms_bytes["messages"] == 8192 * 16_384, "whatever the instant"


def test_exchanged_heads_are_held_gathered_and_in_the_place_where_they_came(one):
    # dout, q, out 3 x 8,192, the log-sum-exp 4 x 32, a pair 4,096; the other half of it comes in.
    assert cp_buffers(shared(one, "ulysses", 2)) == {"gathered_heads": 28_800, "received_heads": 14_400}
    # 16 ranks repeat each of 8 K/V heads: a pair is 8,192.
    assert cp_buffers(shared(one, "ulysses", 16))["gathered_heads"] == 28_800 + 4096
