"""How the training is split, in axolotl's keys: sizes, sharding, the backend of context parallelism, recomputation."""

from collections.abc import Mapping
from typing import Any

from cpadvisor.hf_config import DECODER_LAYERS
from cpadvisor.plan.advice import Plan
from cpadvisor.plan.workload import Workload
from cpadvisor.write.lines import ConfigLine

SIZE_KEYS = {
    "dp_replicate": "dp_replicate_size",
    "dp_shard": "dp_shard_size",
    "tp": "tensor_parallel_size",
    "cp": "context_parallel_size",
}
"""Axis to axolotl's key."""

_BACKENDS: Mapping[str, Mapping[str, str]] = {
    "ulysses": {"backend": "ulysses"},
    "usp": {"backend": "usp"},
    "ring": {"backend": "ring", "load_balance": "head_tail"},
    "allgather": {"backend": "ring", "rotate_method": "allgather"},
}
"""How axolotl spells a method in its block (axolotl 0.21.0, integrations/context_parallel/args.py:17-69)."""


def split_lines(plan: Plan, workload: Workload) -> list[ConfigLine]:
    """Every size above 1, the sharding, and for axolotl the backend that the prediction assumes.

    axolotl's loader fills a missing dp_shard_size, its Accelerator does not: the sizes then miss the world
    (utils/distributed.py:414-417, utils/trainer.py:672-705), so each one is written.
    """
    lines = [_size_line(axis, key, plan) for axis, key in SIZE_KEYS.items() if plan.layout.degree(axis) > 1]
    method = _BACKENDS.get(plan.cp_method)
    if workload.engine != "cpadvisor" and method is not None:
        block = {"size": plan.layout.cp, **method}
        lines.append(
            ConfigLine(
                key="context_parallel", value=block, origin="plan", comment="the backend that the prediction assumes"
            )
        )
    return [*lines, *_sharding_lines(plan, workload)]


def _size_line(axis: str, key: str, plan: Plan) -> ConfigLine:
    why = {
        "dp_replicate": "copies of the whole model",
        "dp_shard": f"parameters are sharded over {plan.layout.shard_group} GPUs (dp_shard x cp)",
        "tp": "each matrix is cut",
        "cp": "each sequence is cut",
    }
    return ConfigLine(key=key, value=plan.layout.degree(axis), origin="plan", comment=why[axis])


def _sharding_lines(plan: Plan, workload: Workload) -> list[ConfigLine]:
    if plan.layout.shard_group == 1:
        return []
    block: dict[str, Any] = {"reshard_after_forward": True}
    if workload.engine != "cpadvisor":
        block |= {
            "state_dict_type": "FULL_STATE_DICT",
            "auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
            "transformer_layer_cls_to_wrap": DECODER_LAYERS[workload.model.family],
        }
        if plan.layout.tp == 1 and workload.model.hub_id is not None:
            # axolotl forces it off under TP; without weights there is nothing to load.
            block["cpu_ram_efficient_loading"] = True
    return [
        ConfigLine(key="fsdp_version", value=2, origin="trainer", comment="version 1 is refused since axolotl 0.20"),
        ConfigLine(key="fsdp_config", value=block, origin="card", comment="C2"),
    ]


def memory_lines(plan: Plan, workload: Workload) -> list[ConfigLine]:
    """Recomputation, and gradients that stay sharded under accumulation."""
    recomputed = {policy: layers for policy, layers in plan.recompute.items() if layers and policy != "none"}
    words = ", ".join(f"{policy} in {layers} layers" for policy, layers in recomputed.items()) or "everything fits"
    lines = [ConfigLine(key="gradient_checkpointing", value=bool(recomputed), origin="plan", comment=words)]
    if workload.engine != "cpadvisor":
        if "attention_saved" in recomputed:
            lines.append(
                ConfigLine(
                    key="selective_checkpointing", value=True, origin="plan", comment="attention is not recomputed"
                )
            )
        if "full_offload" in recomputed:
            lines.append(
                ConfigLine(
                    key="activation_offloading",
                    value="hidden_states",
                    origin="plan",
                    comment="checkpoints go to the host",
                )
            )
        if plan.accumulation > 1 and plan.layout.shard_group > 1:
            lines.append(_sync_line())
    return lines


def _sync_line() -> ConfigLine:
    return ConfigLine(
        key="accelerator_config",
        value={"gradient_accumulation_kwargs": {"sync_each_batch": True}},
        origin="trainer",
        comment="else each GPU keeps all gradients whole between micro-batches",
    )
