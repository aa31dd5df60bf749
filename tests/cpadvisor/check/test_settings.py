"""Settings: card rows L1, C7, C8, and pairs that axolotl refuses."""

import pytest


@pytest.mark.parametrize(
    ("changes", "rule", "severity"),
    [
        ({"micro_batch_size": 2}, "L1", "warning"),
        ({"attn_implementation": ...}, "L1", "note"),
        ({"bf16": ...}, "L1", "warning"),
        ({"gradient_checkpointing": ...}, "L1", "note"),
        ({"tf32": ...}, "C7", "note"),
        ({"optimizer": "adamw_torch"}, "C7", "note"),
        ({"warmup_steps": 100}, "C8", "error"),
        ({"fp16": True, "bf16": False}, "C8", "warning"),
        ({"fp16": True}, "C8", "error"),
        ({"max_grad_norm": 0}, "C8", "warning"),
        ({"learning_rate": "fast"}, "learning-rate", "error"),
        ({"learning_rate": 0}, "learning-rate", "error"),
        ({"learning_rate": 0.1}, "learning-rate", "warning"),
        ({"attn_implementation": "flash"}, "attention-name", "error"),
        ({"fsdp_version": 1}, "fsdp-version", "error"),
        ({"fsdp_config": {"version": 1}}, "fsdp-version", "error"),
        ({"fsdp_config": {"transformer_layer_cls_to_wrap": "Qwen2DecoderLayer"}}, "wrap-class", "error"),
        ({"fsdp_config": {"auto_wrap_policy": "SIZE_BASED_WRAP"}}, "wrap-class", "error"),
        ({"fsdp_config": {"cpu_offload_pin_memory": False}}, "fsdp-offload", "error"),
        ({"fsdp_config": {"activation_checkpointing": True}}, "checkpointing-twice", "error"),
        ({"gradient_checkpointing": "offload"}, "key-deprecated", "warning"),
        ({"gradient_checkpointing": False, "activation_offloading": True}, "needs-checkpointing", "error"),
        ({"gradient_checkpointing": False, "selective_checkpointing": True}, "needs-checkpointing", "error"),
        ({"selective_checkpointing": True, "activation_offloading": "disk"}, "checkpointing-twice", "error"),
        ({"torch_compile_regional": True}, "compile-checkpointing", "error"),
        ({"gradient_accumulation_steps": 16}, "no-sync", "warning"),
        ({"deepspeed": "zero3.json"}, "pair", "error"),
        ({"optimizer": "adamw_8bit"}, "pair", "error"),
        ({"sample_packing": True, "batch_flattening": True}, "pair", "error"),
        ({"batch_size": 8}, "pair", "error"),
    ],
)
def test_one_changed_setting_gives_one_finding(only, changes, rule, severity):
    finding = only(**changes)
    assert (finding.rule, finding.severity) == (rule, severity)
    assert finding.fix


def test_both_spellings_of_attention_together_are_refused(found):
    findings = found(flash_attention=True)
    assert ("attention-name", "error") in [(item.rule, item.severity) for item in findings]


def test_unsharded_gradients_are_counted_for_the_model(only, found):
    # 2 bytes x 8,030,261,248 = 15.0 GiB.
    assert "keeps 15.0 GiB of gradients whole" in only(gradient_accumulation_steps=16).message
    synced = {"gradient_accumulation_kwargs": {"sync_each_batch": True}}
    assert found(gradient_accumulation_steps=16, accelerator_config=synced) == ()


def test_errors_come_first(found):
    severities = [item.severity for item in found(warmup_steps=5, bf16=..., tf32=...)]
    assert severities == ["error", "warning", "note"]


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"sample_packing": True}, "engine-value"),
        ({"val_set_size": 0.1}, "engine-value"),
        ({"fsdp_version": 1}, "engine-value"),
        ({"fsdp_config": {"offload_params": True}}, "engine-value"),
    ],
)
def test_values_that_the_bundled_trainer_lacks_are_errors(only, changes, rule):
    finding = only(engine="cpadvisor", **changes)
    assert (finding.rule, finding.severity) == (rule, "error")


@pytest.mark.parametrize(
    ("own", "rule", "words"),
    [
        (
            {"method": "torch"},
            "engine-value",
            "'torch' is none of the bundled trainer's: ring, allgather, ulysses, usp",
        ),
        ({"ulysses_degree": 2}, "engine-value", "ulysses_degree 2 with cpadvisor.method ring, whose degree is 1"),
        ({"method": "usp", "ulysses_degree": 3}, "engine-value", "3 is no divisor of context_parallel_size 4 between"),
        ({"method": "none"}, "engine-value", "context_parallel_size 4"),
        ({"recompute": {"full": 30}}, "recompute", "names 30 layers and llama-3.1-8b has 32"),
        ({"recompute": {"full_offload": 32}}, "recompute", "full_offload"),
        ({"recompute": "full"}, "recompute", "no mapping"),
        ({"rank_order": [0, 0, 1]}, "rank-order", "different GPU indices"),
        ({"rank_order": [0, 1, 2]}, "rank-order", "3 GPUs and the sizes multiply to 8"),
        ({"methd": "ring"}, "key-unknown", "cpadvisor.methd"),
    ],
)
def test_the_block_of_the_bundled_trainer_is_checked(only, own, rule, words):
    block = {"random_weights": True, "model": "llama-3.1-8b", "corpus": "python-stdlib", **own}
    finding = only(engine="cpadvisor", cpadvisor=block)
    assert (finding.rule, finding.severity) == (rule, "error")
    assert words in finding.message
