"""Context-parallel attention: one operator, whichever way the ranks of a group share a sequence.

Local q, k, v and the documents of the sequence go in, the local output and
log-sum-exp come out. Heads are exchanged first (Ulysses), then K and V are brought
to the queries (ring, all-gather); either may be missing. The operator is opaque to
autograd, selective checkpointing and torch.compile: its results can be kept, so
that neither kernels nor messages run twice. Shapes: B batch, S local sequence, H
query heads, G key/value heads, D head size, N documents.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor
from torch._C._distributed_c10d import _resolve_process_group

from runtime import allgather, ring
from runtime.blocks import Documents, Place
from runtime.kernel_choice import KERNELS
from runtime.kernels import Kernel
from runtime.partial import Given, Gradients, Output
from runtime.settings import METHODS
from runtime.ulysses import HeadExchange

Gradient = tuple[Tensor, Tensor, Tensor]
"""Of q, k and v."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionPlace:
    """Where and how attention runs. Groups are named, because an operator cannot carry them."""

    kernel: str
    method: str = "none"
    kv_group: str = ""
    """Ranks among which K and V travel or are gathered; empty where they do not."""
    heads_group: str = ""
    """Ranks that exchange heads for tokens; empty where none do."""


def attend(
    q_BSHD: Tensor, k_BSGD: Tensor, v_BSGD: Tensor, documents_BN: Tensor | None, place: AttentionPlace
) -> tuple[Tensor, Tensor]:
    """out [B, S, H, D] in q's dtype and log-sum-exp [B, H, S], float32: causal attention within each document.

    `documents_BN` holds where documents begin in each whole sequence of the batch, ascending from 0, padded with the
    sequence's length; int64 on the host, since it decides which kernels are launched. None is one document each.
    """
    return context_attention(
        q_BSHD, k_BSGD, v_BSGD, documents_BN, place.method, place.kv_group, place.heads_group, place.kernel
    )


@torch.library.custom_op("cpadvisor::context_attention", mutates_args=())
def context_attention(
    q_BSHD: Tensor,
    k_BSGD: Tensor,
    v_BSGD: Tensor,
    documents_BN: Tensor | None,
    method: str,
    kv_group: str,
    heads_group: str,
    kernel: str,
) -> tuple[Tensor, Tensor]:
    """`attend` with its place spelled out."""
    way = _Way(method, kv_group, heads_group, kernel, packed=documents_BN is not None)
    way.check(q_BSHD, k_BSGD, documents_BN)
    results = [
        way.forward(q_BSHD[rows], k_BSGD[rows], v_BSGD[rows], documents)
        for rows, documents in _by_documents(documents_BN)
    ]
    out, lse = results[0] if len(results) == 1 else map(torch.cat, zip(*results, strict=True))
    return out, lse


@torch.library.custom_op("cpadvisor::context_attention_backward", mutates_args=())
def context_attention_backward(
    dout_BSHD: Tensor,
    q_BSHD: Tensor,
    k_BSGD: Tensor,
    v_BSGD: Tensor,
    out_BSHD: Tensor,
    lse_BHS: Tensor,
    documents_BN: Tensor | None,
    method: str,
    kv_group: str,
    heads_group: str,
    kernel: str,
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of `context_attention`."""
    way = _Way(method, kv_group, heads_group, kernel, packed=documents_BN is not None)
    tensors = (dout_BSHD, q_BSHD, out_BSHD, lse_BHS, k_BSGD, v_BSGD)
    results: list[Gradient] = []
    for rows, documents in _by_documents(documents_BN):
        dout, q, out, lse, k, v = (tensor[rows] for tensor in tensors)
        results.append(way.backward(Given(dout=dout, q=q, out=out, lse=lse), k, v, documents))
    dq, dk, dv = results[0] if len(results) == 1 else map(torch.cat, zip(*results, strict=True))
    return dq.contiguous(), dk.contiguous(), dv.contiguous()


class _Way:
    """How the ranks of a place share attention."""

    def __init__(self, method: str, kv_group: str, heads_group: str, kernel: str, *, packed: bool) -> None:
        assert method in METHODS, f"method {method!r} is none of {', '.join(METHODS)}"
        assert method != "none" or not (kv_group or heads_group), "a sequence that is whole has no groups"
        self._kv_group, self._heads_group = _group(kv_group), _group(heads_group)
        self._module: ModuleType = allgather if method == "allgather" else ring
        chosen = KERNELS[kernel]
        self._kernel: Kernel = (chosen.for_documents or chosen) if packed else chosen

    def check(self, q_BSHD: Tensor, k_BSGD: Tensor, documents_BN: Tensor | None) -> None:
        """Raise ValueError for heads that do not group, and for documents that are not those of the sequences."""
        heads, kv_heads = q_BSHD.shape[2], k_BSGD.shape[2]
        if heads % kv_heads:
            raise ValueError(f"{heads} query heads do not share {kv_heads} K/V heads evenly")
        if documents_BN is None:
            return
        if documents_BN.shape[0] != q_BSHD.shape[0]:
            raise ValueError(f"documents of {documents_BN.shape[0]} sequences for a batch of {q_BSHD.shape[0]}")
        groups = [group for group in (self._kv_group, self._heads_group) if group is not None]
        tokens = q_BSHD.shape[1] * math.prod(map(dist.get_world_size, groups))
        for starts in documents_BN.tolist():
            if starts[0] != 0 or starts != sorted(starts) or starts[-1] > tokens:
                rule = f"they ascend from 0 and none begins beyond {tokens} tokens"
                raise ValueError(f"documents begin at {starts}: {rule}")

    def forward(self, q: Tensor, k: Tensor, v: Tensor, documents: Documents | None) -> tuple[Tensor, Tensor]:
        """Out and log-sum-exp of local shares."""
        if self._heads_group is None:
            return self._inner_forward(q, k, v, documents)
        heads = HeadExchange(self._heads_group, q.device)
        q_part, k_part, v_part = heads.gather(q, k, v)
        out, lse_BHS = self._inner_forward(q_part, k_part, v_part, documents)
        out, lse_BSHE = heads.scatter((out, q.shape[2]), (_as_dtype(lse_BHS, q.dtype), q.shape[2]))
        return out, _as_float32(lse_BSHE)

    def backward(self, given: Given, k: Tensor, v: Tensor, documents: Documents | None) -> Gradient:
        """Gradients of local shares."""
        if self._heads_group is None:
            return self._inner_backward(given, k, v, documents)
        heads = HeadExchange(self._heads_group, k.device)
        # What was gathered is free again before the gradients are sent back.
        dq, dk, dv = self._gathered_backward(heads, given, k, v, documents)
        dq, dk, dv = heads.scatter((dq, given.q.shape[2]), (dk, k.shape[2]), (dv, v.shape[2]))
        return dq, dk, dv

    def _gathered_backward(
        self, heads: HeadExchange, given: Given, k: Tensor, v: Tensor, documents: Documents | None
    ) -> Gradient:
        lse_BSHE = _as_dtype(given.lse, given.q.dtype)
        dout, q, out, lse_BSHE, k_part, v_part = heads.gather(given.dout, given.q, given.out, lse_BSHE, k, v)
        gathered = Given(dout=dout, q=q, out=out, lse=_as_float32(lse_BSHE))
        return self._inner_backward(gathered, k_part, v_part, documents)

    def _inner_forward(self, q: Tensor, k: Tensor, v: Tensor, documents: Documents | None) -> tuple[Tensor, Tensor]:
        place = self._place(q, documents)
        if self._kv_group is None:
            return Output(q, k, v, place, self._kernel).result()
        return self._module.forward(q, k, v, place, self._kv_group, self._kernel)

    def _inner_backward(self, given: Given, k: Tensor, v: Tensor, documents: Documents | None) -> Gradient:
        place = self._place(given.q, documents)
        if self._kv_group is None:
            return Gradients(given, k, v, place, self._kernel).result()
        return self._module.backward(given, k, v, place, self._kv_group, self._kernel)

    def _place(self, q_BSHD: Tensor, documents: Documents | None) -> Place:
        group = self._kv_group
        rank, size = (0, 1) if group is None else (dist.get_rank(group), dist.get_world_size(group))
        return Place(rank=rank, size=size, local=q_BSHD.shape[1], documents=documents)


def _by_documents(documents_BN: Tensor | None) -> Iterator[tuple[slice, Documents | None]]:
    """Rows of the batch that share their documents, and those: each row has its own, or all have none."""
    if documents_BN is None:
        yield slice(None), None
        return
    for row, starts in enumerate(documents_BN.tolist()):
        yield slice(row, row + 1), tuple(sorted(set(starts)))


def _group(name: str) -> dist.ProcessGroup | None:
    return _resolve_process_group(cast(Any, name)) if name else None


def _as_dtype(lse_BHS: Tensor, dtype: torch.dtype) -> Tensor:
    """[B, H, S] -> [B, S, H, E]: the bits of float32 as E numbers of a dtype, to travel with tensors of that dtype."""
    return lse_BHS.transpose(1, 2).contiguous().unsqueeze(-1).view(dtype)


def _as_float32(lse_BSHE: Tensor) -> Tensor:
    # [B, S, H, E] -> [B, H, S]
    return lse_BSHE.view(torch.float32).squeeze(-1).transpose(1, 2).contiguous()


@context_attention.register_fake
def _(
    q_BSHD: Tensor,
    k_BSGD: Tensor,
    v_BSGD: Tensor,
    documents_BN: Tensor | None,
    method: str,
    kv_group: str,
    heads_group: str,
    kernel: str,
) -> tuple[Tensor, Tensor]:
    batch, local, heads, _ = q_BSHD.shape
    return torch.empty_like(q_BSHD).contiguous(), q_BSHD.new_empty(batch, heads, local, dtype=torch.float32)


@context_attention_backward.register_fake
def _(
    dout_BSHD: Tensor,
    q_BSHD: Tensor,
    k_BSGD: Tensor,
    v_BSGD: Tensor,
    out_BSHD: Tensor,
    lse_BHS: Tensor,
    documents_BN: Tensor | None,
    method: str,
    kv_group: str,
    heads_group: str,
    kernel: str,
) -> tuple[Tensor, Tensor, Tensor]:
    dq, dk, dv = (torch.empty_like(tensor).contiguous() for tensor in (q_BSHD, k_BSGD, v_BSGD))
    return dq, dk, dv


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    q_BSHD, k_BSGD, v_BSGD, documents_BN, *ctx.place = inputs
    ctx.save_for_backward(q_BSHD, k_BSGD, v_BSGD, *output, documents_BN)
    ctx.mark_non_differentiable(output[1])


def _differentiate(ctx: Any, dout_BSHD: Tensor, _dlse: Tensor | None) -> tuple[Tensor | None, ...]:
    grads = context_attention_backward(dout_BSHD, *ctx.saved_tensors, *ctx.place)
    return *grads, None, None, None, None, None


context_attention.register_autograd(_differentiate, setup_context=_save)
