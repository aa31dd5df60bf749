"""The attention kernels of one device: each gives out and log-sum-exp, and a backward that takes both from outside.

Those two properties make a kernel usable in a ring: partial outputs merge by
their log-sum-exps, and the backward of each block is called with the merged
ones. All take grouped K/V heads as they are (no repetition). Here are torch's own
kernels; runtime.flash_attention has those of the flash-attn packages. Shapes: B
batch, S queries, T keys, H query heads, G key/value heads, D head size, N tokens
of several documents one after the other; arguments and results are laid out BSHD.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import torch
from torch import Tensor

aten = torch.ops.aten

Cuts = tuple[int, ...]
"""Rows at which a causal block is cut into documents, its beginning and its end included; empty where it is whole."""

Forward = Callable[[Tensor, Tensor, Tensor, bool], tuple[Tensor, Tensor]]
"""(q_BSHD, k_BTGD, v_BTGD, causal) -> out_BSHD, lse_BHS in float32. Causal needs S == T."""
Backward = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, bool], tuple[Tensor, Tensor, Tensor]]
"""(dout_BSHD, q, k, v, out_BSHD, lse_BHS, causal) -> dq_BSHD, dk_BTGD, dv_BTGD, for final out and lse."""
PackedForward = Callable[..., tuple[Tensor, Tensor]]
"""(q_NHD, k_MGD, v_MGD, cuts, key_cuts) -> out_NHD, lse_HN, causal within each document. `key_cuts` are the cuts of
the keys where a document has more of them than queries: its last queries and keys are then the same tokens."""
PackedBackward = Callable[..., tuple[Tensor, Tensor, Tensor]]
"""(dout_NHD, q_NHD, k_MGD, v_MGD, out_NHD, lse_HN, cuts, key_cuts) -> dq_NHD, dk_MGD, dv_MGD."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """One implementation of attention over a block."""

    name: str
    block_forward: Forward
    block_backward: Backward
    packed_forward: PackedForward | None = None
    """All documents of a cut block in one call; without it they are computed one after the other."""
    packed_backward: PackedBackward | None = None
    for_documents: "Kernel | None" = None
    """What runs in place of this kernel where documents are packed."""

    def forward(
        self, q_BSHD: Tensor, k_BTGD: Tensor, v_BTGD: Tensor, causal: bool, cuts: Cuts = ()
    ) -> tuple[Tensor, Tensor]:
        """out [B, S, H, D] and log-sum-exp [B, H, S] of a block; a causal one may be cut into documents, B = 1 then."""
        if len(cuts) <= 2:
            return self.block_forward(q_BSHD, k_BTGD, v_BTGD, causal)
        if self.packed_forward is not None:
            out, lse = self.packed_forward(q_BSHD[0], k_BTGD[0], v_BTGD[0], cuts)
            return out[None], lse[None]
        pieces: list[tuple[Tensor, Tensor]] = []
        for rows in _pieces(cuts):
            pieces.append(self.block_forward(q_BSHD[:, rows], k_BTGD[:, rows], v_BTGD[:, rows], True))
        return torch.cat([out for out, _ in pieces], dim=1), torch.cat([lse for _, lse in pieces], dim=2)

    def backward(
        self,
        dout_BSHD: Tensor,
        q_BSHD: Tensor,
        k_BTGD: Tensor,
        v_BTGD: Tensor,
        out_BSHD: Tensor,
        lse_BHS: Tensor,
        causal: bool,
        cuts: Cuts = (),
    ) -> tuple[Tensor, Tensor, Tensor]:
        """dq [B, S, H, D], dk and dv [B, T, G, D] of a block, for the final out and log-sum-exp of its queries."""
        if len(cuts) <= 2:
            return self.block_backward(dout_BSHD, q_BSHD, k_BTGD, v_BTGD, out_BSHD, lse_BHS, causal)
        if self.packed_backward is not None:
            dout, q, k, v, out, lse = (t[0] for t in (dout_BSHD, q_BSHD, k_BTGD, v_BTGD, out_BSHD, lse_BHS))
            dq, dk, dv = self.packed_backward(dout, q, k, v, out, lse, cuts)
            return dq[None], dk[None], dv[None]
        pieces: list[tuple[Tensor, Tensor, Tensor]] = []
        for rows in _pieces(cuts):
            dout, q, k, v, out = (t[:, rows] for t in (dout_BSHD, q_BSHD, k_BTGD, v_BTGD, out_BSHD))
            pieces.append(self.block_backward(dout, q, k, v, out, lse_BHS[:, :, rows], True))
        dq, dk, dv = (torch.cat(grads, dim=1) for grads in zip(*pieces, strict=True))
        return dq, dk, dv


def _pieces(cuts: Cuts) -> list[slice]:
    return [slice(start, end) for start, end in pairwise(cuts)]


@lru_cache(maxsize=64)
def cumulative(cuts: Cuts, device: torch.device) -> Tensor:
    """The cuts as the kernels of packed documents read them, int32."""
    return torch.tensor(cuts, dtype=torch.int32, device=device)


def longest(cuts: Cuts) -> int:
    """Tokens of the longest document."""
    return max(end - start for start, end in pairwise(cuts))


def _heads_first(*tensors: Tensor) -> list[Tensor]:
    # [B, S, H, D] -> [B, H, S, D], a view
    return [tensor.transpose(1, 2) for tensor in tensors]


@lru_cache
def _unused(device: torch.device) -> Tensor:
    """Without dropout a kernel reads neither seed nor offset, but the operator wants tensors."""
    return torch.zeros((), dtype=torch.int64, device=device)


def _cudnn_forward(q_BSHD: Tensor, k_BTGD: Tensor, v_BTGD: Tensor, causal: bool) -> tuple[Tensor, Tensor]:
    q, k, v = _heads_first(q_BSHD, k_BTGD, v_BTGD)
    out, lse_BHS1, *_ = aten._scaled_dot_product_cudnn_attention(q, k, v, None, True, 0.0, causal, False)
    return out.transpose(1, 2), lse_BHS1.squeeze(-1)


def _cudnn_backward(
    dout_BSHD: Tensor, q_BSHD: Tensor, k_BTGD: Tensor, v_BTGD: Tensor, out_BSHD: Tensor, lse_BHS: Tensor, causal: bool
) -> tuple[Tensor, Tensor, Tensor]:
    dout, q, k, v, out = _heads_first(dout_BSHD, q_BSHD, k_BTGD, v_BTGD, out_BSHD)
    unused = _unused(q.device)
    lse_BHS1 = lse_BHS.unsqueeze(-1).contiguous()
    grads = aten._scaled_dot_product_cudnn_attention_backward(
        dout, q, k, v, out, lse_BHS1, unused, unused, None, None, None, q.shape[2], k.shape[2], 0.0, causal
    )
    dq, dk, dv = _heads_first(*grads[:3])
    return dq, dk, dv


def _flash_forward(q_BSHD: Tensor, k_BTGD: Tensor, v_BTGD: Tensor, causal: bool) -> tuple[Tensor, Tensor]:
    q, k, v = _heads_first(q_BSHD, k_BTGD, v_BTGD)
    out, lse_BHS, *_ = aten._scaled_dot_product_flash_attention(q, k, v, 0.0, causal, False)
    return out.transpose(1, 2), lse_BHS


def _flash_backward(
    dout_BSHD: Tensor, q_BSHD: Tensor, k_BTGD: Tensor, v_BTGD: Tensor, out_BSHD: Tensor, lse_BHS: Tensor, causal: bool
) -> tuple[Tensor, Tensor, Tensor]:
    dout, q, k, v, out = _heads_first(dout_BSHD, q_BSHD, k_BTGD, v_BTGD, out_BSHD)
    unused = _unused(q.device)
    grads = aten._scaled_dot_product_flash_attention_backward(
        dout, q, k, v, out, lse_BHS.contiguous(), None, None, q.shape[2], k.shape[2], 0.0, causal, unused, unused
    )
    dq, dk, dv = _heads_first(*grads[:3])
    return dq, dk, dv


def _flash_packed_forward(
    q_NHD: Tensor, k_MGD: Tensor, v_MGD: Tensor, cuts: Cuts, key_cuts: Cuts = ()
) -> tuple[Tensor, Tensor]:
    out, lse_HN, *_ = aten._flash_attention_forward(
        q_NHD, k_MGD, v_MGD, *_extents(cuts, key_cuts, q_NHD.device), 0.0, True, False
    )
    return out, lse_HN


def _flash_packed_backward(
    dout_NHD: Tensor,
    q_NHD: Tensor,
    k_MGD: Tensor,
    v_MGD: Tensor,
    out_NHD: Tensor,
    lse_HN: Tensor,
    cuts: Cuts,
    key_cuts: Cuts = (),
) -> tuple[Tensor, Tensor, Tensor]:
    unused, lse = _unused(q_NHD.device), lse_HN.contiguous()
    extents = _extents(cuts, key_cuts, q_NHD.device)
    return aten._flash_attention_backward(
        dout_NHD, q_NHD, k_MGD, v_MGD, out_NHD, lse, *extents, 0.0, True, unused, unused
    )


def _extents(cuts: Cuts, key_cuts: Cuts, device: torch.device) -> tuple[Tensor, Tensor, int, int]:
    """Cuts of queries and keys, the longest of either."""
    of_keys = key_cuts or cuts
    return cumulative(cuts, device), cumulative(of_keys, device), longest(cuts), longest(of_keys)


def _cpu_forward(q_BSHD: Tensor, k_BTGD: Tensor, v_BTGD: Tensor, causal: bool) -> tuple[Tensor, Tensor]:
    q, k, v = _heads_first(q_BSHD, k_BTGD, v_BTGD)
    out, lse_BHS = aten._scaled_dot_product_flash_attention_for_cpu(q, k, v, 0.0, causal)
    return out.transpose(1, 2), lse_BHS


def _cpu_backward(
    dout_BSHD: Tensor, q_BSHD: Tensor, k_BTGD: Tensor, v_BTGD: Tensor, out_BSHD: Tensor, lse_BHS: Tensor, causal: bool
) -> tuple[Tensor, Tensor, Tensor]:
    dout, q, k, v, out = _heads_first(dout_BSHD, q_BSHD, k_BTGD, v_BTGD, out_BSHD)
    grads = aten._scaled_dot_product_flash_attention_for_cpu_backward(dout, q, k, v, out, lse_BHS, 0.0, causal)
    dq, dk, dv = _heads_first(*grads[:3])
    return dq, dk, dv


FLASH = Kernel(
    name="flash",
    block_forward=_flash_forward,
    block_backward=_flash_backward,
    packed_forward=_flash_packed_forward,
    packed_backward=_flash_packed_backward,
)
"""FlashAttention-2 as torch ships it."""
# cuDNN makes a plan for each new shape, a tenth of a second; documents have a new one in every batch.
CUDNN = Kernel(name="cudnn", block_forward=_cudnn_forward, block_backward=_cudnn_backward, for_documents=FLASH)
CPU = Kernel(name="cpu", block_forward=_cpu_forward, block_backward=_cpu_backward)
