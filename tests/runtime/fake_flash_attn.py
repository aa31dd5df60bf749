"""Stand-ins for the flash-attn packages: the signatures of their inner functions, with plain arithmetic inside.

Versions 2.8 and 3 declare their functions as custom operators of torch, whose
Python signature is (*args, **kwargs); so do these. Each asserts that nothing out
of the ordinary is asked for, and computes backward from the output and
log-sum-exp that it is given.
"""

from itertools import pairwise
from typing import Any

import torch
from plain_attention import backward, causal_mask, forward, packed_mask
from torch import Tensor


def _mask(q: Tensor, causal: bool, starts: Tensor | None, longest: int | None) -> Tensor | None:
    if starts is None:
        return causal_mask(q.shape[1]) if causal else None
    cuts = tuple(starts.tolist())
    assert causal and starts.dtype == torch.int32, "documents are causal, and their cuts int32"
    assert longest == max(end - start for start, end in pairwise(cuts)), "of the longest document"
    return packed_mask(cuts)


def _forward(q: Tensor, k: Tensor, v: Tensor, causal: bool, starts: Tensor | None, longest: int | None):
    mask = _mask(q, causal, starts, longest)
    if starts is None:
        out, lse = forward(q, k, v, mask)
    else:
        out, lse = (tensor[0] for tensor in forward(q[None], k[None], v[None], mask))
    return out.to(q.dtype), lse.float()


def _backward(given: tuple[Tensor, ...], causal: bool, starts: Tensor | None, longest: int | None):
    q, lse = given[1], given[-1]
    assert lse.is_contiguous(), "the kernels read the log-sum-exp as one piece"
    mask = _mask(q, causal, starts, longest)
    if starts is None:
        grads = backward(*given, mask)
    else:
        grads = tuple(grad[0] for grad in backward(*(tensor[None] for tensor in given), mask))
    return tuple(grad.to(q.dtype) for grad in grads)


def _write(places: tuple[Tensor | None, ...], grads: tuple[Tensor, ...]) -> None:
    for place, grad in zip(places, grads, strict=True):
        assert place is not None and place.is_contiguous(), "gradients are written where the caller says"
        place.copy_(grad)


def _assert_plain(scale: float | None, q: Tensor, *, dropout_p: float, window: Any, softcap: float, alibi: Any) -> None:
    assert scale == q.shape[-1] ** -0.5
    assert dropout_p == 0.0 and tuple(window) == (-1, -1) and softcap == 0.0 and alibi is None


def _nothing() -> Tensor:
    return torch.empty(0)


# flash-attn 2.8


@torch.library.custom_op("fake_flash_attn_2::_flash_attn_forward", mutates_args=())
def forward_2(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    dropout_p: float,
    softmax_scale: float,
    causal: bool,
    window_size_left: int,
    window_size_right: int,
    softcap: float,
    alibi_slopes: Tensor | None,
    return_softmax: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    window = window_size_left, window_size_right
    _assert_plain(softmax_scale, q, dropout_p=dropout_p, window=window, softcap=softcap, alibi=alibi_slopes)
    assert not return_softmax
    return *_forward(q, k, v, causal, None, None), _nothing(), _nothing()


@torch.library.custom_op("fake_flash_attn_2::_flash_attn_backward", mutates_args=("dq", "dk", "dv"))
def backward_2(
    dout: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    softmax_lse: Tensor,
    dq: Tensor | None,
    dk: Tensor | None,
    dv: Tensor | None,
    dropout_p: float,
    softmax_scale: float,
    causal: bool,
    window_size_left: int,
    window_size_right: int,
    softcap: float,
    alibi_slopes: Tensor | None,
    deterministic: bool,
    rng_state: Tensor | None = None,
) -> Tensor:
    window = window_size_left, window_size_right
    _assert_plain(softmax_scale, q, dropout_p=dropout_p, window=window, softcap=softcap, alibi=alibi_slopes)
    _write((dq, dk, dv), _backward((dout, q, k, v, out, softmax_lse), causal, None, None))
    return _nothing()


@torch.library.custom_op("fake_flash_attn_2::_flash_attn_varlen_forward", mutates_args=())
def varlen_forward_2(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens_q: Tensor,
    cu_seqlens_k: Tensor,
    max_seqlen_q: int,
    max_seqlen_k: int,
    dropout_p: float,
    softmax_scale: float,
    causal: bool,
    window_size_left: int = -1,
    window_size_right: int = -1,
    softcap: float = 0.0,
    alibi_slopes: Tensor | None = None,
    return_softmax: bool = False,
    block_table: Tensor | None = None,
    leftpad_k: Tensor | None = None,
    seqused_k: Tensor | None = None,
    zero_tensors: bool = False,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    window = window_size_left, window_size_right
    _assert_plain(softmax_scale, q, dropout_p=dropout_p, window=window, softcap=softcap, alibi=alibi_slopes)
    assert torch.equal(cu_seqlens_q, cu_seqlens_k) and max_seqlen_q == max_seqlen_k
    return *_forward(q, k, v, causal, cu_seqlens_q, max_seqlen_q), _nothing(), _nothing()


@torch.library.custom_op("fake_flash_attn_2::_flash_attn_varlen_backward", mutates_args=("dq", "dk", "dv"))
def varlen_backward_2(
    dout: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    softmax_lse: Tensor,
    dq: Tensor | None,
    dk: Tensor | None,
    dv: Tensor | None,
    cu_seqlens_q: Tensor,
    cu_seqlens_k: Tensor,
    max_seqlen_q: int,
    max_seqlen_k: int,
    dropout_p: float,
    softmax_scale: float,
    causal: bool,
    window_size_left: int,
    window_size_right: int,
    softcap: float,
    alibi_slopes: Tensor | None,
    deterministic: bool,
    rng_state: Tensor | None = None,
    zero_tensors: bool = False,
) -> Tensor:
    window = window_size_left, window_size_right
    _assert_plain(softmax_scale, q, dropout_p=dropout_p, window=window, softcap=softcap, alibi=alibi_slopes)
    assert torch.equal(cu_seqlens_q, cu_seqlens_k) and max_seqlen_q == max_seqlen_k
    _write((dq, dk, dv), _backward((dout, q, k, v, out, softmax_lse), causal, cu_seqlens_q, max_seqlen_q))
    return _nothing()


# flash-attn 3, the hopper interface


@torch.library.custom_op("fake_flash_attn_3::_flash_attn_forward", mutates_args=())
def forward_3(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    k_new: Tensor | None = None,
    v_new: Tensor | None = None,
    qv: Tensor | None = None,
    out_: Tensor | None = None,
    cu_seqlens_q: Tensor | None = None,
    cu_seqlens_k: Tensor | None = None,
    cu_seqlens_k_new: Tensor | None = None,
    seqused_q: Tensor | None = None,
    seqused_k: Tensor | None = None,
    max_seqlen_q: int | None = None,
    max_seqlen_k: int | None = None,
    page_table: Tensor | None = None,
    softmax_scale: float | None = None,
    causal: bool = False,
    window_size_left: int = -1,
    window_size_right: int = -1,
    attention_chunk: int = 0,
    softcap: float = 0.0,
    rotary_interleaved: bool = True,
    scheduler_metadata: Tensor | None = None,
    num_splits: int = 1,
    pack_gqa: bool | None = None,
    sm_margin: int = 0,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    window = window_size_left, window_size_right
    _assert_plain(softmax_scale, q, dropout_p=0.0, window=window, softcap=softcap, alibi=None)
    assert (num_splits, attention_chunk, sm_margin, rotary_interleaved) == (1, 0, 0, True), "defaults stay"
    return *_forward(q, k, v, causal, cu_seqlens_q, max_seqlen_q), _nothing(), _nothing()


@torch.library.custom_op("fake_flash_attn_3::_flash_attn_backward", mutates_args=("dq", "dk", "dv"))
def backward_3(
    dout: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    softmax_lse: Tensor,
    cu_seqlens_q: Tensor | None = None,
    cu_seqlens_k: Tensor | None = None,
    sequed_q: Tensor | None = None,
    sequed_k: Tensor | None = None,
    max_seqlen_q: int | None = None,
    max_seqlen_k: int | None = None,
    dq: Tensor | None = None,
    dk: Tensor | None = None,
    dv: Tensor | None = None,
    softmax_scale: float | None = None,
    is_causal: bool = False,
    window_size_left: int = -1,
    window_size_right: int = -1,
    softcap: float = 0.0,
    deterministic: bool = False,
    sm_margin: int = 0,
) -> Tensor:
    window = window_size_left, window_size_right
    _assert_plain(softmax_scale, q, dropout_p=0.0, window=window, softcap=softcap, alibi=None)
    _write((dq, dk, dv), _backward((dout, q, k, v, out, softmax_lse), is_causal, cu_seqlens_q, max_seqlen_q))
    return _nothing()


# An early flash-attn 3: plain functions, a pair for the window, many arguments without a default


def early_forward_3(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    k_new: Tensor | None,
    v_new: Tensor | None,
    qv: Tensor | None,
    out: Tensor | None,
    cu_seqlens_q: Tensor | None,
    cu_seqlens_k: Tensor | None,
    max_seqlen_q: int | None,
    max_seqlen_k: int | None,
    q_descale: Tensor | None,
    softmax_scale: float,
    causal: bool,
    window_size: tuple[int, int] = (-1, -1),
    softcap: float = 0.0,
    num_splits: int = 1,
) -> tuple[Any, ...]:
    _assert_plain(softmax_scale, q, dropout_p=0.0, window=window_size, softcap=softcap, alibi=None)
    assert (k_new, v_new, qv, out, q_descale, num_splits) == (None, None, None, None, None, 1)
    return *_forward(q, k, v, causal, cu_seqlens_q, max_seqlen_q), None, None


def early_backward_3(
    dout: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    softmax_lse: Tensor,
    cu_seqlens_q: Tensor | None,
    cu_seqlens_k: Tensor | None,
    sequed_q: Tensor | None,
    sequed_k: Tensor | None,
    max_seqlen_q: int | None,
    max_seqlen_k: int | None,
    dq: Tensor,
    dk: Tensor,
    dv: Tensor,
    softmax_scale: float,
    causal: bool,
    window_size: tuple[int, int] = (-1, -1),
) -> tuple[Tensor, ...]:
    _assert_plain(softmax_scale, q, dropout_p=0.0, window=window_size, softcap=0.0, alibi=None)
    _write((dq, dk, dv), _backward((dout, q, k, v, out, softmax_lse), causal, cu_seqlens_q, max_seqlen_q))
    return dq, dk, dv, None


# flash-attn 4


def forward_4(
    q: Tensor | None,
    k: Tensor | None,
    v: Tensor,
    qv: Tensor | None = None,
    cu_seqlens_q: Tensor | None = None,
    cu_seqlens_k: Tensor | None = None,
    seqused_q: Tensor | None = None,
    seqused_k: Tensor | None = None,
    max_seqlen_q: int | None = None,
    max_seqlen_k: int | None = None,
    min_seqlen_k: int | None = None,
    page_table: Tensor | None = None,
    softmax_scale: float | None = None,
    causal: bool = False,
    softcap: float | None = None,
    window_size_left: int | None = None,
    window_size_right: int | None = None,
    num_splits: int = 1,
    return_lse: bool = False,
    out: Tensor | None = None,
    lse: Tensor | None = None,
) -> tuple[Tensor, Tensor | None, None, None, None]:
    assert q is not None and k is not None
    result, lse = _forward(q, k, v, causal, cu_seqlens_q, max_seqlen_q)
    return result, lse if return_lse else None, None, None, None


def backward_4(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    dout: Tensor,
    lse: Tensor,
    softmax_scale: float | None = None,
    causal: bool = False,
    softcap: float = 0.0,
    window_size_left: int | None = None,
    window_size_right: int | None = None,
    cu_seqlens_q: Tensor | None = None,
    cu_seqlens_k: Tensor | None = None,
    seqused_q: Tensor | None = None,
    seqused_k: Tensor | None = None,
    max_seqlen_q: int | None = None,
    max_seqlen_k: int | None = None,
    deterministic: bool = False,
    dq: Tensor | None = None,
    dk: Tensor | None = None,
    dv: Tensor | None = None,
) -> tuple[Tensor, ...]:
    return _backward((dout, q, k, v, out, lse), causal, cu_seqlens_q, max_seqlen_q)


# An early flash-attn 4: two results, few arguments


def early_forward_4(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens_q: Tensor | None = None,
    cu_seqlens_k: Tensor | None = None,
    max_seqlen_q: int | None = None,
    softmax_scale: float | None = None,
    causal: bool = False,
    return_lse: bool = False,
) -> tuple[Tensor, Tensor | None]:
    out, lse, *_ = forward_4(
        q, k, v, cu_seqlens_q=cu_seqlens_q, max_seqlen_q=max_seqlen_q, causal=causal, return_lse=return_lse
    )
    return out, lse


def early_backward_4(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    dout: Tensor,
    lse: Tensor,
    softmax_scale: float | None = None,
    causal: bool = False,
    softcap: float = 0.0,
    cu_seqlens_q: Tensor | None = None,
    cu_seqlens_k: Tensor | None = None,
) -> tuple[Tensor, ...]:
    longest = None if cu_seqlens_q is None else int(cu_seqlens_q.diff().max())
    return _backward((dout, q, k, v, out, lse), causal, cu_seqlens_q, longest)
