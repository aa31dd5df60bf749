"""One decoder for the Llama family, with Hugging Face's parameter names and grouped key/value heads as they are.

Shapes: B batch, S local sequence, E hidden, H query heads, G key/value heads,
D head size. Tokens know their global positions, so a zigzag share of a sequence
gets the rotary angles of the whole. Norms and rotations compute in float32.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from runtime.attention import AttentionPlace, attend
from runtime.loss import head_loss
from runtime.model_shape import Llama3Scaling, ModelShape


@dataclass(frozen=True, slots=True, kw_only=True)
class Positions:
    """Where the local tokens stand, [S] in one document a sequence, [B, S] within packed ones."""

    tokens: Tensor
    documents: Tensor | None = None
    """[B, N]: where documents begin in the whole sequences, as runtime.attention.attend takes it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotation:
    """What attention knows of the local positions."""

    cos: Tensor
    """Cosines, float32, [S, 1, D] or [B, S, 1, D]."""
    sin: Tensor
    documents: Tensor | None
    """As in Positions."""


def frequencies(shape: ModelShape, device: torch.device) -> Tensor:
    """Rotary angle a position, float32 [D/2]: theta^(-2i/D), slowed down where the model was scaled for length."""
    exponents = torch.arange(0, shape.head_dim, 2, dtype=torch.float32, device=device) / shape.head_dim
    inverse = 1.0 / shape.rope_theta**exponents
    return inverse if shape.rope_scaling is None else _slowed(inverse, shape.rope_scaling)


def _slowed(inverse: Tensor, scaling: Llama3Scaling) -> Tensor:
    """Llama 3.1: long waves turn `factor` times slower, short ones as before, those between blend."""
    turns = scaling.original_max_positions * inverse / (2 * math.pi)
    blend = (turns - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor)
    blend = blend.clamp(0.0, 1.0)
    return blend * inverse + (1 - blend) * inverse / scaling.factor


def rotation(shape: ModelShape, positions: Positions) -> Rotation:
    """Cosines and sines for positions in a sequence or a document."""
    angles = positions.tokens.float()[..., None] * frequencies(shape, positions.tokens.device)
    angles_S1D = torch.cat((angles, angles), dim=-1)[..., None, :]
    return Rotation(cos=angles_S1D.cos(), sin=angles_S1D.sin(), documents=positions.documents)


def rotate(x_BSHD: Tensor, by: Rotation) -> Tensor:
    """Turn the pairs (i, i + D/2) of each head by the angle of the token's position."""
    x = x_BSHD.float()
    early, late = x.chunk(2, dim=-1)
    turned = torch.cat((-late, early), dim=-1)
    return (x * by.cos + turned * by.sin).to(x_BSHD.dtype)


class RMSNorm(nn.Module):
    """x / rms(x) x weight, the mean of squares in float32."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Normalise over the last dim."""
        return F.rms_norm(x, (x.shape[-1],), self.weight, self.eps)


class Attention(nn.Module):
    """Causal attention with grouped heads; the only part in which ranks of a group meet."""

    def __init__(self, shape: ModelShape, place: AttentionPlace) -> None:
        super().__init__()
        self.head_dim = shape.head_dim
        self.place = place
        q_size, kv_size = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
        self.q_proj = nn.Linear(shape.hidden_size, q_size, bias=shape.qkv_bias)
        self.k_proj = nn.Linear(shape.hidden_size, kv_size, bias=shape.qkv_bias)
        self.v_proj = nn.Linear(shape.hidden_size, kv_size, bias=shape.qkv_bias)
        self.o_proj = nn.Linear(q_size, shape.hidden_size, bias=False)
        if shape.qk_norm:
            self.q_norm = RMSNorm(shape.head_dim, shape.rms_norm_eps)
            self.k_norm = RMSNorm(shape.head_dim, shape.rms_norm_eps)
        self.qk_norm = shape.qk_norm

    def forward(self, x_BSE: Tensor, by: Rotation) -> Tensor:
        """[B, S, E] -> [B, S, E]."""
        # [B, S, H D] -> [B, S, H, D]
        q_BSHD = self.q_proj(x_BSE).unflatten(-1, (-1, self.head_dim))
        k_BSGD = self.k_proj(x_BSE).unflatten(-1, (-1, self.head_dim))
        v_BSGD = self.v_proj(x_BSE).unflatten(-1, (-1, self.head_dim))
        if self.qk_norm:
            q_BSHD, k_BSGD = self.q_norm(q_BSHD), self.k_norm(k_BSGD)
        q_BSHD, k_BSGD = rotate(q_BSHD, by), rotate(k_BSGD, by)
        out_BSHD, _ = attend(q_BSHD, k_BSGD, v_BSGD, by.documents, self.place)
        return self.o_proj(out_BSHD.flatten(-2))


class MLP(nn.Module):
    """SwiGLU: down(silu(gate x) * up x)."""

    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(shape.hidden_size, shape.intermediate_size, bias=False)
        self.up_proj = nn.Linear(shape.hidden_size, shape.intermediate_size, bias=False)
        self.down_proj = nn.Linear(shape.intermediate_size, shape.hidden_size, bias=False)

    def forward(self, x_BSE: Tensor) -> Tensor:
        """[B, S, E] -> [B, S, E]."""
        return self.down_proj(F.silu(self.gate_proj(x_BSE)) * self.up_proj(x_BSE))


def _directly(block: Callable[..., Tensor], *inputs: Any) -> Tensor:
    return block(*inputs)


class DecoderLayer(nn.Module):
    """Attention and MLP, each behind a norm and around a residual."""

    def __init__(self, shape: ModelShape, place: AttentionPlace) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(shape.hidden_size, shape.rms_norm_eps)
        self.self_attn = Attention(shape, place)
        self.post_attention_layernorm = RMSNorm(shape.hidden_size, shape.rms_norm_eps)
        self.mlp = MLP(shape)
        self.run: Callable[..., Tensor] = _directly
        """How the block is called; runtime.recompute puts checkpointing here."""

    def block(self, x_BSE: Tensor, by: Rotation) -> Tensor:
        """The computation itself."""
        x_BSE = x_BSE + self.self_attn(self.input_layernorm(x_BSE), by)
        return x_BSE + self.mlp(self.post_attention_layernorm(x_BSE))

    def forward(self, x_BSE: Tensor, by: Rotation) -> Tensor:
        """[B, S, E] -> [B, S, E]."""
        return self.run(self.block, x_BSE, by)


class Decoder(nn.Module):
    """Embedding, layers, final norm: what Hugging Face calls `model`."""

    def __init__(self, shape: ModelShape, place: AttentionPlace) -> None:
        super().__init__()
        self.shape = shape
        self.embed_tokens = nn.Embedding(shape.vocab_size, shape.hidden_size)
        self.layers = nn.ModuleList(DecoderLayer(shape, place) for _ in range(shape.layers))
        self.norm = RMSNorm(shape.hidden_size, shape.rms_norm_eps)

    def forward(self, tokens_BS: Tensor, positions: Positions) -> Tensor:
        """[B, S] -> [B, S, E]."""
        by = rotation(self.shape, positions)
        x_BSE = self.embed_tokens(tokens_BS)
        for layer in self.layers:
            x_BSE = layer(x_BSE, by)
        return self.norm(x_BSE)


class Head(nn.Linear):
    """The output matrix and the loss in one, so that the logits of the whole sequence never exist."""

    def forward(self, x_BSE: Tensor, labels_BS: Tensor, scale: float) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """`scale` times the sum of the token losses, float32."""
        return head_loss(x_BSE.flatten(0, 1), self.weight, labels_BS.flatten(), scale=scale)


class CausalLM(nn.Module):
    """A decoder that returns its share of the loss."""

    def __init__(self, shape: ModelShape, place: AttentionPlace) -> None:
        super().__init__()
        self.shape = shape
        self.model = Decoder(shape, place)
        self.lm_head = Head(shape.hidden_size, shape.vocab_size, bias=False)
        self.tie()

    def tie(self) -> None:
        """Let head and embedding share their weight where the shape says so."""
        if self.shape.tied_embeddings:
            self.lm_head.weight = self.model.embed_tokens.weight

    def forward(self, tokens_BS: Tensor, positions: Positions, labels_BS: Tensor, scale: float) -> Tensor:
        """`scale` times the sum over the local labels; with 1 / labels of the whole step, ranks add up to the mean."""
        return self.lm_head(self.model(tokens_BS, positions), labels_BS, scale)

    def parameter_count(self) -> int:
        """All parameters of the whole model, a tied head counted once."""
        return sum(parameter.numel() for parameter in self.parameters())
