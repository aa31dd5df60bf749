import math
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from runtime import recompute, weights, zigzag
from runtime.attention import AttentionPlace
from runtime.model import CausalLM, Positions, RMSNorm, frequencies, rotate, rotation
from runtime.model_shape import Llama3Scaling, ModelShape

SHAPE = ModelShape(
    family="llama",
    hidden_size=32,
    intermediate_size=48,
    layers=2,
    heads=4,
    kv_heads=2,
    head_dim=8,
    vocab_size=64,
    tied_embeddings=False,
    qkv_bias=False,
    qk_norm=False,
    rope_theta=10000.0,
    rope_scaling=None,
    rms_norm_eps=1e-5,
    initializer_range=0.2,
)


def built(**changes: Any) -> CausalLM:
    shape = replace(SHAPE, **changes)
    model = CausalLM(shape, AttentionPlace(kernel="cpu"))
    weights.fill(model, weights.RandomSource(seed=1, std=shape.initializer_range), rank=0, world=1)
    if shape.qkv_bias or shape.qk_norm:
        generator = torch.Generator().manual_seed(2)
        for name, value in model.named_parameters():
            if name.endswith((".bias", "q_norm.weight", "k_norm.weight")):
                value.data.normal_(1.0, 0.3, generator=generator)
    return model


def written_out(model: CausalLM, tokens_S: Tensor) -> Tensor:
    """Logits of one sequence as the papers write a decoder, in float64, token by token and head by head."""
    shape = model.shape
    w = {name: value.detach().double() for name, value in model.named_parameters()}

    def norm(x: Tensor, name: str) -> Tensor:
        return x / (x.pow(2).mean(-1, keepdim=True) + shape.rms_norm_eps).sqrt() * w[f"{name}.weight"]

    def turned(x_SD: Tensor) -> Tensor:
        half = shape.head_dim // 2
        out = x_SD.clone()
        for position in range(len(x_SD)):
            for i in range(half):
                angle = position * shape.rope_theta ** (-2 * i / shape.head_dim)
                a, b = x_SD[position, i], x_SD[position, i + half]
                out[position, i] = a * math.cos(angle) - b * math.sin(angle)
                out[position, i + half] = b * math.cos(angle) + a * math.sin(angle)
        return out

    x = w["model.embed_tokens.weight"][tokens_S]
    mask = torch.full((len(tokens_S), len(tokens_S)), -math.inf, dtype=torch.float64).triu(1)
    for layer in range(shape.layers):
        at = f"model.layers.{layer}"
        h = norm(x, f"{at}.input_layernorm")
        q, k, v = (
            (h @ w[f"{at}.self_attn.{n}_proj.weight"].t() + w.get(f"{at}.self_attn.{n}_proj.bias", 0.0)).unflatten(
                -1, (-1, shape.head_dim)
            )
            for n in "qkv"
        )
        if shape.qk_norm:
            q, k = norm(q, f"{at}.self_attn.q_norm"), norm(k, f"{at}.self_attn.k_norm")
        heads: list[Tensor] = []
        for head in range(shape.heads):
            group = head * shape.kv_heads // shape.heads
            scores = turned(q[:, head]) @ turned(k[:, group]).t() / math.sqrt(shape.head_dim)
            heads.append((scores + mask).softmax(-1) @ v[:, group])
        x = x + torch.cat(heads, dim=-1) @ w[f"{at}.self_attn.o_proj.weight"].t()
        h = norm(x, f"{at}.post_attention_layernorm")
        gated = F.silu(h @ w[f"{at}.mlp.gate_proj.weight"].t()) * (h @ w[f"{at}.mlp.up_proj.weight"].t())
        x = x + gated @ w[f"{at}.mlp.down_proj.weight"].t()
    head = w["model.embed_tokens.weight" if shape.tied_embeddings else "lm_head.weight"]
    return norm(x, "model.norm") @ head.t()


@pytest.mark.parametrize(
    "changes",
    [{}, {"qkv_bias": True}, {"qk_norm": True, "tied_embeddings": True}, {"kv_heads": 4}, {"kv_heads": 1}],
    ids=["llama", "qwen2", "qwen3", "no groups", "one group"],
)
def test_the_loss_is_that_of_a_decoder_written_out(changes: dict[str, Any]) -> None:
    model = built(**changes)
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(64, (2, 12), generator=generator)
    labels = torch.randint(64, (2, 12), generator=generator)
    loss = model(tokens, Positions(tokens=torch.arange(12)), labels, 1 / 24)
    logits = torch.cat([written_out(model, sequence) for sequence in tokens])
    assert loss.item() == pytest.approx(F.cross_entropy(logits, labels.flatten()).item(), rel=1e-5)


def test_parameters_are_named_as_hugging_face_names_them() -> None:
    names = set(dict(built().named_parameters()))
    layer = {
        "input_layernorm.weight",
        "self_attn.q_proj.weight",
        "self_attn.k_proj.weight",
        "self_attn.v_proj.weight",
        "self_attn.o_proj.weight",
        "post_attention_layernorm.weight",
        "mlp.gate_proj.weight",
        "mlp.up_proj.weight",
        "mlp.down_proj.weight",
    }
    expected = {f"model.layers.{index}.{name}" for index in range(2) for name in layer}
    assert names == expected | {"model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"}


def test_names_stay_the_same_under_recomputation() -> None:
    model = built()
    names = list(dict(model.named_parameters()))
    recompute.apply(model, ("full", "attention_saved"))
    assert list(dict(model.named_parameters())) == names


def test_a_tied_head_is_counted_once() -> None:
    assert built().parameter_count() - built(tied_embeddings=True).parameter_count() == 64 * 32


def test_llama_3_2_1b_has_its_published_number_of_parameters() -> None:
    shape = replace(
        SHAPE,
        hidden_size=2048,
        intermediate_size=8192,
        layers=16,
        heads=32,
        kv_heads=8,
        head_dim=64,
        vocab_size=128256,
        tied_embeddings=True,
    )
    with torch.device("meta"):
        model = CausalLM(shape, AttentionPlace(kernel="cpu"))
    # https://huggingface.co/meta-llama/Llama-3.2-1B: 1,235,814,400
    assert model.parameter_count() == 1_235_814_400


def test_a_zigzag_share_turns_by_its_global_positions() -> None:
    x = torch.randn(1, 16, 2, 8)
    whole = rotate(x, rotation(SHAPE, Positions(tokens=torch.arange(16))))
    for rank in range(2):
        share = zigzag.shard(x, rank=rank, cp=2, dim=1)
        turned = rotate(share, rotation(SHAPE, Positions(tokens=zigzag.positions(rank, 2, 16))))
        torch.testing.assert_close(turned, zigzag.shard(whole, rank=rank, cp=2, dim=1))


def test_llama_3_scaling_slows_long_waves_and_leaves_short_ones() -> None:
    scaling = Llama3Scaling(factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_positions=8192)
    plain = replace(SHAPE, head_dim=128, rope_theta=500000.0)
    before = frequencies(plain, torch.device("cpu"))
    after = frequencies(replace(plain, rope_scaling=scaling), torch.device("cpu"))
    ratio = (after / before).tolist()
    # Wavelength 2 pi 500000^(2i/128): 2,048 = 8192/4 lies between i = 28 and 29, 8,192 between 34 and 35.
    assert ratio[:29] == pytest.approx([1.0] * 29)
    assert ratio[35:] == pytest.approx([1 / 8] * 29)
    # i = 32: wavelength 4,442.9, 1.84386 turns, blend 0.28129, 0.28129 + 0.71871 / 8 = 0.37113
    assert ratio[32] == pytest.approx(0.37113, abs=1e-4)


def test_the_norm_squares_in_float32_under_bfloat16() -> None:
    x = torch.linspace(-3, 3, 4096).bfloat16().view(2, 2048)
    norm = RMSNorm(2048, 1e-5).bfloat16()
    norm.weight.data.fill_(1.0)
    exact = x.double() / (x.double().pow(2).mean(-1, keepdim=True) + 1e-5).sqrt()
    # Half a unit in the last of bfloat16's eight bits, and nothing lost before the final rounding.
    torch.testing.assert_close(norm(x).double(), exact, rtol=2**-8, atol=1e-6)
