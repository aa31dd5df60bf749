"""A Hugging Face config.json is a ModelSpec in other words: reading one and writing one.

Supported are the dense decoders llama, mistral, qwen2 and qwen3. What the trainers
would compute wrongly (experts, sliding windows, output biases, quantised weights)
is refused by name, never dropped.
"""

import difflib
from collections.abc import Mapping
from typing import Any, cast

from cpadvisor.errors import ModelError
from cpadvisor.model import ModelSpec

ARCHITECTURES = {
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
}
"""Model type to the one class that is supported of it."""

DECODER_LAYERS = {
    "llama": "LlamaDecoderLayer",
    "mistral": "MistralDecoderLayer",
    "qwen2": "Qwen2DecoderLayer",
    "qwen3": "Qwen3DecoderLayer",
}
"""The class of one layer, which FSDP wraps."""

_SIZES = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
_EXPERT_KEYS = ("num_experts", "num_local_experts", "n_routed_experts")
_SLIDING = "sliding_attention"
_SINK_WORDS = frozenset({"sink", "sinks"})
_DEFAULT_ROPE_THETA = 10000.0  # of LlamaConfig, which files older than the key rely on
_DEFAULT_NORM_EPS = 1e-6


class _Reader:
    """Values of one config, with errors that say where they stand."""

    def __init__(self, config: Mapping[str, Any], where: str, lines: Mapping[str, int]) -> None:
        self._config = config
        self._where = where
        self._lines = lines

    def error(self, message: str, key: str | None = None) -> ModelError:
        line = self._lines.get(key or "")
        return ModelError(f"{self._where}{f':{line}' if line else ''}: {message}")

    def get(self, key: str, default: object = None) -> Any:
        return self._config.get(key, default)

    def sink(self) -> str | None:
        """The key that asks for attention sinks, a learned logit beside those of the tokens."""
        return next((key for key, value in self._config.items() if value and _SINK_WORDS & set(key.split("_"))), None)

    def size(self, key: str, default: int | None = None) -> int:
        value = self._config.get(key)
        if value is None and default is not None:
            return default
        if value is None:
            near = difflib.get_close_matches(key, list(self._config), n=1)
            raise self.error(f"{key} is missing" + (f"; {near[0]!r} looks like it" if near else ""))
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise self.error(f"{key} is {value!r}; it is a whole number from 1 up", key)
        return value

    def number(self, key: str, default: float) -> float:
        value = self._config.get(key, default)
        if not isinstance(value, int | float) or isinstance(value, bool) or value <= 0:
            raise self.error(f"{key} is {value!r}; it is a number above 0", key)
        return float(value)


def model_from_config(
    config: Mapping[str, Any],
    name: str,
    *,
    where: str | None = None,
    lines: Mapping[str, int] | None = None,
    hub_id: str | None = None,
) -> ModelSpec:
    """The shape that a parsed config.json describes. Raises ModelError with `where` and the key's line.

    Reads both spellings of the rotary settings: `rope_theta` with `rope_scaling` (transformers 4) and
    `rope_parameters` (transformers 5).
    """
    read = _Reader(config, where or name, lines or {})
    family = _family(read)
    _refuse_what_is_not_modelled(read, family)
    sizes = {key: read.size(key) for key in _SIZES}
    heads, kv_heads = sizes["num_attention_heads"], read.size("num_key_value_heads", sizes["num_attention_heads"])
    if heads % kv_heads:
        raise read.error(
            f"num_attention_heads {heads} is no multiple of num_key_value_heads {kv_heads}", "num_key_value_heads"
        )
    theta, scaling = _rope(read)
    return ModelSpec(
        name=name,
        family=family,
        hidden_size=sizes["hidden_size"],
        intermediate_size=sizes["intermediate_size"],
        layers=sizes["num_hidden_layers"],
        heads=heads,
        kv_heads=kv_heads,
        head_dim=_head_dim(read, sizes["hidden_size"], heads),
        vocab_size=sizes["vocab_size"],
        tied_embeddings=bool(read.get("tie_word_embeddings")),
        qkv_bias=family == "qwen2",
        qk_norm=family == "qwen3",
        max_positions=read.size("max_position_embeddings"),
        rope_theta=theta,
        rope_scaling=scaling,
        rms_norm_eps=read.number("rms_norm_eps", _DEFAULT_NORM_EPS),
        hub_id=hub_id,
    )


def _family(read: _Reader) -> str:
    model_type = read.get("model_type")
    named = cast("list[Any]", read.get("architectures") or [])
    architecture = str(named[0]) if named else ARCHITECTURES.get(str(model_type), str(model_type))
    if ARCHITECTURES.get(str(model_type)) == architecture:
        return str(model_type)
    kind = "a mixture of experts" if _has_experts(read, str(model_type)) else "no architecture that this program knows"
    supported = ", ".join(ARCHITECTURES.values())
    raise read.error(
        f"{architecture} (model_type {model_type!r}) is {kind}; supported are dense decoders: {supported}",
        "architectures" if named else "model_type",
    )


def _has_experts(read: _Reader, model_type: str) -> bool:
    return "moe" in model_type or model_type == "mixtral" or any(read.get(key) for key in _EXPERT_KEYS)


def _refuse_what_is_not_modelled(read: _Reader, family: str) -> None:
    for key in _EXPERT_KEYS:
        if (read.get(key) or 1) > 1:
            raise read.error(f"{key} is {read.get(key)}: mixtures of experts are not supported; use a dense model", key)
    sink = read.sink()
    if sink is not None:
        raise read.error(f"{sink} is {read.get(sink)!r}: attention sinks are not supported; use a model without", sink)
    windowed = read.get("use_sliding_window", family == "mistral" or _SLIDING in (read.get("layer_types") or []))
    window = read.get("sliding_window") if windowed else None
    if window is not None and window < (read.get("max_position_embeddings") or 0):
        raise read.error(
            f"sliding_window is {window}: attention over a window is not supported; use a model with null, "
            "such as mistral-7b (v0.3)",
            "sliding_window",
        )
    for key in ("attention_bias", "mlp_bias"):
        if read.get(key):
            raise read.error(f"{key} is true: biases in {family} layers are not supported; use a model without", key)
    if read.get("quantization_config"):
        raise read.error(
            "quantization_config: quantised weights cannot be trained in full; use the model's bf16 weights",
            "quantization_config",
        )
    activation = read.get("hidden_act") or "silu"
    if activation != "silu":
        raise read.error(f"hidden_act is {activation!r}; supported is 'silu' (SwiGLU)", "hidden_act")


def _head_dim(read: _Reader, hidden: int, heads: int) -> int:
    if read.get("head_dim") is not None:
        return read.size("head_dim")
    if hidden % heads:
        raise read.error(f"hidden_size {hidden} is no multiple of num_attention_heads {heads}", "hidden_size")
    return hidden // heads


def _rope(read: _Reader) -> tuple[float, tuple[tuple[str, str | float], ...] | None]:
    parameters = cast("dict[str, Any]", read.get("rope_parameters") or read.get("rope_scaling") or {})
    if not isinstance(parameters, Mapping):
        raise read.error(f"rope_scaling is {parameters!r}; it is a mapping or null", "rope_scaling")
    theta = parameters.get("rope_theta")
    scaling = {("rope_type" if key == "type" else key): value for key, value in parameters.items()}
    scaling.pop("rope_theta", None)
    kind = scaling.get("rope_type", "default")
    if kind not in ("default", "llama3"):
        raise read.error(f"rope type {kind!r} is not supported; supported are 'default' and 'llama3'", "rope_scaling")
    found = float(theta) if theta is not None else read.number("rope_theta", _DEFAULT_ROPE_THETA)
    return found, None if kind == "default" else tuple(sorted(scaling.items()))


def config_json(spec: ModelSpec) -> dict[str, Any]:
    """The shape as transformers reads and writes it; `model_from_config` gives the same ModelSpec back."""
    config: dict[str, Any] = {
        "architectures": [ARCHITECTURES[spec.family]],
        "model_type": spec.family,
        "hidden_act": "silu",
        "hidden_size": spec.hidden_size,
        "intermediate_size": spec.intermediate_size,
        "num_hidden_layers": spec.layers,
        "num_attention_heads": spec.heads,
        "num_key_value_heads": spec.kv_heads,
        "head_dim": spec.head_dim,
        "vocab_size": spec.vocab_size,
        "tie_word_embeddings": spec.tied_embeddings,
        "max_position_embeddings": spec.max_positions,
        "rope_theta": spec.rope_theta,
        "rope_scaling": dict(spec.rope_scaling) if spec.rope_scaling else None,
        "rms_norm_eps": spec.rms_norm_eps,
        "torch_dtype": "bfloat16",
    }
    if spec.family == "mistral":
        config["sliding_window"] = None
    return config
