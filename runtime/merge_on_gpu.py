"""The merge of two partial results in one pass over memory, for a GPU; imported only where one asks for it."""

import triton  # pyright: ignore[reportMissingImports]
import triton.language as tl  # pyright: ignore[reportMissingImports]
from torch import Tensor

ROWS = 16
"""Rows of one program: one head of one query each."""


def merge_(out_BSHD: Tensor, lse_BHS: Tensor, block_out_BSHD: Tensor, block_lse_BHS: Tensor) -> None:
    """As runtime.merge.merge_, of any strides but in the last dim of the outputs."""
    batch, queries, heads, size = out_BSHD.shape
    assert out_BSHD.stride(-1) == block_out_BSHD.stride(-1) == 1, "a row of an output lies in one piece"
    grid = (triton.cdiv(queries * heads, ROWS), batch)
    _merge[grid](  # pyright: ignore[reportIndexIssue]
        out_BSHD,
        lse_BHS,
        block_out_BSHD,
        block_lse_BHS,
        queries,
        *out_BSHD.stride()[:3],
        *block_out_BSHD.stride()[:3],
        *lse_BHS.stride(),
        *block_lse_BHS.stride(),
        HEADS=heads,
        SIZE=size,
        PADDED=triton.next_power_of_2(size),
        ROWS=ROWS,
    )


@triton.jit
def _merge(
    out_at,
    lse_at,
    block_out_at,
    block_lse_at,
    queries,
    out_b,
    out_s,
    out_h,
    block_b,
    block_s,
    block_h,
    lse_b,
    lse_h,
    lse_s,
    block_lse_b,
    block_lse_h,
    block_lse_s,
    HEADS: tl.constexpr,
    SIZE: tl.constexpr,
    PADDED: tl.constexpr,
    ROWS: tl.constexpr,
):
    batch = tl.program_id(1).to(tl.int64)
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    query, head = row // HEADS, row % HEADS
    within = query < queries
    lse_at += batch * lse_b + head * lse_h + query * lse_s
    block_lse_at += batch * block_lse_b + head * block_lse_h + query * block_lse_s
    lse = tl.load(lse_at, mask=within, other=0.0)
    block_lse = tl.load(block_lse_at, mask=within, other=0.0)
    column = tl.arange(0, PADDED)[None, :]
    inside = within[:, None] & (column < SIZE)
    out_at += (batch * out_b + query * out_s + head * out_h)[:, None] + column
    block_out_at += (batch * block_b + query * block_s + head * block_h)[:, None] + column
    running = tl.load(out_at, mask=inside, other=0.0).to(tl.float32)
    block = tl.load(block_out_at, mask=inside, other=0.0).to(tl.float32)
    weight = tl.sigmoid(block_lse - lse)[:, None]
    tl.store(out_at, running - weight * (running - block), mask=inside)
    high, low = tl.maximum(lse, block_lse), tl.minimum(lse, block_lse)
    tl.store(lse_at, high + tl.log(1.0 + tl.exp(low - high)), mask=within)
