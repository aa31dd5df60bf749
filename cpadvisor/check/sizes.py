"""Sizes of the axes: whether they multiply to the GPUs, and whether the trainer starts with them."""

from collections.abc import Iterator
from typing import Any

from cpadvisor.check.finding import Finding
from cpadvisor.check.subject import Config
from cpadvisor.plan.layout import divisors
from cpadvisor.write.edit import REMOVE
from cpadvisor.write.split import SIZE_KEYS

KEYS = tuple(SIZE_KEYS.values())


def size_rules(config: Config) -> Iterator[Finding]:
    """Values, product (card row F1), and the mesh that the trainer builds."""
    yield from _whole_numbers(config)
    yield from _product(config)
    yield from _axolotl_mesh(config) if config.is_axolotl else _bundled_axes(config)
    if config.is_axolotl:
        yield from _fsdp_present(config)
        yield from _tensor_parallel(config)


def _whole_numbers(config: Config) -> Iterator[Finding]:
    for key in (*KEYS, "micro_batch_size", "gradient_accumulation_steps", "sequence_len"):
        value = config.values.get(key)
        if value is not None and (type(value) is not int or value < 1):
            message = f"{key} is {value!r}; it is a whole number from 1 up"
            near = _near_size(value)
            changes = None if key == "sequence_len" else {key: near}
            yield config.find("size-value", "error", key, message, f"write {key}: {near}", changes)


def _near_size(value: object) -> int:
    """The whole number from 1 up that stands nearest: 4 for `"4"`, 4.0 or 4.4; 1 for what is no number."""
    try:
        return max(int(float(str(value))), 1)
    except (ValueError, OverflowError):
        return 1


def _product(config: Config) -> Iterator[Finding]:
    gpus, product = config.gpus, config.product
    if gpus is None or product == gpus:
        return
    others = product // config.degree("dp_shard")
    shard_is_written = config.values.get("dp_shard_size") is not None
    if not shard_is_written and gpus % others == 0:
        yield from _missing_shard(config, others)
        return
    written = " x ".join(f"{key} {config.degree(axis)}" for axis, key in SIZE_KEYS.items())
    changes: dict[str, Any] = {}
    if gpus % others == 0:
        fix = f"write dp_shard_size: {gpus // others}, or use {product} GPUs"
        changes = config.with_shards(gpus // others)
        order = config.block("cpadvisor").get("rank_order")
        if isinstance(order, list) and order and gpus % len(order):
            changes["cpadvisor.rank_order"] = REMOVE
    else:
        fits = ", ".join(map(str, divisors(gpus)))
        fix = f"use {product} GPUs, or sizes whose product is {gpus} (its divisors are {fits})"
    message = f"{written} = {product}, but there are {gpus} GPUs"
    yield config.find("F1", "error", _last_size_key(config), message, fix, changes)


def _missing_shard(config: Config, others: int) -> Iterator[Finding]:
    """axolotl's loader fills a missing dp_shard_size, its Accelerator does not; without any size it shards over all."""
    if not config.is_axolotl or others == 1:
        return
    gpus = config.gpus or others
    message = (
        f"dp_shard_size is missing: the written sizes multiply to {others}, not to {gpus} GPUs, "
        "and axolotl's Accelerator takes a missing size for 1"
    )
    shards = gpus // others
    fix = f"write dp_shard_size: {shards}"
    yield config.find("dp-shard-explicit", "error", "dp_shard_size", message, fix, config.with_shards(shards))


def _last_size_key(config: Config) -> str:
    written = [key for key in KEYS if config.values.get(key) is not None]
    return written[-1] if written else "dp_shard_size"


def _bundled_axes(config: Config) -> Iterator[Finding]:
    for axis in ("tp", "dp_replicate"):
        if config.degree(axis) > 1:
            key = SIZE_KEYS[axis]
            message = f"{key} {config.degree(axis)}: the bundled trainer does not do {key} above 1 yet"
            moved = config.degree("dp_shard") * config.degree(axis)
            fix = f"write {key}: 1 and dp_shard_size: {moved}"
            yield config.find("engine-axes", "error", key, message, fix, {key: 1, SIZE_KEYS["dp_shard"]: moved})


def _axolotl_mesh(config: Config) -> Iterator[Finding]:
    replicate, shard, tp, cp = (config.degree(axis) for axis in ("dp_replicate", "dp_shard", "tp", "cp"))
    if config.engine == "axolotl-0.21" and tp > 1 and (cp > 1 or replicate > 1):
        other = f"context_parallel_size {cp}" if cp > 1 else f"dp_replicate_size {replicate}"
        message = (
            f"tensor_parallel_size {tp} with {other} does not start in axolotl 0.21: transformers 5.20 sets dp_shard "
            f"to {config.product // tp} itself and the mesh exceeds the GPUs"
        )
        fix = f"write tensor_parallel_size: 1 and dp_shard_size: {shard * tp}, or use axolotl 0.20"
        yield config.find("tp-cp", "error", "tensor_parallel_size", message, fix, _without_tp(config))
    if replicate > 1 and shard == 1 and (tp > 1 or cp > 1):
        message = f"dp_replicate_size {replicate} with dp_shard_size 1 and tp or cp above 1 is refused by accelerate"
        fix = f"write dp_shard_size: {replicate} and dp_replicate_size: 1"
        changes = {"dp_replicate_size": 1, **config.with_shards(replicate)}
        yield config.find("replicate-shard", "error", "dp_replicate_size", message, fix, changes)


def _fsdp_present(config: Config) -> Iterator[Finding]:
    has_fsdp = bool(config.block("fsdp_config"))
    shard, tp, cp = config.degree("dp_shard"), config.degree("tp"), config.degree("cp")
    fix = "write fsdp_version: 2 and fsdp_config: {reshard_after_forward: true}"
    if shard > 1 and not has_fsdp:
        message = f"dp_shard_size {shard} without fsdp_config: axolotl stops when it loads the model"
        yield config.find("fsdp-missing", "error", "dp_shard_size", message, fix, config.with_sharding())
    elif cp > 1 and not has_fsdp and not config.values.get("deepspeed"):
        message = f"context_parallel_size {cp} without fsdp_config: each GPU holds the whole model and its optimizer"
        yield config.find("fsdp-missing", "warning", "context_parallel_size", message, fix, config.with_sharding())
    if has_fsdp and tp > 1 and shard * cp == 1 and config.gpus in (None, tp * config.degree("dp_replicate")):
        message = f"fsdp_config with tensor_parallel_size {tp} leaves nothing to shard over: the mesh has no such axis"
        fix = "remove fsdp_config, or lower tensor_parallel_size"
        yield config.find("tp-fsdp", "error", "fsdp_config", message, fix, {"fsdp_config": REMOVE})


def _without_tp(config: Config) -> dict[str, Any]:
    """The changes that fold tp into dp_shard: the same GPUs."""
    return {SIZE_KEYS["tp"]: 1, **config.with_shards(config.degree("dp_shard") * config.degree("tp"))}


def _with_tp(config: Config, tp: int) -> dict[str, Any]:
    """The changes to a smaller tp, the same GPUs; to none at all where dp_shard cannot take what is left."""
    ranks = config.degree("dp_shard") * config.degree("tp")
    return _without_tp(config) if ranks % tp else {SIZE_KEYS["tp"]: tp, **config.with_shards(ranks // tp)}


def _tensor_parallel(config: Config) -> Iterator[Finding]:
    tp, model = config.degree("tp"), config.model
    if tp == 1:
        return
    if config.values.get("adapter"):
        message = f"adapter {config.values['adapter']} with tensor_parallel_size {tp}: axolotl's loader refuses it"
        fix = f"write tensor_parallel_size: 1 and dp_shard_size: {config.degree('dp_shard') * tp}"
        yield config.find("tp-adapter", "error", "adapter", message, fix, _without_tp(config))
    if model is None:
        return
    if model.tied_embeddings:
        message = (
            f"tensor_parallel_size {tp}: {model.name} ties its embeddings, and axolotl's loader refuses that under TP"
        )
        fix = f"write tensor_parallel_size: 1 and dp_shard_size: {config.degree('dp_shard') * tp}"
        yield config.find("tp-tied", "error", "tensor_parallel_size", message, fix, _without_tp(config))
    if model.heads % tp:
        fits = max(size for size in divisors(model.heads) if size < tp)
        message = f"tensor_parallel_size {tp} does not divide the {model.heads} heads of {model.name}"
        yield config.find("tp-heads", "error", "tensor_parallel_size", message, f"use {fits}", _with_tp(config, fits))
    elif model.kv_heads % tp and tp % model.kv_heads:
        fits = max(size for size in divisors(model.kv_heads) if size < tp)
        message = (
            f"tensor_parallel_size {tp} neither divides nor is divided by the {model.kv_heads} KV heads of {model.name}"
        )
        yield config.find("kv-heads", "error", "tensor_parallel_size", message, f"use {fits}", _with_tp(config, fits))
