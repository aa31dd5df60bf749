"""The shape of a decoder, read from a config.json in Hugging Face's form.

llama, mistral, qwen2 and qwen3; what another value of a key would change in the
computation is refused by name, never ignored.
"""

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard, cast

from runtime.errors import ConfigError

FAMILIES = ("llama", "mistral", "qwen2", "qwen3")
SLIDING = "sliding_attention"
_SINK_WORDS = frozenset({"sink", "sinks"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Llama3Scaling:
    """Slower rotary frequencies for long contexts, as Llama 3.1 was trained with."""

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_max_positions: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShape:
    """One dense decoder."""

    family: str
    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab_size: int
    tied_embeddings: bool
    qkv_bias: bool
    qk_norm: bool
    rope_theta: float
    rope_scaling: Llama3Scaling | None
    rms_norm_eps: float
    initializer_range: float


def load(folder: Path, *, sequence_len: int) -> ModelShape:
    """The shape in `folder`/config.json. Raises ConfigError with every reason why this trainer cannot run it."""
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(str(path), [f"cannot be read: {error}"]) from None
    if not isinstance(config, dict):
        raise ConfigError(str(path), ["is not a JSON object"])
    problems = _refusals(config, sequence_len)
    if problems:
        raise ConfigError(str(path), problems)
    heads = config["num_attention_heads"]
    return ModelShape(
        family=config["model_type"],
        hidden_size=config["hidden_size"],
        intermediate_size=config["intermediate_size"],
        layers=config["num_hidden_layers"],
        heads=heads,
        kv_heads=config.get("num_key_value_heads") or heads,
        head_dim=_head_dim(config),
        vocab_size=config["vocab_size"],
        tied_embeddings=bool(config.get("tie_word_embeddings", False)),
        qkv_bias=config["model_type"] == "qwen2",
        qk_norm=config["model_type"] == "qwen3",
        rope_theta=float(_rope(config).get("rope_theta") or config.get("rope_theta") or 10000.0),
        rope_scaling=_scaling(_rope(config)),
        rms_norm_eps=float(config.get("rms_norm_eps") or 1e-6),
        initializer_range=float(config.get("initializer_range") or 0.02),
    )


def _head_dim(config: Mapping[str, Any]) -> int:
    return config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]


def _rope(config: Mapping[str, Any]) -> Mapping[str, Any]:
    # transformers 5 writes rope_parameters, earlier ones rope_scaling beside rope_theta.
    return config.get("rope_parameters") or config.get("rope_scaling") or {}


def _rope_type(rope: Mapping[str, Any]) -> str:
    return str(rope.get("rope_type", rope.get("type", "default")))


def _scaling(rope: Mapping[str, Any]) -> Llama3Scaling | None:
    if _rope_type(rope) == "default":
        return None
    return Llama3Scaling(
        factor=float(rope["factor"]),
        low_freq_factor=float(rope["low_freq_factor"]),
        high_freq_factor=float(rope["high_freq_factor"]),
        original_max_positions=int(rope["original_max_position_embeddings"]),
    )


_SIZES = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "vocab_size",
)
_OPTIONAL_SIZES = ("num_key_value_heads", "head_dim", "sliding_window")
_OPTIONAL_NUMBERS = ("rope_theta", "rms_norm_eps", "initializer_range")
_SCALING = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")


def _refusals(config: Mapping[str, Any], sequence_len: int) -> list[str]:
    family = config.get("model_type")
    sinks = list(_sinks(config))
    if family not in FAMILIES:
        return [f"model_type {family!r} is not one of {', '.join(FAMILIES)}, which this trainer runs", *sinks]
    problems = [*_wrong_values(config), *sinks, *_layer_types(config)]
    if config.get("hidden_act", "silu") != "silu":
        problems.append(f"hidden_act {config['hidden_act']!r}: this trainer has silu only")
    problems += [
        f"{key} true: this trainer has no such biases"
        for key in ("attention_bias", "mlp_bias")
        if config.get(key) and not (key == "attention_bias" and family == "qwen2")
    ]
    problems += _window(config, sequence_len)
    return problems or [*_head_problems(config), *_rope_problems(_rope(config))]


def _window(config: Mapping[str, Any], sequence_len: int) -> Iterator[str]:
    """A window that some layers attend over: mistral's, or that of layers called sliding_attention."""
    window, layers = config.get("sliding_window"), _counts_of_layers(config)
    slides = config.get("use_sliding_window", config.get("model_type") == "mistral" or SLIDING in layers)
    if _is_size(window) and window < sequence_len and slides:
        named = f", for {layers[SLIDING]} of {layers.total()} layer_types {SLIDING}" if SLIDING in layers else ""
        yield f"sliding_window {window} is below sequence_len {sequence_len}{named}: this trainer attends to all tokens"


def _layer_types(config: Mapping[str, Any]) -> Iterator[str]:
    """Layers of which this trainer has no kind; whether those with a window count, the window decides."""
    layers = _counts_of_layers(config)
    for kind in layers.keys() - {"full_attention", SLIDING}:
        told = f"layer_types has {kind} in {layers[kind]} of {layers.total()} layers"
        yield f"{told}: this trainer has full_attention only"


def _counts_of_layers(config: Mapping[str, Any]) -> "Counter[str]":
    types = config.get("layer_types")
    return Counter(map(str, types)) if isinstance(types, list) else Counter()


def _sinks(config: Mapping[str, Any]) -> Iterator[str]:
    """Attention sinks, a learned logit beside those of the tokens, under whatever key; gpt-oss has no key for them."""
    for key, value in config.items():
        if value and _SINK_WORDS & set(key.split("_")):
            yield f"{key} {json.dumps(value)}: this trainer's attention has no sinks"
    if config.get("model_type") == "gpt_oss":
        yield "model_type 'gpt_oss' attends with sinks: this trainer's attention has none"


def _wrong_values(config: Mapping[str, Any]) -> Iterator[str]:
    """What is no number at all where one is read; an absent or empty optional key has its default."""
    for key in (*_SIZES, *_OPTIONAL_SIZES):
        if not _is_size(config.get(key)) and (key in _SIZES or config.get(key) is not None):
            yield f"{key} {config.get(key)!r} is not a whole number from 1 up"
    for key in _OPTIONAL_NUMBERS:
        if config.get(key) is not None and not _is_positive(config[key]):
            yield f"{key} {config[key]!r} is not a number above 0"
    for key in ("rope_parameters", "rope_scaling"):
        if config.get(key) and not isinstance(config[key], dict):
            yield f"{key} {config[key]!r} is not an object"


def _head_problems(config: Mapping[str, Any]) -> Iterator[str]:
    heads, kv_heads = config["num_attention_heads"], config.get("num_key_value_heads")
    if kv_heads is not None and heads % kv_heads:
        yield f"num_key_value_heads {kv_heads} does not divide num_attention_heads {heads}"
    if _head_dim(config) < 2 or _head_dim(config) % 2:
        yield f"heads of {_head_dim(config)} numbers cannot be turned in pairs; head_dim is an even number"


def _rope_problems(rope: Mapping[str, Any]) -> Iterator[str]:
    if _rope_type(rope) not in ("default", "llama3"):
        yield f"rope scaling {_rope_type(rope)!r}: this trainer has llama3 only"
        return
    if rope.get("rope_theta") is not None and not _is_positive(rope["rope_theta"]):
        yield f"rope_theta {rope['rope_theta']!r} is not a number above 0"
    for key in _SCALING if _rope_type(rope) == "llama3" else ():
        if key not in rope:
            yield f"rope scaling llama3 lacks {key}"
        elif not _is_positive(rope[key]):
            yield f"rope scaling llama3: {key} {rope[key]!r} is not a number above 0"


def _is_size(value: object) -> TypeGuard[int]:
    return type(value) is int and value >= 1


def _is_positive(value: object) -> bool:
    return type(value) in (int, float) and 0 < cast(float, value) < math.inf
