"""Reading and writing config.json."""

import pytest

from cpadvisor.catalog import load_models
from cpadvisor.errors import ModelError
from cpadvisor.hf_config import config_json, model_from_config

LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
    "rms_norm_eps": 1e-05,
    "rope_theta": 500000.0,
    "tie_word_embeddings": False,
}


def changed(**changes):
    return {key: value for key, value in {**LLAMA, **changes}.items() if value is not ...}


@pytest.mark.parametrize("name", load_models())
def test_every_shipped_model_reads_back_as_itself(name):
    spec = load_models()[name]
    assert model_from_config(config_json(spec), name, hub_id=spec.hub_id) == spec


def test_the_published_llama_config_gives_the_published_count():
    assert model_from_config(LLAMA, "x").parameters == 8_030_261_248


def test_a_missing_head_dim_is_hidden_size_over_heads():
    assert model_from_config(changed(head_dim=None), "x").head_dim == 128


def test_missing_kv_heads_mean_one_for_each_head():
    assert model_from_config(changed(num_key_value_heads=...), "x").kv_heads == 32


def test_both_spellings_of_the_rotary_settings_read_the_same():
    scaling = {"factor": 8.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0, "original_max_position_embeddings": 8192}
    old = model_from_config(changed(rope_scaling={"type": "llama3", **scaling}), "x")
    new = model_from_config(
        changed(rope_theta=..., rope_parameters={"rope_type": "llama3", "rope_theta": 500000.0, **scaling}), "x"
    )
    assert old == new
    assert dict(old.rope_scaling or ())["rope_type"] == "llama3"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"architectures": ["MixtralForCausalLM"], "model_type": "mixtral"},
            "MixtralForCausalLM .* mixture of experts",
        ),
        ({"architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe"}, "Qwen3MoeForCausalLM .* mixture"),
        (
            {"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2"},
            "GPT2LMHeadModel .* supported are dense decoders",
        ),
        ({"architectures": ["LlamaForSequenceClassification"]}, "LlamaForSequenceClassification"),
        ({"architectures": ..., "model_type": ...}, "model_type None"),
        ({"num_local_experts": 8}, "num_local_experts is 8"),
        ({"attention_bias": True}, "attention_bias"),
        ({"hidden_act": "gelu"}, "hidden_act is 'gelu'"),
        ({"quantization_config": {"bits": 4}}, "quantised weights"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, "rope type 'yarn'"),
        ({"num_hidden_layers": ...}, "num_hidden_layers is missing"),
        ({"num_hidden_layers": 0}, "num_hidden_layers is 0; it is a whole number from 1 up"),
        ({"num_key_value_heads": 5}, "num_attention_heads 32 is no multiple of num_key_value_heads 5"),
        ({"num_attention_heads": 30, "num_key_value_heads": 30}, "hidden_size 4096 is no multiple"),
    ],
)
def test_what_would_be_trained_wrongly_is_refused_by_name(changes, words):
    with pytest.raises(ModelError, match=words):
        model_from_config(changed(**changes), "x")


def test_attention_sinks_and_layers_with_a_window_are_refused_by_name():
    with pytest.raises(ModelError, match="attention_sinks is True: attention sinks are not supported"):
        model_from_config(changed(attention_sinks=True), "m")
    assert model_from_config(changed(attention_sinks=False), "m").layers
    with pytest.raises(ModelError, match="sliding_window is 4096"):
        model_from_config(changed(sliding_window=4096, layer_types=["sliding_attention", "full_attention"]), "m")


def test_a_sliding_window_is_refused_only_where_it_is_in_force():
    mistral = changed(architectures=["MistralForCausalLM"], model_type="mistral", sliding_window=4096)
    with pytest.raises(ModelError, match="sliding_window is 4096"):
        model_from_config(mistral, "x")
    qwen = changed(
        architectures=["Qwen2ForCausalLM"], model_type="qwen2", sliding_window=4096, use_sliding_window=False
    )
    assert model_from_config(qwen, "x").qkv_bias
