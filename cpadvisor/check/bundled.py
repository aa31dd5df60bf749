"""What the bundled trainer refuses: values of shared keys that it does not do, and its own block."""

import difflib
from collections.abc import Iterator
from typing import Any

from cpadvisor.check.finding import Finding
from cpadvisor.check.methods import method_rules
from cpadvisor.check.subject import Config
from cpadvisor.plan.engines import find_engine
from cpadvisor.write.edit import REMOVE


def bundled_rules(config: Config) -> Iterator[Finding]:
    """Rules for the engine `cpadvisor` alone."""
    if config.is_axolotl:
        return
    yield from _values(config)
    yield from method_rules(config)
    yield from _recompute(config, config.block("cpadvisor").get("recompute"))
    yield from _rank_order(config, config.block("cpadvisor").get("rank_order"))


def _values(config: Config) -> Iterator[Finding]:
    offload = config.fsdp_key("offload_params")
    refused = {
        "sample_packing": (config.values.get("sample_packing") is True, False, "documents are not packed yet"),
        "val_set_size": ((config.number("val_set_size") or 0) > 0, 0, "it does not evaluate"),
        "fsdp_version": (config.values.get("fsdp_version") not in (None, 2), 2, "it has FSDP version 2 alone"),
        offload: (bool(config.fsdp("offload_params")), False, "it does not offload"),
    }
    for key, (asked, works, why) in refused.items():
        if asked:
            message = f"{key} asks for what the bundled trainer does not do: {why}"
            fix = f"write {key.rpartition('.')[2]}: {str(works).lower()}"
            yield config.find("engine-value", "error", key, message, fix, {key: works})


def _recompute(config: Config, asked: Any) -> Iterator[Finding]:
    policies = find_engine("cpadvisor").recompute_policies
    if asked is None:
        return
    if not isinstance(asked, dict) or any(type(layers) is not int or layers < 0 for layers in asked.values()):
        message = f"cpadvisor.recompute {asked!r} is no mapping of policy to layers"
        fix = f"write for example {{full: {config.model.layers if config.model else 32}}}"
        yield config.find("recompute", "error", "cpadvisor.recompute", message, fix, _in_all_layers(config, "full"))
        return
    for policy in asked:
        if policy not in policies:
            near = (difflib.get_close_matches(str(policy), policies, n=1) or ["full"])[0]
            message = f"cpadvisor.recompute {policy!r} is no policy of the bundled trainer"
            fix = f"write {near}; there are {', '.join(policies)}"
            yield config.find("recompute", "error", "cpadvisor.recompute", message, fix, _in_all_layers(config, near))
    total = sum(asked.values())
    if config.model is not None and total != config.model.layers:
        message = f"cpadvisor.recompute names {total} layers and {config.model.name} has {config.model.layers}"
        changes = _in_all_layers(config, next(iter(asked))) if len(asked) == 1 and set(asked) <= set(policies) else None
        fix = f"let them add up to {config.model.layers}"
        yield config.find("recompute", "error", "cpadvisor.recompute", message, fix, changes)


def _in_all_layers(config: Config, policy: str) -> dict[str, Any]:
    return {} if config.model is None else {"cpadvisor.recompute": {policy: config.model.layers}}


def _rank_order(config: Config, order: Any) -> Iterator[Finding]:
    if order is None:
        return
    gone = {"cpadvisor.rank_order": REMOVE}
    whole = isinstance(order, list) and all(type(gpu) is int and gpu >= 0 for gpu in order)
    if not whole or len(set(order)) != len(order):
        message = f"cpadvisor.rank_order {order!r} is no list of different GPU indices"
        fix = "remove it, or write for example [0, 1]"
        yield config.find("rank-order", "error", "cpadvisor.rank_order", message, fix, gone)
    elif order and config.product % len(order):
        message = f"cpadvisor.rank_order has {len(order)} GPUs and the sizes multiply to {config.product}"
        yield config.find(
            "rank-order", "error", "cpadvisor.rank_order", message, "remove it, or name one GPU a local rank", gone
        )
