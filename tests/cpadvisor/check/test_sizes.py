"""Sizes of the axes."""

import pytest


def test_a_product_that_misses_the_gpus_names_both_and_the_size_that_works(only):
    finding = only(dp_shard_size=4)
    assert (finding.rule, finding.severity) == ("F1", "error")
    assert (
        "dp_shard_size 4 x tensor_parallel_size 1 x context_parallel_size 4 = 16, but there are 8 GPUs"
        in finding.message
    )
    assert finding.fix == "write dp_shard_size: 2, or use 16 GPUs"


def test_a_product_that_no_shard_size_can_mend_names_the_divisors(only):
    finding = only(dp_shard_size=1, context_parallel_size=3, sequence_len=32766)
    assert finding.rule == "F1"
    assert finding.fix == "use 3 GPUs, or sizes whose product is 8 (its divisors are 1, 2, 4, 8)"


def test_nothing_is_said_of_the_product_where_nobody_said_the_gpus(found):
    assert found(gpus=None, dp_shard_size=16) == ()


def test_axolotl_needs_the_shard_size_in_writing_and_the_bundled_trainer_does_not(only, found):
    finding = only(dp_shard_size=...)
    assert (finding.rule, finding.fix) == ("dp-shard-explicit", "write dp_shard_size: 2")
    assert found(engine="cpadvisor", dp_shard_size=...) == ()


def test_no_sizes_at_all_shard_over_every_gpu(found):
    assert found(dp_shard_size=..., context_parallel_size=...) == ()


def test_the_cards_full_config_does_not_start_in_axolotl_0_21_but_does_in_0_20(only, found):
    card = {"dp_shard_size": 2, "tensor_parallel_size": 2, "context_parallel_size": 2}  # row C2
    finding = only(**card)
    assert finding.rule == "tp-cp"
    assert "sets dp_shard to 4 itself" in finding.message
    assert finding.fix == "write tensor_parallel_size: 1 and dp_shard_size: 4, or use axolotl 0.20"
    assert found(engine="axolotl-0.20", **card) == ()


def test_tensor_parallel_with_replicas_does_not_start_in_0_21(only):
    sizes = {"dp_replicate_size": 2, "dp_shard_size": 2, "tensor_parallel_size": 2, "context_parallel_size": 1}
    assert only(**sizes).rule == "tp-cp"


def test_replicas_of_one_shard_go_with_neither_axis(only):
    finding = only(dp_replicate_size=2, dp_shard_size=1)
    assert (finding.rule, finding.fix) == ("replicate-shard", "write dp_shard_size: 2 and dp_replicate_size: 1")


@pytest.mark.parametrize("key", ["tensor_parallel_size", "dp_replicate_size"])
def test_axes_that_the_bundled_trainer_lacks_are_named(only, key):
    finding = only(engine="cpadvisor", dp_shard_size=1, **{key: 2})
    assert (finding.rule, finding.severity, finding.key) == ("engine-axes", "error", key)
    assert finding.fix == f"write {key}: 1 and dp_shard_size: 2"


def test_sharding_without_a_block_stops_and_context_alone_costs_memory(only):
    fsdp = {"fsdp_config": ..., "fsdp_version": ...}
    assert only(**fsdp).severity == "error"
    alone = only(dp_shard_size=1, context_parallel_size=8, **fsdp)
    assert (alone.rule, alone.severity) == ("fsdp-missing", "warning")


def test_tied_embeddings_exclude_tensor_parallelism(only):
    finding = only(
        model="llama-3.2-1b", base_model="meta-llama/Llama-3.2-1B", tensor_parallel_size=2, dp_shard_size=4,
        context_parallel_size=1,
    )  # fmt: skip
    assert (finding.rule, finding.fix) == ("tp-tied", "write tensor_parallel_size: 1 and dp_shard_size: 8")


def test_heads_that_do_not_divide_name_the_nearest_size(only):
    # Qwen2.5-7B has 28 heads: 8 does not divide them, 7 does.
    sizes = {"tensor_parallel_size": 8, "dp_shard_size": 1, "context_parallel_size": 1, "fsdp_config": ...}
    finding = only(model="qwen2.5-7b", base_model="Qwen/Qwen2.5-7B", **sizes)
    assert (finding.rule, finding.fix) == ("tp-heads", "use 7")


def test_kv_heads_that_neither_divide_nor_are_divided_name_the_nearest_size(only):
    # Qwen2.5-7B has 28 heads and 4 KV heads: 7 divides the heads, but goes with 4 in neither way.
    sizes = {"tensor_parallel_size": 7, "dp_shard_size": 1, "context_parallel_size": 1, "fsdp_config": ...}
    finding = only(model="qwen2.5-7b", base_model="Qwen/Qwen2.5-7B", gpus=7, **sizes)
    assert (finding.rule, finding.fix) == ("kv-heads", "use 4")


def test_a_mesh_of_tensor_parallelism_alone_has_nothing_to_shard(found):
    rules = [item.rule for item in found(tensor_parallel_size=8, dp_shard_size=1, context_parallel_size=1)]
    assert rules == ["tp-fsdp"]


def test_adapters_do_not_go_with_tensor_parallelism(only):
    sizes = {"tensor_parallel_size": 2, "dp_shard_size": 4, "context_parallel_size": 1}
    assert only(adapter="lora", **sizes).rule == "tp-adapter"


@pytest.mark.parametrize("value", [0, -2, "4", 2.0, True])
def test_a_size_is_a_whole_number_from_one_up(found, value):
    assert ("size-value", "error") in [(item.rule, item.severity) for item in found(dp_shard_size=value)]
