"""The changes of a finding mend it: applied to the file they remove it, and bring no error with them."""

import re
from pathlib import Path

import pytest
import yaml

from cpadvisor import check
from cpadvisor.check import check_file
from cpadvisor.write.edit import edited

AX, AX20, OURS = "axolotl-0.21", "axolotl-0.20", "cpadvisor"
FSDP = {"reshard_after_forward": True, "transformer_layer_cls_to_wrap": "LlamaDecoderLayer"}
OWN = {"method": "ring", "random_weights": True, "model": "llama-3.1-8b", "corpus": "python-stdlib"}
QWEN = {"base_model": "Qwen/Qwen2.5-7B", "fsdp_config": {"reshard_after_forward": True}}  # 28 heads, 4 KV heads
TIED = {"base_model": "meta-llama/Llama-3.2-1B"}

CASES = [
    (AX, "F1", {"dp_shard_size": 4}),
    (OURS, "F1", {"dp_shard_size": 1, "cpadvisor": {**OWN, "rank_order": [0, 1, 2, 3]}}),
    (OURS, "F1", {"dp_shard_size": 4, "cpadvisor": {**OWN, "rank_order": list(range(16))}}),
    (AX, "dp-shard-explicit", {"dp_shard_size": ...}),
    (AX, "dp-shard-explicit", {"dp_shard_size": ..., "fsdp_config": ..., "fsdp_version": ...}),
    (OURS, "engine-axes", {"dp_shard_size": 1, "tensor_parallel_size": 2}),
    (OURS, "engine-axes", {"dp_shard_size": 1, "dp_replicate_size": 2}),
    (AX, "tp-cp", {"dp_shard_size": 2, "tensor_parallel_size": 2, "context_parallel_size": 2}),
    (AX20, "replicate-shard", {"dp_shard_size": 1, "dp_replicate_size": 2}),
    (AX, "fsdp-missing", {"fsdp_config": ..., "fsdp_version": ...}),
    (AX, "fsdp-missing", {"fsdp_config": ..., "dp_shard_size": 1, "context_parallel_size": 8}),
    (AX, "tp-fsdp", {"dp_shard_size": ..., "context_parallel_size": ..., "tensor_parallel_size": 8}),
    (AX, "tp-adapter", {"adapter": "lora", "dp_shard_size": 4, "tensor_parallel_size": 2, "context_parallel_size": 1}),
    (AX, "tp-tied", {**TIED, "dp_shard_size": 4, "tensor_parallel_size": 2, "context_parallel_size": 1}),
    (AX, "tp-heads", {**QWEN, "dp_shard_size": 1, "tensor_parallel_size": 8, "context_parallel_size": 1}),
    (AX, "kv-heads", {**QWEN, "dp_shard_size": 4, "tensor_parallel_size": 14, "context_parallel_size": 1}),
    (AX, "size-value", {"micro_batch_size": "4"}),
    (AX, "size-value", {"gradient_accumulation_steps": 0}),
    (AX, "F3", {"sequence_len": 32771}),
    (OURS, "F3", {"sequence_len": 32772}),
    (AX, "length-positions", {"sequence_len": 1 << 20}),
    (AX, "length-data", {"datasets": [{"path": "data.txt", "type": "completion"}]}),
    (AX, "attention-eager", {"attn_implementation": "eager"}),
    (AX, "attention-eager", {"attn_implementation": ..., "eager_attention": True}),
    (AX, "cp-loss", {"use_dft": True}),
    (AX, "cp-block", {"context_parallel": {"size": 2}}),
    (AX, "cp-block", {"context_parallel": {"size": 4, "ulysses_size": 3}}),
    (AX, "cp-block", {"context_parallel": {"size": 4, "ulysses_size": 2, "ring_size": 1}}),
    (AX, "ulysses-heads", {**QWEN, "dp_shard_size": 1, "context_parallel_size": 8,
                           "context_parallel": {"size": 8, "backend": "ulysses", "ulysses_size": 8}}),
    (AX, "ring-kernel", {"context_parallel": {"backend": "ring"}, "attn_implementation": "sdpa"}),
    (AX, "cp-balance", {"context_parallel": {"backend": "ring", "load_balance": "head_tail"}, "sample_packing": True}),
    (AX, "deepspeed-cp", {"fsdp_config": ..., "deepspeed": "ds.json", "context_parallel": {"backend": "ring"}}),
    (OURS, "engine-value", {"sample_packing": True}),
    (OURS, "engine-value", {"val_set_size": 0.1}),
    (OURS, "engine-value", {"fsdp_version": 1}),
    (OURS, "engine-value", {"fsdp_config": {"fsdp_offload_params": True}}),
    (OURS, "engine-value", {"cpadvisor": {**OWN, "method": "ulises"}}),
    (OURS, "engine-value", {"cpadvisor": {**OWN, "ulysses_degree": 2}}),
    (OURS, "engine-value", {"cpadvisor": {**OWN, "method": "ulysses", "ulysses_degree": 2}}),
    (OURS, "engine-value", {"cpadvisor": {**OWN, "method": "usp", "ulysses_degree": 3}}),
    (OURS, "engine-value", {"cpadvisor": {**OWN, "method": "usp", "ulysses_degree": "2"}}),
    (OURS, "engine-value", {"context_parallel_size": 2, "dp_shard_size": 4,
                            "cpadvisor": {**OWN, "method": "usp", "ulysses_degree": 2}}),
    (OURS, "engine-value", {"context_parallel_size": 1, "dp_shard_size": 8,
                            "cpadvisor": {**OWN, "method": "usp", "ulysses_degree": 2}}),
    (OURS, "ulysses-heads", {"dp_shard_size": 1, "context_parallel_size": 8,
                             "cpadvisor": {**OWN, "model": "qwen2.5-7b", "method": "ulysses"}}),
    (OURS, "ulysses-heads", {"dp_shard_size": 1, "context_parallel_size": 16, "cpadvisor":
                             {**OWN, "model": "qwen2.5-7b", "method": "usp", "ulysses_degree": 8}}),
    (OURS, "engine-value", {"cpadvisor": {**OWN, "method": "none"}}),
    (OURS, "recompute", {"cpadvisor": {**OWN, "recompute": "full"}}),
    (OURS, "recompute", {"cpadvisor": {**OWN, "recompute": {"atention_saved": 32}}}),
    (OURS, "recompute", {"cpadvisor": {**OWN, "recompute": {"full": 16}}}),
    (OURS, "rank-order", {"cpadvisor": {**OWN, "rank_order": [0, 0]}}),
    (OURS, "rank-order", {"cpadvisor": {**OWN, "rank_order": [0, 1, 2]}}),
    (AX, "key-missing", {"learning_rate": ...}),
    (OURS, "key-missing", {"cpadvisor": {key: OWN[key] for key in OWN if key != "corpus"}}),
    (AX, "key-unknown", {"context_paralel_size": 4, "context_parallel_size": ...}),
    (AX, "key-unknown", {"max_grad_nrm": 0.5}),
    (AX, "key-unknown", {"fsdp_config": {**FSDP, "reshard_after_forwrd": True}}),
    (OURS, "key-unknown", {"quite_something_else": 1}),
    (OURS, "key-unknown", {"cpadvisor": {**OWN, "mehtod": "ring"}}),
    (AX, "key-deprecated", {"flash_attention": True, "attn_implementation": ...}),
    (AX, "key-deprecated", {"sdp_attention": False}),
    (AX, "key-deprecated", {"sequence_parallel_degree": 4, "context_parallel_size": ...}),
    (AX, "key-deprecated", {"dpo_beta": 0.1}),
    (AX, "key-deprecated", {"ring_attn_func": "batch_ring"}),
    (AX, "key-deprecated", {"fsdp_final_state_dict_type": "FULL_STATE_DICT"}),
    (AX, "key-deprecated", {"fsdp_config": {**FSDP, "fsdp_use_orig_params": True}}),
    (AX, "key-deprecated", {"fsdp_config": {"fsdp_reshard_after_forward": True}}),
    (AX, "key-deprecated", {"gradient_checkpointing": "offload_disk"}),
    (AX, "key-removed", {"fsdp": ["full_shard"], "fsdp_config": ..., "fsdp_version": ...}),
    (AX, "key-removed", {"max_packed_sequence_len": 8192}),
    (AX, "key-removed", {"rope_scaling": {"type": "linear", "factor": 2.0}}),
    (AX, "key-removed", {"s2_attention": True}),
    (AX, "key-removed", {"fsdp_config": {"sharding_strategy": "SHARD_GRAD_OP"}}),
    (AX, "key-removed", {"fsdp_config": {**FSDP, "fsdp_forward_prefetch": True}}),
    (OURS, "key-refused", {"adapter": "lora"}),
    (AX, "L1", {"micro_batch_size": 2}),
    (AX, "L1", {"attn_implementation": ...}),
    (AX, "L1", {"bf16": ..., "fp16": True}),
    (AX, "L1", {"gradient_checkpointing": ...}),
    (AX, "C7", {"tf32": ..., "dataloader_num_workers": ...}),
    (AX, "C7", {"optimizer": "adamw_torch"}),
    (AX, "C8", {"warmup_steps": 100}),
    (AX, "C8", {"fp16": True}),
    (AX, "C8", {"max_grad_norm": 0}),
    (AX, "learning-rate", {"learning_rate": "fast"}),
    (AX, "learning-rate", {"learning_rate": -1.0}),
    (AX, "learning-rate", {"learning_rate": 0.1}),
    (AX, "attention-name", {"attn_implementation": "flash"}),
    (AX, "attention-name", {"flash_attention": True}),
    (AX, "fsdp-version", {"fsdp_version": 1}),
    (AX, "fsdp-version", {"fsdp_config": {**FSDP, "fsdp_version": 1}}),
    (AX, "wrap-class", {"fsdp_config": {**FSDP, "transformer_layer_cls_to_wrap": "MistralDecoderLayer"}}),
    (AX, "wrap-class", {"fsdp_config": {**FSDP, "auto_wrap_policy": "SIZE_BASED_WRAP"}}),
    (AX, "fsdp-offload", {"fsdp_config": {**FSDP, "cpu_offload_pin_memory": False}}),
    (AX, "checkpointing-twice", {"fsdp_config": {**FSDP, "activation_checkpointing": True}}),
    (AX, "checkpointing-twice", {"selective_checkpointing": True, "activation_offloading": "disk"}),
    (AX, "needs-checkpointing", {"gradient_checkpointing": False, "activation_offloading": True}),
    (AX, "compile-checkpointing", {"torch_compile_regional": True}),
    (AX, "no-sync", {"gradient_accumulation_steps": 8}),
    (AX, "pair", {"deepspeed": "ds.json"}),
    (AX, "pair", {"optimizer": "adamw_bnb_8bit"}),
    (AX, "pair", {"batch_flattening": True, "sample_packing": True}),
    (AX, "pair", {"fp32_norms": True, "fsdp_config": ..., "deepspeed": "ds.json"}),
]  # fmt: skip

WITHOUT = {"model", "base-model", "dataset-path", "dataset-empty", "dataset-type", "output-dir", "yaml", "C3"}
"""Rules whose mend is no key with a value."""


@pytest.fixture
def config_file(tmp_path, sound):
    def write(engine, changes):
        path = tmp_path / "config.yaml"
        path.write_text(yaml.safe_dump(sound(engine, changes), sort_keys=False))
        (tmp_path / "data.txt").write_text("x" * 20000)
        return path

    return write


def gpus_of(changes):
    return 56 if changes.get("tensor_parallel_size") == 14 else 8


@pytest.mark.parametrize(
    ("engine", "rule", "changes"), CASES, ids=lambda value: value if isinstance(value, str) else ""
)
def test_the_changes_of_a_finding_remove_it_and_add_no_error(engine, rule, changes, config_file):
    path, gpus = config_file(engine, changes), gpus_of(changes)
    before = check_file(path, engine=engine, gpus=gpus)
    finding = next(one for one in before if one.rule == rule and one.changes)
    path.write_text(edited(path.read_text(), finding.changes))
    after = check_file(path, engine=engine, gpus=gpus)
    assert finding.message not in [one.message for one in after]
    assert not [one for one in after if (one.rule, one.key) == (finding.rule, finding.key)], after
    old = {(one.rule, one.key) for one in before if one.severity == "error"}
    assert {(one.rule, one.key) for one in after if one.severity == "error"} <= old


def test_every_rule_is_among_the_cases_or_has_no_key_to_change():
    sources = "\n".join(path.read_text() for path in Path(check.__file__).parent.glob("*.py"))
    told = set(re.findall(r'config\.find\(\s*"([^"]+)"', sources)) | set(re.findall(r'rule="([^"]+)"', sources))
    assert {rule for _, rule, _ in CASES} | WITHOUT >= told, told - {rule for _, rule, _ in CASES} - WITHOUT


def test_a_misspelt_entry_of_a_list_is_told_without_a_change(config_file):
    path = config_file(AX, {"datasets": [{"path": "tatsu-lab/alpaca", "typ": "alpaca"}]})
    finding = next(one for one in check_file(path, engine=AX) if one.rule == "key-unknown")
    assert (finding.fix, finding.changes) == ("write datasets.type", ())
