"""Attention by its definition in float64: the truth that kernels are held against, and what stand-ins compute with.

Shapes: B batch, S queries, T keys, H query heads, G key/value heads, D head size.
"""

from itertools import pairwise

import torch
from torch import Tensor


def inputs(
    queries: int,
    keys: int | None = None,
    *,
    batch: int = 2,
    heads: int = 4,
    kv_heads: int = 2,
    head_dim: int = 8,
    dtype: torch.dtype = torch.float32,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Random q, k, v and dout, the same in each call."""
    generator = torch.Generator().manual_seed(7)
    keys = queries if keys is None else keys
    shapes = ((queries, heads), (keys, kv_heads), (keys, kv_heads), (queries, heads))
    q, k, v, dout = (torch.randn(batch, *shape, head_dim, generator=generator).to(dtype) for shape in shapes)
    return q, k, v, dout


def causal_mask(tokens: int) -> Tensor:
    """[S, S], true where a query sees a key."""
    return torch.ones(tokens, tokens, dtype=torch.bool).tril()


def packed_mask(cuts: tuple[int, ...]) -> Tensor:
    """Causal within each of the documents that lie between cuts."""
    return torch.block_diag(*(causal_mask(end - start) for start, end in pairwise(cuts))).bool()


def forward(q_BSHD: Tensor, k_BTGD: Tensor, v_BTGD: Tensor, mask_ST: Tensor | None) -> tuple[Tensor, Tensor]:
    """out [B, S, H, D] and log-sum-exp [B, H, S], float64."""
    scores_BHST = _scores(q_BSHD, k_BTGD, mask_ST)
    out = torch.einsum("bhst,bthd->bshd", scores_BHST.softmax(-1), _of_each_query_head(v_BTGD, q_BSHD))
    return out, scores_BHST.logsumexp(-1)


def backward(
    dout_BSHD: Tensor,
    q_BSHD: Tensor,
    k_BTGD: Tensor,
    v_BTGD: Tensor,
    out_BSHD: Tensor,
    lse_BHS: Tensor,
    mask_ST: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """dq, dk, dv of a block from the final out and log-sum-exp of its queries (FlashAttention, algorithm 4)."""
    dout, q, out = dout_BSHD.double(), q_BSHD.double(), out_BSHD.double()
    k, v = _of_each_query_head(k_BTGD, q_BSHD), _of_each_query_head(v_BTGD, q_BSHD)
    weights_BHST = (_scores(q_BSHD, k_BTGD, mask_ST) - lse_BHS.double().unsqueeze(-1)).exp()
    dweights_BHST = torch.einsum("bshd,bthd->bhst", dout, v)
    own_BHS1 = (dout * out).sum(-1).transpose(1, 2).unsqueeze(-1)
    dscores_BHST = weights_BHST * (dweights_BHST - own_BHS1) * q.shape[-1] ** -0.5
    dq = torch.einsum("bhst,bthd->bshd", dscores_BHST, k)
    dk = torch.einsum("bhst,bshd->bthd", dscores_BHST, q)
    dv = torch.einsum("bhst,bshd->bthd", weights_BHST, dout)
    group = (k_BTGD.shape[2], -1)
    return dq, dk.unflatten(2, group).sum(3), dv.unflatten(2, group).sum(3)


def truth(q: Tensor, k: Tensor, v: Tensor, dout: Tensor, mask_ST: Tensor | None) -> tuple[Tensor, ...]:
    """out, log-sum-exp, dq, dk, dv, the gradients by autograd and not by a formula."""
    q, k, v = (tensor.double().requires_grad_() for tensor in (q, k, v))
    out, lse = forward(q, k, v, mask_ST)
    return out.detach(), lse.detach(), *torch.autograd.grad(out, (q, k, v), dout.double())


def assert_close(got: tuple[Tensor, ...], expected: tuple[Tensor, ...], tolerance: float = 2e-6) -> None:
    """Each tensor within a relative error, and of the expected shape; what is to be near 0 is held against 1."""
    for index, (value, right) in enumerate(zip(got, expected, strict=True)):
        assert value.shape == right.shape, f"result {index} is {tuple(value.shape)}, not {tuple(right.shape)}"
        error = ((value.double() - right).norm() / right.norm().clamp(min=1.0)).item()
        assert error < tolerance, f"result {index} is off by {error:.1e} relative"


def _scores(q_BSHD: Tensor, k_BTGD: Tensor, mask_ST: Tensor | None) -> Tensor:
    k_BTHD = _of_each_query_head(k_BTGD, q_BSHD)
    scores_BHST = torch.einsum("bshd,bthd->bhst", q_BSHD.double(), k_BTHD) * q_BSHD.shape[-1] ** -0.5
    return scores_BHST if mask_ST is None else scores_BHST.masked_fill(~mask_ST, float("-inf"))


def _of_each_query_head(tensor_BTGD: Tensor, q_BSHD: Tensor) -> Tensor:
    return tensor_BTGD.double().repeat_interleave(q_BSHD.shape[2] // tensor_BTGD.shape[2], dim=2)
