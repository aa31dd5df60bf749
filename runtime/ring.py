"""Exact causal attention over a sequence that is spread over ranks: K and V travel round a ring.

Each rank keeps its Q. In step s rank r computes against the K/V of rank
(r - s) mod P while they already travel on; after P steps, P - 1 hops, it has
seen them all (Liu et al. 2023, arXiv 2310.01889). Shares are zigzag
(runtime.zigzag), so a step is one of three kinds of equal work:

- s = 0:  own K/V, causal mask over both chunks;
- source before r:  all of Q against the source's early chunk, no mask;
- source after r:  the late chunk of Q against all of the source's K/V, no mask.

Partial outputs merge by their log-sum-exps in float32; dQ, dK and dV add up in
float32. Shapes: B batch, S local sequence, H query heads, G key/value heads,
D head size.
"""

from collections.abc import Iterator
from typing import Any, cast

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torch._C._distributed_c10d import _resolve_process_group

from runtime.attention import KERNELS, Kernel
from runtime.comm import start_hop


def merge_(out_BSHD: Tensor, lse_BHS: Tensor, block_out_BSHD: Tensor, block_lse_BHS: Tensor) -> None:
    """Fold a block's normalised output into the running one, in place, both in float32.

    With weights sigmoid(lse - block_lse) and its complement; the logsigmoid form never overflows.
    """
    # [B, H, S] -> [B, S, H, 1]
    weight = torch.sigmoid(block_lse_BHS - lse_BHS).transpose(1, 2).unsqueeze(-1)
    out_BSHD.sub_(weight * (out_BSHD - block_out_BSHD))
    lse_BHS.sub_(F.logsigmoid(lse_BHS - block_lse_BHS))


def _steps(rank: int, size: int, local: int) -> Iterator[tuple[slice, slice]]:
    """For steps 1 to P - 1: which local queries meet which of the travelling keys."""
    everything, early, late = slice(0, local), slice(0, local // 2), slice(local // 2, local)
    for step in range(1, size):
        source = (rank - step) % size
        yield (everything, early) if source < rank else (late, everything)


def ring_forward(
    q_BSHD: Tensor, k_BSGD: Tensor, v_BSGD: Tensor, group: dist.ProcessGroup | None, kernel: Kernel
) -> tuple[Tensor, Tensor]:
    """Out [B, S, H, D] in q's dtype and log-sum-exp [B, H, S] in float32, for the whole causal sequence.

    K and V are sent P - 1 times, together: 2 x S x G x D elements a hop.
    """
    rank, size = _place(group)
    if group is None or size == 1:
        out_BSHD, lse_BHS = kernel.forward(q_BSHD, k_BSGD, v_BSGD, True)
        return out_BSHD.contiguous(), lse_BHS.contiguous()
    kv = torch.stack((k_BSGD, v_BSGD))  # [2, B, S, G, D]: one message a hop
    hop = start_hop(kv, group)
    first_out, first_lse = kernel.forward(q_BSHD, k_BSGD, v_BSGD, True)
    out, lse = first_out.float().contiguous(), first_lse.float().contiguous()
    for step, (queries, keys) in enumerate(_steps(rank, size, q_BSHD.shape[1]), start=1):
        kv = hop.wait()
        if step < size - 1:
            hop = start_hop(kv, group)
        block_out, block_lse = kernel.forward(q_BSHD[:, queries], kv[0][:, keys], kv[1][:, keys], False)
        merge_(out[:, queries], lse[:, :, queries], block_out, block_lse)
    return out.to(q_BSHD.dtype), lse


def ring_backward(
    dout_BSHD: Tensor,
    q_BSHD: Tensor,
    k_BSGD: Tensor,
    v_BSGD: Tensor,
    out_BSHD: Tensor,
    lse_BHS: Tensor,
    group: dist.ProcessGroup | None,
    kernel: Kernel,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of q, k, v in their dtypes. Each block's backward takes the merged out and log-sum-exp.

    K and V make P - 1 hops again. The gradient of a rank's K/V starts at the rank after it, gathers a part at
    every stop and ends at home after P - 1 hops in float32; the rank's own part never travels.
    """
    rank, size = _place(group)
    if group is None or size == 1:
        return kernel.backward(dout_BSHD, q_BSHD, k_BSGD, v_BSGD, out_BSHD, lse_BHS, True)
    kv = torch.stack((k_BSGD, v_BSGD))
    kv_hop = start_hop(kv, group)
    dq, dk, dv = (grad.float() for grad in kernel.backward(dout_BSHD, q_BSHD, k_BSGD, v_BSGD, out_BSHD, lse_BHS, True))
    dkv_hop = None
    for step, (queries, keys) in enumerate(_steps(rank, size, q_BSHD.shape[1]), start=1):
        kv = kv_hop.wait()
        if step < size - 1:
            kv_hop = start_hop(kv, group)
        dout, q, out = (tensor[:, queries] for tensor in (dout_BSHD, q_BSHD, out_BSHD))
        k, v = (tensor[:, keys] for tensor in kv)
        block_dq, *block_dkv = kernel.backward(dout, q, k, v, out, lse_BHS[:, :, queries], False)
        dq[:, queries] += block_dq
        dkv = torch.zeros(kv.shape, dtype=torch.float32, device=kv.device) if dkv_hop is None else dkv_hop.wait()
        for part, block in zip(dkv, block_dkv, strict=True):
            part[:, keys] += block
        dkv_hop = start_hop(dkv, group)
    assert dkv_hop is not None, f"a ring of {size} ranks has {size - 1} hops"
    home = dkv_hop.wait()
    return dq.to(q_BSHD.dtype), (dk + home[0]).to(k_BSGD.dtype), (dv + home[1]).to(v_BSGD.dtype)


def _place(group: dist.ProcessGroup | None) -> tuple[int, int]:
    return (0, 1) if group is None else (dist.get_rank(group), dist.get_world_size(group))


def _group(name: str) -> dist.ProcessGroup | None:
    """The process group of that name; operators carry names because they cannot carry groups."""
    return _resolve_process_group(cast(Any, name)) if name else None


@torch.library.custom_op("cpadvisor::ring_attention", mutates_args=())
def ring_attention(
    q_BSHD: Tensor, k_BSGD: Tensor, v_BSGD: Tensor, group_name: str, kernel: str
) -> tuple[Tensor, Tensor]:
    """Causal attention over the group's whole sequence; local shares in, local shares out.

    One operator, so that selective checkpointing can keep its results and neither kernels nor hops run
    again in backward. `group_name` is empty for a sequence that is whole on this rank.
    """
    return ring_forward(q_BSHD, k_BSGD, v_BSGD, _group(group_name), KERNELS[kernel])


@torch.library.custom_op("cpadvisor::ring_attention_backward", mutates_args=())
def ring_attention_backward(
    dout_BSHD: Tensor,
    q_BSHD: Tensor,
    k_BSGD: Tensor,
    v_BSGD: Tensor,
    out_BSHD: Tensor,
    lse_BHS: Tensor,
    group_name: str,
    kernel: str,
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of `ring_attention`."""
    dq, dk, dv = ring_backward(
        dout_BSHD, q_BSHD, k_BSGD, v_BSGD, out_BSHD, lse_BHS, _group(group_name), KERNELS[kernel]
    )
    return dq.contiguous(), dk.contiguous(), dv.contiguous()


@ring_attention.register_fake
def _(q_BSHD: Tensor, k_BSGD: Tensor, v_BSGD: Tensor, group_name: str, kernel: str) -> tuple[Tensor, Tensor]:
    batch, local, heads, _ = q_BSHD.shape
    return torch.empty_like(q_BSHD).contiguous(), q_BSHD.new_empty(batch, heads, local, dtype=torch.float32)


@ring_attention_backward.register_fake
def _(
    dout_BSHD: Tensor,
    q_BSHD: Tensor,
    k_BSGD: Tensor,
    v_BSGD: Tensor,
    out_BSHD: Tensor,
    lse_BHS: Tensor,
    group_name: str,
    kernel: str,
) -> tuple[Tensor, Tensor, Tensor]:
    dq, dk, dv = (torch.empty_like(tensor).contiguous() for tensor in (q_BSHD, k_BSGD, v_BSGD))
    return dq, dk, dv


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    q_BSHD, k_BSGD, v_BSGD, ctx.group_name, ctx.kernel = inputs
    ctx.save_for_backward(q_BSHD, k_BSGD, v_BSGD, *output)
    ctx.mark_non_differentiable(output[1])


def _differentiate(ctx: Any, dout_BSHD: Tensor, _dlse: Tensor | None) -> tuple[Tensor | None, ...]:
    grads = ring_attention_backward(dout_BSHD, *ctx.saved_tensors, ctx.group_name, ctx.kernel)
    return *grads, None, None


ring_attention.register_autograd(_differentiate, setup_context=_save)
