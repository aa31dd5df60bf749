"""What the bundled trainer refuses: values of shared keys that it does not do, and its own block."""

from collections.abc import Iterator
from typing import Any

from cpadvisor.check.finding import Finding
from cpadvisor.check.subject import Config
from cpadvisor.plan.engines import find_engine


def bundled_rules(config: Config) -> Iterator[Finding]:
    """Rules for the engine `cpadvisor` alone."""
    if config.is_axolotl:
        return
    yield from _values(config)
    yield from _method(config)
    yield from _recompute(config, config.block("cpadvisor").get("recompute"))
    yield from _rank_order(config, config.block("cpadvisor").get("rank_order"))


def _values(config: Config) -> Iterator[Finding]:
    refused = {
        "sample_packing": (config.values.get("sample_packing") is True, "false", "documents are not packed yet"),
        "val_set_size": ((config.number("val_set_size") or 0) > 0, "0", "it does not evaluate"),
        "fsdp_version": (config.values.get("fsdp_version") not in (None, 2), "2", "it has FSDP version 2 alone"),
        "fsdp_config.offload_params": (bool(config.fsdp("offload_params")), "false", "it does not offload"),
    }
    for key, (asked, works, why) in refused.items():
        if asked:
            message = f"{key} asks for what the bundled trainer does not do: {why}"
            yield config.find("engine-value", "error", key, message, f"write {key.rpartition('.')[2]}: {works}")


def _method(config: Config) -> Iterator[Finding]:
    method, cp = config.block("cpadvisor").get("method", "ring"), config.degree("cp")
    if method not in ("ring", "none"):
        message = f"cpadvisor.method {method!r} is none that the bundled trainer has yet"
        yield config.find("engine-value", "error", "cpadvisor.method", message, "write ring or none")
    elif method == "none" and cp > 1:
        message = f"cpadvisor.method none with context_parallel_size {cp}"
        yield config.find("engine-value", "error", "cpadvisor.method", message, "write method: ring")


def _recompute(config: Config, asked: Any) -> Iterator[Finding]:
    policies = find_engine("cpadvisor").recompute_policies
    if asked is None:
        return
    if not isinstance(asked, dict) or any(type(layers) is not int or layers < 0 for layers in asked.values()):
        message = f"cpadvisor.recompute {asked!r} is no mapping of policy to layers"
        yield config.find("recompute", "error", "cpadvisor.recompute", message, "write for example {full: 32}")
        return
    for policy in asked:
        if policy not in policies:
            message = f"cpadvisor.recompute {policy!r} is no policy of the bundled trainer"
            yield config.find("recompute", "error", "cpadvisor.recompute", message, f"use {', '.join(policies)}")
    total = sum(asked.values())
    if config.model is not None and total != config.model.layers:
        message = f"cpadvisor.recompute names {total} layers and {config.model.name} has {config.model.layers}"
        yield config.find(
            "recompute", "error", "cpadvisor.recompute", message, f"let them add up to {config.model.layers}"
        )


def _rank_order(config: Config, order: Any) -> Iterator[Finding]:
    if order is None:
        return
    whole = isinstance(order, list) and all(type(gpu) is int and gpu >= 0 for gpu in order)
    if not whole or len(set(order)) != len(order):
        message = f"cpadvisor.rank_order {order!r} is no list of different GPU indices"
        yield config.find("rank-order", "error", "cpadvisor.rank_order", message, "write for example [0, 1]")
    elif order and config.product % len(order):
        message = f"cpadvisor.rank_order has {len(order)} GPUs and the sizes multiply to {config.product}"
        yield config.find(
            "rank-order", "error", "cpadvisor.rank_order", message, "name one GPU a local rank, or remove it"
        )
