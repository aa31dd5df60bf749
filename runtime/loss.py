"""Cross entropy fused with the output matrix, chunk of tokens by chunk: the logits of the sequence never exist.

Gradients are computed in the forward pass, while a chunk's logits are at hand
(as Liger's fused linear cross entropy does), so backward only scales them and
nothing is multiplied twice. Shapes: T tokens, E hidden, V vocabulary.
"""

from typing import Any

import torch
from torch import Tensor

IGNORED = -100
"""The label that adds nothing, as in torch."""

CHUNK_LOGITS = 2**27
"""Logits of one chunk: 512 MiB in float32. Llama 3's 128,256 words: 1,046 tokens a chunk."""


def chunk_tokens(vocab_size: int) -> int:
    """Tokens whose logits are held at once: CHUNK_LOGITS / vocabulary, at least 128."""
    return max(CHUNK_LOGITS // vocab_size, 128)


class _HeadLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_TE: Tensor, weight_VE: Tensor, labels_T: Tensor, scale: float, chunk: int) -> Tensor:
        total = torch.zeros((), dtype=torch.float32, device=x_TE.device)
        grad_x = torch.empty_like(x_TE)
        grad_weight = torch.zeros(weight_VE.shape, dtype=torch.float32, device=weight_VE.device)
        for x, labels, grad in zip(x_TE.split(chunk), labels_T.split(chunk), grad_x.split(chunk), strict=True):
            loss, slope_TV = _chunk_loss((x @ weight_VE.t()).float(), labels)
            total += loss
            # Scaled in float32: a rounded factor would bend every gradient alike.
            slope_TV = slope_TV.mul_(scale).to(x.dtype)
            torch.mm(slope_TV, weight_VE, out=grad)
            grad_weight += slope_TV.t() @ x
        ctx.save_for_backward(grad_x, grad_weight.to(weight_VE.dtype))
        return total * scale

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_total: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        grad_x, grad_weight = ctx.saved_tensors
        return grad_x.mul_(grad_total), grad_weight.mul_(grad_total), None, None, None


def _chunk_loss(logits_TV: Tensor, labels_T: Tensor) -> tuple[Tensor, Tensor]:
    """Sum of the losses of a chunk and its gradient by the logits; overwrites the logits."""
    counts_T1 = (labels_T != IGNORED).unsqueeze(1)
    targets_T1 = labels_T.clamp(min=0).unsqueeze(1)
    logsumexp_T1 = logits_TV.logsumexp(dim=1, keepdim=True)
    loss = ((logsumexp_T1 - logits_TV.gather(1, targets_T1)) * counts_T1).sum()
    # d loss / d logits = softmax - one at the target
    slope_TV = logits_TV.sub_(logsumexp_T1).exp_()
    slope_TV.scatter_add_(1, targets_T1, torch.full_like(targets_T1, -1, dtype=slope_TV.dtype))
    return loss, slope_TV.mul_(counts_T1)


def head_loss(
    x_TE: Tensor, weight_VE: Tensor, labels_T: Tensor, *, scale: float = 1.0, chunk: int | None = None
) -> Tensor:
    """`scale` times the sum over tokens of -log softmax(x weight^T)[label], float32; label -100 adds nothing."""
    return _HeadLoss.apply(x_TE, weight_VE, labels_T, scale, chunk or chunk_tokens(weight_VE.shape[0]))  # pyright: ignore[reportReturnType]
