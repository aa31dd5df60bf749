import contextlib
import json
import math
from pathlib import Path
from typing import Any

import pytest
from tiny_run import SHAPE

from runtime import model_shape
from runtime.errors import ConfigError
from runtime.model_shape import Llama3Scaling, ModelShape

# https://huggingface.co/meta-llama/Llama-3.1-8B config.json
LLAMA_3_1_SCALING = {
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
    "rope_type": "llama3",
}


def load(folder: Path, *, sequence_len: int = 128, **changes: Any) -> ModelShape:
    (folder / "config.json").write_text(json.dumps({**SHAPE, **changes}))
    return model_shape.load(folder, sequence_len=sequence_len)


def test_families_differ_in_biases_and_head_norms(tmp_path: Path) -> None:
    found = {family: load(tmp_path, model_type=family) for family in model_shape.FAMILIES}
    assert {family: (shape.qkv_bias, shape.qk_norm) for family, shape in found.items()} == {
        "llama": (False, False),
        "mistral": (False, False),
        "qwen2": (True, False),
        "qwen3": (False, True),
    }


def test_an_absent_head_dim_and_kv_heads_follow_from_the_heads(tmp_path: Path) -> None:
    shape = load(tmp_path, head_dim=None, num_key_value_heads=None)
    assert (shape.head_dim, shape.kv_heads) == (8, 4)


def test_both_forms_of_rope_scaling_read_alike(tmp_path: Path) -> None:
    expected = Llama3Scaling(factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_positions=8192)
    older = load(tmp_path, rope_scaling=LLAMA_3_1_SCALING, rope_theta=500000.0)
    newer = load(tmp_path, rope_parameters={**LLAMA_3_1_SCALING, "rope_theta": 500000.0}, rope_theta=None)
    assert older == newer
    assert (older.rope_scaling, older.rope_theta) == (expected, 500000.0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "mixtral"}, "model_type 'mixtral' is not one of llama, mistral, qwen2, qwen3"),
        ({"hidden_size": None}, "hidden_size None is not a whole number from 1 up"),
        ({"hidden_act": "gelu"}, "hidden_act 'gelu': this trainer has silu only"),
        ({"mlp_bias": True}, "mlp_bias true: this trainer has no such biases"),
        ({"attention_bias": True}, "attention_bias true: this trainer has no such biases"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, "rope scaling 'yarn': this trainer has llama3 only"),
        ({"rope_scaling": {"rope_type": "llama3"}}, "rope scaling llama3 lacks factor"),
        ({"model_type": "mistral", "sliding_window": 64}, "sliding_window 64 is below sequence_len 128"),
        ({"head_dim": 7}, "heads of 7 numbers cannot be turned in pairs"),
        ({"num_key_value_heads": "2"}, "num_key_value_heads '2' is not a whole number from 1 up"),
        ({"rope_scaling": "linear"}, "rope_scaling 'linear' is not an object"),
        ({"rope_scaling": {**LLAMA_3_1_SCALING, "factor": "8"}}, "rope scaling llama3: factor '8' is not a number"),
        ({"num_key_value_heads": 3}, "num_key_value_heads 3 does not divide num_attention_heads 4"),
        ({"attention_sinks": True}, "attention_sinks true: this trainer's attention has no sinks"),
        ({"num_sink_tokens": 4}, "num_sink_tokens 4: this trainer's attention has no sinks"),
        (
            {"sliding_window": 64, "layer_types": ["sliding_attention", "full_attention"]},
            "sliding_window 64 is below sequence_len 128, for 1 of 2 layer_types sliding_attention: this trainer",
        ),
        (
            {"layer_types": ["linear_attention", "full_attention"]},
            "layer_types has linear_attention in 1 of 2 layers: this trainer has full_attention only",
        ),
    ],
)
def test_what_would_change_the_computation_is_refused_by_name(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, **changes)
    assert caught.value.problems[0].startswith(message)


def test_gpt_oss_is_refused_for_its_sinks_too(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, model_type="gpt_oss")
    assert caught.value.problems[1] == "model_type 'gpt_oss' attends with sinks: this trainer's attention has none"


@pytest.mark.parametrize(
    "changes",
    [
        {"sliding_window": 128, "layer_types": ["sliding_attention"] * 2},
        {"sliding_window": None, "layer_types": ["sliding_attention"] * 2},
        {"model_type": "qwen3", "sliding_window": 64, "use_sliding_window": False},
        {"attention_sinks": False, "layer_types": ["full_attention"] * 2},
    ],
)
def test_a_window_or_sink_that_changes_nothing_is_let_through(tmp_path: Path, changes: dict[str, Any]) -> None:
    assert load(tmp_path, **changes).layers == 2


@pytest.mark.parametrize("value", ["x", -1, 0, 1.5, True, [1], {"a": 1}, math.nan])
@pytest.mark.parametrize(
    "key",
    [*SHAPE, "sliding_window", "initializer_range", "rope_scaling", "rope_parameters", "rope_theta"],
)
def test_any_value_of_any_key_is_understood_or_refused(tmp_path: Path, key: str, value: Any) -> None:
    with contextlib.suppress(ConfigError):
        shape = load(tmp_path, **{key: value})
        sizes = (shape.hidden_size, shape.intermediate_size, shape.layers, shape.kv_heads, shape.head_dim)
        assert all(type(size) is int and size >= 1 for size in sizes)
        assert shape.head_dim % 2 == 0
        assert all(0 < number < math.inf for number in (shape.rope_theta, shape.rms_norm_eps, shape.initializer_range))


def test_empty_keys_have_their_defaults(tmp_path: Path) -> None:
    shape = load(tmp_path, rope_theta=None, rms_norm_eps=None, initializer_range=None, rope_scaling=None)
    assert (shape.rope_theta, shape.rms_norm_eps, shape.initializer_range) == (10_000.0, 1e-6, 0.02)


def test_a_window_that_is_off_or_wide_enough_does_not_matter(tmp_path: Path) -> None:
    load(tmp_path, model_type="qwen2", sliding_window=64, use_sliding_window=False)
    load(tmp_path, model_type="mistral", sliding_window=4096)


@pytest.mark.parametrize("text", ["{", "[]"])
def test_an_unreadable_config_json_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ConfigError, match=r"config\.json: "):
        model_shape.load(tmp_path, sequence_len=8)
