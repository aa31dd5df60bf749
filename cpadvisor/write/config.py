"""The config of a plan: axolotl's keys, complete enough to start, each line with its origin.

An axolotl engine gets axolotl's keys alone. The bundled trainer gets the same keys
with the same meaning, and one `cpadvisor:` block for what axolotl has no key for.
"""

import math
import shlex
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from cpadvisor import units
from cpadvisor.plan.advice import Advice, Plan
from cpadvisor.plan.workload import Workload
from cpadvisor.write.command import DEFAULT_CONFIG, command_text
from cpadvisor.write.data import dataset_lines
from cpadvisor.write.lines import ConfigLine, render
from cpadvisor.write.options import (
    PRETRAINED_LEARNING_RATE,
    RANDOM_WEIGHTS_LEARNING_RATE,
    TINY_STEPS,
    WARMUP_SHARE,
    WriteOptions,
)
from cpadvisor.write.split import memory_lines, split_lines

__all__ = ["ConfigLine", "WriteOptions", "config_document", "config_lines", "render"]


def config_document(advice: Advice, plan: Plan, workload: Workload, options: WriteOptions) -> str:
    """The whole file: header with the prediction and the command, then the lines."""
    return render(config_lines(advice, plan, workload, options), header_lines(advice, plan, workload, options))


def config_lines(advice: Advice, plan: Plan, workload: Workload, options: WriteOptions) -> tuple[ConfigLine, ...]:
    """Every line of the config of one plan, in the order of the file."""
    bf16 = options.bf16 if options.bf16 is not None else advice.node != "cpu"
    lines = [
        *_model_lines(workload),
        *dataset_lines(workload, options),
        *_length_lines(plan, workload),
        *split_lines(plan, workload),
        *memory_lines(plan, workload),
        *_optimizer_lines(workload, options),
        *_speed_lines(workload, bf16=bf16),
        *_output_lines(plan, workload, options),
    ]
    if workload.engine == "cpadvisor":
        lines.append(_own_block(plan, workload, options))
    return tuple(lines)


def header_lines(advice: Advice, plan: Plan, workload: Workload, options: WriteOptions) -> tuple[str, ...]:
    """What the file is for, what is predicted, and how it starts."""
    memory, step = plan.memory, plan.step
    nodes = f"{workload.nodes} x " if workload.nodes > 1 else ""
    return (
        f"{workload.model.name}, {workload.sequence_len:,} tokens, {workload.engine}, "
        f"{plan.layout.words} on {nodes}{advice.node}; written by cpadvisor",
        f"Predicted peak: {units.format_bytes(memory.peak_bytes)} "
        f"({units.format_bytes(memory.low_bytes)} to {units.format_bytes(memory.high_bytes)}) "
        f"of {units.format_bytes(memory.limit_bytes)} on each GPU",
        f"Predicted step: {units.format_seconds(step.total_s)} "
        f"({units.format_seconds(step.low_s)} to {units.format_seconds(step.high_s)}), "
        f"{units.format_count(plan.tokens_per_s_per_gpu)} tokens/s on each GPU, MFU {units.format_percent(plan.mfu)}",
        *(f"Note: {note}" for note in (*plan.warnings, *_weight_notes(workload))),
        f"Start: {_start_command(workload, plan, options.path or DEFAULT_CONFIG)}",
        "Behind each line stands what decided it: model, plan, flag, card, trainer or default.",
    )


def _start_command(workload: Workload, plan: Plan, config: str) -> str:
    by_hand = workload.engine != "cpadvisor" or workload.nodes > 1
    return command_text(workload, plan, config=config) if by_hand else f"cpadvisor launch {shlex.quote(config)}"


def _weight_notes(workload: Workload) -> list[str]:
    if workload.model.hub_id is None or not starts_from_random_weights(workload):
        return []
    return [
        "this trains from random weights; to fine-tune, download the model and plan with --model and its folder",
    ]


def starts_from_random_weights(workload: Workload) -> bool:
    """Whether there are no weights to start from.

    The bundled trainer reads weights from a folder of this machine alone; axolotl also fetches a hub name.
    """
    source = workload.model.hub_id
    if source is None:
        return True
    return workload.engine == "cpadvisor" and not PurePath(source).is_absolute()


def _model_lines(workload: Workload) -> list[ConfigLine]:
    model = workload.model
    random = starts_from_random_weights(workload)
    if model.hub_id is None:
        why = f"the name of a shape of our own ({units.format_parameters(model.parameters)} parameters)"
        if workload.engine != "cpadvisor":
            why += "; axolotl needs a folder with its config.json and a tokenizer here"
    else:
        why = f"{units.format_parameters(model.parameters)} parameters"
    lines = [ConfigLine(key="base_model", value=model.hub_id or model.name, origin="model", comment=why)]
    if random and workload.engine != "cpadvisor":
        lines.append(
            ConfigLine(key="reinit_weights", value=True, origin="model", comment="there are no weights to load")
        )
    return lines


def _length_lines(plan: Plan, workload: Workload) -> list[ConfigLine]:
    data_ranks = plan.layout.data_ranks
    batch = plan.micro_batch * plan.accumulation * data_ranks
    why = f"F2, {plan.micro_batch} x {plan.accumulation} x {data_ranks} data ranks = {batch} sequences a step"
    lines = [
        ConfigLine(key="sequence_len", value=workload.sequence_len, origin="flag"),
        ConfigLine(key="micro_batch_size", value=plan.micro_batch, origin="card", comment="L1, sequences a data rank"),
        ConfigLine(key="gradient_accumulation_steps", value=plan.accumulation, origin="plan", comment=why),
    ]
    if workload.engine == "cpadvisor":
        return lines
    padding = "each step has the length that was planned"
    return [
        *lines,
        ConfigLine(key="sample_packing", value=False, origin="default", comment="one document a sequence"),
        ConfigLine(key="pad_to_sequence_len", value=True, origin="default", comment=padding),
    ]


def _optimizer_lines(workload: Workload, options: WriteOptions) -> list[ConfigLine]:
    random = starts_from_random_weights(workload)
    rate = RANDOM_WEIGHTS_LEARNING_RATE if random else PRETRAINED_LEARNING_RATE
    why = "weights start at random" if random else "C2, fine-tuning of pretrained weights"
    steps = options.steps or (TINY_STEPS if workload.model.name == "tiny" else None)
    return [
        _duration_line(steps, asked=options.steps is not None),
        ConfigLine(key="optimizer", value="adamw_torch_fused", origin="card", comment="C7"),
        ConfigLine(key="learning_rate", value=rate, origin="default" if random else "card", comment=why),
        ConfigLine(key="lr_scheduler", value="cosine", origin="card", comment="C2"),
        _warmup_line(steps),
        ConfigLine(key="max_grad_norm", value=1.0, origin="card", comment="C8"),
        ConfigLine(key="seed", value=42, origin="default", comment="weights and the order of data follow from it"),
    ]


def _duration_line(steps: int | None, *, asked: bool) -> ConfigLine:
    if steps is None:
        return ConfigLine(key="num_epochs", value=1, origin="default")
    return ConfigLine(key="max_steps", value=steps, origin="flag" if asked else "default")


def _warmup_line(steps: int | None) -> ConfigLine:
    if steps is None:
        return ConfigLine(key="warmup_ratio", value=WARMUP_SHARE, origin="card", comment="C8, one of the pair")
    warmup = max(1, round(steps * WARMUP_SHARE))
    return ConfigLine(
        key="warmup_steps", value=warmup, origin="card", comment="C8, one of the pair: a tenth of the steps"
    )


def _speed_lines(workload: Workload, *, bf16: bool) -> list[ConfigLine]:
    lines = [
        ConfigLine(
            key="bf16", value=bf16, origin="card", comment="L1" if bf16 else "this device has no bf16 arithmetic"
        )
    ]
    if workload.engine == "cpadvisor":
        return lines
    if bf16:
        lines.append(ConfigLine(key="tf32", value=True, origin="card", comment="C7"))
    kernel = "flash_attention_2" if bf16 else "sdpa"
    return [
        *lines,
        ConfigLine(
            key="attn_implementation", value=kernel, origin="card", comment="L1; flash_attention: true is its old form"
        ),
        ConfigLine(
            key="chunked_cross_entropy", value=True, origin="trainer", comment="no float32 copy of all logits at once"
        ),
        ConfigLine(key="dataloader_num_workers", value=4, origin="card", comment="C7"),
        ConfigLine(key="dataloader_pin_memory", value=True, origin="card", comment="C7"),
    ]


def _output_lines(plan: Plan, workload: Workload, options: WriteOptions) -> list[ConfigLine]:
    name = f"outputs/{workload.model.name}-{workload.sequence_len}-{layout_slug(plan)}"
    folder = options.output_dir or (str(PurePath(options.path).parent / name) if options.path else f"./{name}")
    origin = "flag" if options.output_dir else "default"
    line = ConfigLine(key="output_dir", value=folder, origin=origin, comment="the trained model")
    if workload.engine == "cpadvisor":
        return [line]
    return [ConfigLine(key="logging_steps", value=1, origin="card", comment="C2"), line]


def layout_slug(plan: Plan) -> str:
    """A name of the layout for files: `shard2-cp4`, `rep2-shard4-tp2`, `one`."""
    short = {"dp_replicate": "rep", "dp_shard": "shard", "cp": "cp", "tp": "tp"}
    parts = [f"{name}{plan.layout.degree(axis)}" for axis, name in short.items() if plan.layout.degree(axis) > 1]
    return "-".join(parts) or "one"


def _own_block(plan: Plan, workload: Workload, options: WriteOptions) -> ConfigLine:
    random = starts_from_random_weights(workload)
    block: dict[str, Any] = {
        "model": workload.model.name,
        "random_weights": random,
        "method": plan.cp_method,
        **({"ulysses_degree": plan.ulysses} if plan.cp_method == "usp" else {}),
        "recompute": {policy: layers for policy, layers in plan.recompute.items() if layers},
        "rank_order": list(plan.order),
    }
    if random:
        block["tokenizer"] = "bytes"
    if options.data is None:
        block["corpus"] = "python-stdlib"
    block["prediction"] = {**prediction(plan), **(first_loss(workload) if random else {})}
    return ConfigLine(key="cpadvisor", value=block, origin="plan", comment="what axolotl has no key for")


def prediction(plan: Plan) -> Mapping[str, Any]:
    """What the run is expected to cost, for comparison while it runs; the memory terms are those of its peak."""
    return {
        "peak_bytes": plan.memory.peak_bytes,
        "low_bytes": plan.memory.low_bytes,
        "high_bytes": plan.memory.high_bytes,
        "terms_bytes": dict(plan.memory.terms_bytes),
        "step_s": _rounded(plan.step.total_s),
        "step_low_s": _rounded(plan.step.low_s),
        "step_high_s": _rounded(plan.step.high_s),
        "tokens_per_s_per_gpu": _rounded(plan.tokens_per_s_per_gpu),
    }


def first_loss(workload: Workload) -> Mapping[str, float]:
    """The loss of the first step from random weights: ln(vocabulary), as all tokens are equally likely.

    384 tokens of `tiny`: 5.951. Another figure means that data, labels or the loss are not what they should be.
    """
    return {"first_loss": _rounded(math.log(workload.model.vocab_size))}


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")
