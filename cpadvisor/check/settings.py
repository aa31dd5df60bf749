"""Settings that speed, steady or break a training: card rows L1, C7, C8, and pairs that axolotl refuses."""

from collections.abc import Iterator
from typing import Any

from cpadvisor.check.finding import Finding
from cpadvisor.check.subject import Config
from cpadvisor.hf_config import DECODER_LAYERS
from cpadvisor.units import format_bytes
from cpadvisor.write.edit import REMOVE
from cpadvisor.write.options import PRETRAINED_LEARNING_RATE

LONG_TOKENS = 8192
"""From here up the card advises context parallelism (T1) and activations outweigh what saves them."""

HIGH_LEARNING_RATE = 5e-3
"""Above this AdamW on a decoder diverges in practice. An estimate."""

_SHORT_ATTENTION = {"flash": "flash_attention_2", "flex": "flex_attention", "sdp": "sdpa"}
_EIGHT_BIT = ("adamw_8bit", "adamw_bnb_8bit")
_SHARDED_EIGHT_BIT = "adamw_torch_8bit"
"""What axolotl's schema names in place of bitsandbytes' own under FSDP 2 (utils/schemas/validation.py:1555-1568)."""
_SPEED = {"tf32": True, "dataloader_num_workers": 4, "dataloader_pin_memory": True}


def setting_rules(config: Config) -> Iterator[Finding]:
    """Everything that is neither a name, a size, a length nor a path."""
    yield from _musts(config)
    yield from _steadiness(config)
    yield from _learning_rate(config)
    if config.is_axolotl:
        yield from _speed(config)
        yield from _attention_names(config)
        yield from _sharding(config)
        yield from _checkpointing(config)
        yield from _accumulation(config)
        yield from _pairs(config)


def _musts(config: Config) -> Iterator[Finding]:
    """Card row L1; divisibility is F3."""
    micro, cp = config.number("micro_batch_size"), config.degree("cp")
    if micro is not None and micro > 1 and cp > 1:
        message = f"micro_batch_size {micro:g} with context_parallel_size {cp}: activations grow {micro:g} times"
        steps = round((config.number("gradient_accumulation_steps") or 1) * micro)
        fix = f"write micro_batch_size: 1 and gradient_accumulation_steps: {steps}"
        changes = {"micro_batch_size": 1, "gradient_accumulation_steps": steps, **_synced(config)}
        yield config.find("L1", "warning", "micro_batch_size", message, fix, changes)
    if config.is_axolotl and config.attention is None:
        message = "attn_implementation is missing: axolotl takes sdpa, which is slower and allows no ring"
        fix = "write attn_implementation: flash_attention_2"
        changes = config.with_attention("flash_attention_2")
        yield config.find("L1", "note", "attn_implementation", message, fix, changes)
    if config.values.get("bf16") is None:
        message = "bf16 is missing: without it activations and gathered weights are twice as large"
        severity = "warning" if config.is_axolotl else "note"
        yield config.find("L1", severity, "bf16", message, "write bf16: true", _bf16(config))
    tokens = config.number("sequence_len") or 0
    recompute = config.block("cpadvisor").get("recompute")
    recompute = recompute or config.fsdp("activation_checkpointing")
    if config.values.get("gradient_checkpointing") is None and not recompute and tokens >= LONG_TOKENS:
        message = f"gradient_checkpointing is missing: the activations of all layers stay at {tokens:,.0f} tokens"
        fix, changes = "write it as true where memory is short", {"gradient_checkpointing": True}
        yield config.find("L1", "note", "gradient_checkpointing", message, fix, changes)


def _bf16(config: Config) -> dict[str, Any]:
    return {"bf16": True, **({"fp16": False} if config.values.get("fp16") else {})}


def _synced(config: Config) -> dict[str, Any]:
    """The changes that keep accumulated gradients sharded, for axolotl under FSDP."""
    wanted = config.is_axolotl and bool(config.block("fsdp_config"))
    return {"accelerator_config.gradient_accumulation_kwargs.sync_each_batch": True} if wanted else {}


def _steadiness(config: Config) -> Iterator[Finding]:
    """Card row C8."""
    if config.values.get("warmup_steps") and config.values.get("warmup_ratio"):
        message = "warmup_steps and warmup_ratio are both given, and both trainers refuse the pair"
        fix = "remove warmup_ratio, or warmup_steps"
        yield config.find("C8", "error", "warmup_ratio", message, fix, {"warmup_ratio": REMOVE})
    if config.values.get("fp16"):
        both = bool(config.values.get("bf16"))
        message = "fp16 and bf16 are both on" if both else "fp16 overflows where bf16 does not"
        severity, fix = "error" if both else "warning", "write bf16: true and fp16: false"
        yield config.find("C8", severity, "fp16", message, fix, {"bf16": True, "fp16": False})
    norm = config.number("max_grad_norm")
    if norm == 0:
        message = "max_grad_norm 0 leaves gradients unclipped"
        fix, changes = "write max_grad_norm: 1.0", {"max_grad_norm": 1.0}
        yield config.find("C8", "warning", "max_grad_norm", message, fix, changes)


def _learning_rate(config: Config) -> Iterator[Finding]:
    value = config.values.get("learning_rate")
    if value is None:
        return
    rate = config.number("learning_rate")
    usual = {"learning_rate": PRETRAINED_LEARNING_RATE}
    if rate is None:
        message = f"learning_rate {value!r} is no number"
        fix = "write for example learning_rate: 2e-5"
        yield config.find("learning-rate", "error", "learning_rate", message, fix, usual)
    elif rate <= 0:
        message = f"learning_rate {rate} trains nothing; it is above 0"
        fix = "write for example learning_rate: 2e-5"
        yield config.find("learning-rate", "error", "learning_rate", message, fix, usual)
    elif rate > HIGH_LEARNING_RATE:
        message = f"learning_rate {rate:g} is likely to diverge with AdamW"
        fix, changes = f"stay at or below {HIGH_LEARNING_RATE:g}", {"learning_rate": HIGH_LEARNING_RATE}
        yield config.find("learning-rate", "warning", "learning_rate", message, fix, changes)


def _speed(config: Config) -> Iterator[Finding]:
    """Card row C7."""
    missing = [f"{key}: {str(value).lower()}" for key, value in _SPEED.items() if config.values.get(key) is None]
    if missing:
        message = f"speed settings that are left out: {', '.join(missing)}"
        changes = {key: value for key, value in _SPEED.items() if config.values.get(key) is None}
        yield config.find("C7", "note", None, message, "write them", changes)
    optimizer = config.values.get("optimizer")
    if optimizer in ("adamw_torch", "adamw_hf"):
        message = f"optimizer {optimizer} needs one more copy of the shard in the step than the fused one"
        fix, changes = "write optimizer: adamw_torch_fused", {"optimizer": "adamw_torch_fused"}
        yield config.find("C7", "note", "optimizer", message, fix, changes)


def _attention_names(config: Config) -> Iterator[Finding]:
    named = config.values.get("attn_implementation")
    if isinstance(named, str) and named in _SHORT_ATTENTION:
        message = f"attn_implementation {named!r} is a short form that axolotl refuses"
        kernel = _SHORT_ATTENTION[named]
        fix = f"write attn_implementation: {kernel}"
        yield config.find(
            "attention-name", "error", "attn_implementation", message, fix, {"attn_implementation": kernel}
        )
    if named is not None and config.values.get("flash_attention") is not None:
        message = "attn_implementation and flash_attention are both given, and axolotl refuses the pair"
        fix, changes = "remove flash_attention", {"flash_attention": REMOVE}
        yield config.find("attention-name", "error", "flash_attention", message, fix, changes)


def _sharding(config: Config) -> Iterator[Finding]:
    for key, version in (
        ("fsdp_version", config.values.get("fsdp_version")),
        (config.fsdp_key("version"), config.fsdp("version")),
    ):
        if version is not None and str(version) != "2":
            message = f"FSDP version {version} is refused since axolotl 0.20"
            yield config.find("fsdp-version", "error", key, message, f"write {key}: 2", {key: 2})
    wanted = config.fsdp("transformer_layer_cls_to_wrap")
    family = config.model.family if config.model else ""
    layer = DECODER_LAYERS.get(family)
    if wanted is not None and layer is not None and wanted != layer:
        message = f"transformer_layer_cls_to_wrap {wanted} is no layer of a {family} model"
        key = config.fsdp_key("transformer_layer_cls_to_wrap")
        yield config.find("wrap-class", "error", key, message, f"write {layer}", {key: layer})
    if config.fsdp("auto_wrap_policy") == "SIZE_BASED_WRAP" and config.fsdp("min_num_params") is None:
        message = "auto_wrap_policy SIZE_BASED_WRAP needs fsdp_config.min_num_params"
        key, fix = "fsdp_config.min_num_params", "write TRANSFORMER_BASED_WRAP"
        changes = {config.fsdp_key("auto_wrap_policy"): "TRANSFORMER_BASED_WRAP"}
        yield config.find("wrap-class", "error", key, message, fix, changes)
    if config.fsdp("cpu_offload_pin_memory") is False and not config.fsdp("offload_params"):
        message = "cpu_offload_pin_memory false is refused without offload_params"
        key = config.fsdp_key("cpu_offload_pin_memory")
        yield config.find("fsdp-offload", "error", key, message, "remove it", {key: REMOVE})


def _checkpointing(config: Config) -> Iterator[Finding]:
    recomputes = bool(config.values.get("gradient_checkpointing"))
    if recomputes and config.fsdp("activation_checkpointing"):
        message = (
            "gradient_checkpointing and fsdp_config.activation_checkpointing are both on, and the Trainer refuses that"
        )
        key = config.fsdp_key("activation_checkpointing")
        yield config.find("checkpointing-twice", "error", key, message, f"remove {key}", {key: REMOVE})
    place = {"offload": True, "offload_disk": "disk"}.get(str(config.values.get("gradient_checkpointing")))
    if place is not None:
        message = f"gradient_checkpointing {config.values['gradient_checkpointing']} is deprecated"
        fix = f"write gradient_checkpointing: true and activation_offloading: {str(place).lower()}"
        changes = {"gradient_checkpointing": True, "activation_offloading": place}
        yield config.find("key-deprecated", "warning", "gradient_checkpointing", message, fix, changes)
    for key in ("activation_offloading", "selective_checkpointing"):
        if config.values.get(key) and not recomputes:
            message = f"{key} needs gradient_checkpointing"
            fix, changes = "write gradient_checkpointing: true", {"gradient_checkpointing": True}
            yield config.find("needs-checkpointing", "error", key, message, fix, changes)
    offloads = config.values.get("activation_offloading")
    if config.values.get("selective_checkpointing") and offloads not in (None, False, "hidden_states"):
        message = f"selective_checkpointing does not go with activation_offloading {offloads}"
        fix, changes = "write hidden_states", {"activation_offloading": "hidden_states"}
        yield config.find("checkpointing-twice", "error", "activation_offloading", message, fix, changes)
    if config.values.get("torch_compile_regional") and recomputes:
        message = "torch_compile_regional with gradient_checkpointing is refused"
        fix, changes = "remove torch_compile_regional, or recompute nothing", {"torch_compile_regional": REMOVE}
        yield config.find("compile-checkpointing", "error", "torch_compile_regional", message, fix, changes)


def _accumulation(config: Config) -> Iterator[Finding]:
    """Card row L3: without sync_each_batch accelerate keeps gradients unsharded between micro-batches, in bf16.

    2 bytes a parameter over tp. Llama-3.1-8B: 15.0 GiB on each GPU, whatever dp_shard is.
    """
    steps = config.number("gradient_accumulation_steps") or 1
    kwargs = config.block("accelerator_config").get("gradient_accumulation_kwargs")
    synced = isinstance(kwargs, dict) and kwargs.get("sync_each_batch") is True
    if steps <= 1 or synced or not config.block("fsdp_config") or config.values.get("adapter"):
        return
    cost = "all gradients"
    if config.model is not None:
        cost = f"{format_bytes(2 * config.model.parameters / config.degree('tp'))} of gradients"
    message = f"gradient_accumulation_steps {steps:g}: each GPU keeps {cost} whole between micro-batches"
    fix = "write accelerator_config: {gradient_accumulation_kwargs: {sync_each_batch: true}}"
    yield config.find("no-sync", "warning", "gradient_accumulation_steps", message, fix, _synced(config))


def _pairs(config: Config) -> Iterator[Finding]:
    """Pairs of settings that axolotl's schema refuses (utils/schemas/validation.py of 0.21.0)."""
    values, tp = config.values, config.degree("tp")
    optimizer = str(values.get("optimizer"))
    pairs = {
        ("deepspeed", "fsdp_config"): bool(values.get("deepspeed") and values.get("fsdp_config")),
        ("batch_size", "gradient_accumulation_steps"): bool(
            values.get("batch_size") and values.get("gradient_accumulation_steps")
        ),
        ("batch_flattening", "sample_packing"): bool(values.get("batch_flattening") and values.get("sample_packing")),
        ("optimizer", "fsdp_config"): optimizer in _EIGHT_BIT and bool(values.get("fsdp_config")),
        ("optimizer", "tensor_parallel_size"): tp > 1 and optimizer in (*_EIGHT_BIT, "paged_adamw_8bit"),
        ("liger_rms_norm", "tensor_parallel_size"): bool(tp > 1 and values.get("liger_rms_norm")),
        ("liger_fused_linear_cross_entropy", "tensor_parallel_size"): bool(
            tp > 1 and values.get("liger_fused_linear_cross_entropy")
        ),
        ("expert_parallel_size", "tensor_parallel_size"): tp > 1 and (config.number("expert_parallel_size") or 1) > 1,
        ("chunked_cross_entropy", "cut_cross_entropy"): bool(
            values.get("chunked_cross_entropy") and values.get("cut_cross_entropy")
        ),
    }
    for (key, other), clash in pairs.items():
        if clash:
            message = f"{key} {values.get(key)} does not go with {other}: axolotl refuses the pair"
            if key == "optimizer":
                fix, changes = f"write optimizer: {_SHARDED_EIGHT_BIT}", {key: _SHARDED_EIGHT_BIT}
            else:
                fix, changes = f"remove {key}, or {other}", {key: REMOVE}
            yield config.find("pair", "error", key, message, fix, changes)
    if values.get("fp32_norms") and not values.get("fsdp_config"):
        message, fix = "fp32_norms needs fsdp_config", "remove fp32_norms"
        yield config.find("pair", "error", "fp32_norms", message, fix, {"fp32_norms": REMOVE})
