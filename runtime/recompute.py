"""What a layer keeps for backward: everything, its attention alone, or only its input.

- none: every activation is kept, nothing runs twice.
- attention_saved: attention's output and log-sum-exp are kept, the rest of the
  layer runs again; neither attention kernels nor messages between ranks do.
- full: the input is kept, the whole layer runs again, its messages too.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

from runtime.errors import ConfigError
from runtime.model import CausalLM, DecoderLayer


def policy_of_layers(asked: tuple[tuple[str, int | None], ...], layers: int) -> tuple[str, ...]:
    """One policy a layer, in order. `{full: 30, none: 2}`: the first 30 are recomputed."""
    if len(asked) == 1 and asked[0][1] is None:
        return (asked[0][0],) * layers
    counts = [count or 0 for _, count in asked]
    if sum(counts) != layers:
        told = ", ".join(f"{policy}: {count}" for policy, count in asked)
        raise ConfigError(
            "cpadvisor.recompute", [f"{{{told}}} names {sum(counts)} layers, the model has {layers}; make them add up"]
        )
    return tuple(policy for policy, count in asked for _ in range(count or 0))


def apply(model: CausalLM, policies: tuple[str, ...]) -> None:
    """Give every layer its policy. Comes before sharding, so that gathering wraps recomputation."""
    for layer, policy in zip(model.model.layers, policies, strict=True):
        assert isinstance(layer, DecoderLayer), f"a decoder layer, not {type(layer).__name__}"
        if policy != "none":
            layer.run = _runner(policy)


def _runner(policy: str) -> Callable[..., Any]:
    # Nothing in a layer is random, so no generator state is kept.
    run = partial(checkpoint, use_reentrant=False, preserve_rng_state=False)
    if policy == "full":
        return run
    return partial(run, context_fn=partial(create_selective_checkpoint_contexts, _keep_attention))


def _keep_attention(_context: Any, operator: Any, *_args: Any, **_kwargs: Any) -> CheckpointPolicy:
    if operator is torch.ops.cpadvisor.context_attention.default:
        return CheckpointPolicy.MUST_SAVE
    return CheckpointPolicy.PREFER_RECOMPUTE
