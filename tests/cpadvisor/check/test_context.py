"""Backends of context parallelism in axolotl."""

import pytest


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"attn_implementation": "eager"}, "attention-eager"),
        ({"context_parallel": {"size": 2}}, "cp-block"),
        ({"context_parallel": {"size": 4, "ulysses_size": 3}}, "cp-block"),
        ({"context_parallel": {"size": 4, "ulysses_size": 2, "ring_size": 4}}, "cp-block"),
        ({"context_parallel": {"size": 4, "backend": "ring"}, "attn_implementation": "sdpa"}, "ring-kernel"),
        ({"context_parallel": {"size": 4, "load_balance": "head_tail"}}, "cp-balance"),
        (
            {
                "context_parallel": {
                    "size": 4,
                    "backend": "ring",
                    "load_balance": "head_tail",
                    "rotate_method": "alltoall",
                }
            },
            "cp-balance",
        ),
        ({"use_dft": True}, "cp-loss"),
    ],
)
def test_settings_that_axolotl_refuses_are_errors(found, changes, rule):
    assert (rule, "error") in [(item.rule, item.severity) for item in found(**changes)]


def test_ulysses_needs_kv_heads_to_share(only):
    # Qwen2.5-7B has 4 KV heads for 8 ranks.
    finding = only(
        model="qwen2.5-7b", base_model="Qwen/Qwen2.5-7B", dp_shard_size=1, context_parallel_size=8,
        context_parallel={"size": 8, "backend": "ulysses"}, fsdp_config={"reshard_after_forward": True},
    )  # fmt: skip
    assert finding.rule == "ulysses-heads"
    assert finding.fix == "write backend: usp, or context_parallel_size: 4"


def test_automatic_backends_that_become_a_ring_need_its_kernel(found):
    # 4 KV heads over 8 ranks: ringmaster chooses Ulysses 4 x ring 2, and sdpa cannot train a ring.
    sizes = {"dp_shard_size": 1, "context_parallel_size": 8, "attn_implementation": "sdpa"}
    model = {"model": "qwen2.5-7b", "base_model": "Qwen/Qwen2.5-7B", "fsdp_config": {"reshard_after_forward": True}}
    assert [item.rule for item in found(**sizes, **model)] == ["ring-kernel"]
    assert found(attn_implementation="sdpa") == ()


def test_the_written_ring_is_allowed(found):
    block = {"size": 4, "backend": "ring", "load_balance": "head_tail"}
    assert found(context_parallel=block) == ()


def test_deepspeed_knows_no_ring(found):
    changes = {"deepspeed": "zero3.json", "fsdp_config": ..., "context_parallel": {"size": 4, "backend": "ring"}}
    assert "deepspeed-cp" in [item.rule for item in found(**changes)]
