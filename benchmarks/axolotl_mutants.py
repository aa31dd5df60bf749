"""A sound file with one thing broken after another: axolotl refuses each, and so does our check, at once."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

SOUND: Mapping[str, Any] = {
    "base_model": "meta-llama/Llama-3.1-8B",
    "datasets": [{"path": "tatsu-lab/alpaca", "type": "alpaca"}],
    "sequence_len": 32768,
    "micro_batch_size": 1,
    "gradient_accumulation_steps": 1,
    "dp_shard_size": 2,
    "context_parallel_size": 4,
    "fsdp_version": 2,
    "fsdp_config": {"reshard_after_forward": True},
    "gradient_checkpointing": True,
    "learning_rate": 2e-5,
    "warmup_ratio": 0.1,
    "bf16": True,
    "attn_implementation": "flash_attention_2",
    "output_dir": "./out",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """One change of SOUND; `...` removes a key. `rule` is the finding that has to name it."""

    rule: str
    change: Mapping[str, Any]

    @property
    def values(self) -> dict[str, Any]:
        return {key: value for key, value in {**SOUND, **self.change}.items() if value is not ...}


def _sizes(**sizes: int) -> dict[str, Any]:
    return {
        f"{name}_size": sizes.get(name, ...)
        for name in ("dp_replicate", "dp_shard", "tensor_parallel", "context_parallel")
    }


MUTANTS = (
    Mutant(rule="key-missing", change={"learning_rate": ...}),
    Mutant(rule="key-missing", change={"datasets": ...}),
    Mutant(rule="key-unknown", change={"context_paralel_size": 2}),
    Mutant(rule="key-unknown", change={"fsdp_config": {"reshard_after_forwrd": True}}),
    Mutant(rule="key-removed", change={"fsdp": ["full_shard"]}),
    Mutant(rule="key-removed", change={"fsdp_config": {"sharding_strategy": "FULL_SHARD"}}),
    Mutant(rule="fsdp-version", change={"fsdp_version": 1}),
    Mutant(rule="C8", change={"warmup_steps": 100}),
    Mutant(rule="F1", change=_sizes(dp_shard=4, context_parallel=4)),
    Mutant(rule="dp-shard-explicit", change=_sizes(context_parallel=2)),
    Mutant(rule="tp-cp", change=_sizes(dp_shard=2, tensor_parallel=2, context_parallel=2)),
    Mutant(rule="replicate-shard", change=_sizes(dp_replicate=2, dp_shard=1, context_parallel=4)),
    Mutant(rule="fsdp-missing", change={"fsdp_config": ..., "fsdp_version": ...}),
    Mutant(rule="attention-eager", change={"attn_implementation": "eager"}),
    Mutant(rule="attention-name", change={"attn_implementation": "flash"}),
    Mutant(rule="attention-name", change={"flash_attention": True}),
    Mutant(rule="cp-block", change={"context_parallel": {"size": 2}}),
    Mutant(
        rule="ring-kernel", change={"context_parallel": {"size": 4, "backend": "ring"}, "attn_implementation": "sdpa"}
    ),
    Mutant(
        rule="cp-balance", change={"context_parallel": {"size": 4, "backend": "ulysses", "load_balance": "head_tail"}}
    ),
    Mutant(rule="needs-checkpointing", change={"gradient_checkpointing": False, "activation_offloading": True}),
    Mutant(rule="pair", change={"optimizer": "adamw_8bit"}),
    Mutant(rule="pair", change={"deepspeed": "zero3.json"}),
    Mutant(rule="pair", change={"sample_packing": True, "batch_flattening": True}),
)
