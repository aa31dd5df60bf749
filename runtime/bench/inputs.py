"""The random tensors of a row, whole and as this rank's share, alike on all ranks and in the layout of each variant.

Random, as a GPU computes faster on zeros: it draws less power and keeps its clock.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from runtime import zigzag
from runtime.bench.launch import Ranks
from runtime.bench.shape import Shape
from runtime.bench.variants import Variant

SEED = 7


@dataclass(frozen=True, slots=True)
class Inputs:
    """q, k, v, which ask for gradients, and the gradient of out."""

    q: Tensor
    k: Tensor
    v: Tensor
    dout: Tensor

    @property
    def qkv(self) -> tuple[Tensor, Tensor, Tensor]:
        """What attention reads."""
        return self.q, self.k, self.v


@dataclass(frozen=True, slots=True)
class RowInputs:
    """The same numbers for every variant of a row."""

    whole: Inputs
    share: Inputs
    share_heads_first: Inputs

    def of(self, variant: Variant) -> Inputs:
        """What a variant computes on."""
        if variant.is_whole:
            return self.whole
        return self.share_heads_first if variant.heads_first else self.share


def dtype_of(device: torch.device) -> torch.dtype:
    """bf16 as in training; float32 on a CPU, where bf16 is emulated."""
    return torch.bfloat16 if device.type == "cuda" else torch.float32


def draw(shape: Shape, ranks: Ranks) -> RowInputs:
    """Standard normal q, k, v and dout from one seed."""
    generator = torch.Generator(device=ranks.device).manual_seed(SEED)
    options = {"device": ranks.device, "dtype": dtype_of(ranks.device), "generator": generator}
    whole = [
        torch.randn(1, shape.tokens, heads, shape.head_dim, **options)
        for heads in (shape.heads, shape.kv_heads, shape.kv_heads, shape.heads)
    ]
    share = [zigzag.shard(tensor, rank=ranks.rank, cp=ranks.size, dim=1) for tensor in whole]
    # [B, S/P, H, D] -> [B, H, S/P, D], a copy
    heads_first = [tensor.transpose(1, 2).contiguous() for tensor in share]
    return RowInputs(*(_leaves(tensors) for tensors in (whole, share, heads_first)))


def _leaves(tensors: list[Tensor]) -> Inputs:
    q, k, v, dout = (tensor.detach() for tensor in tensors)
    return Inputs(q.requires_grad_(), k.requires_grad_(), v.requires_grad_(), dout)
