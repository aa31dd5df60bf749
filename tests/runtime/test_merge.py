import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from runtime.merge import merge_

DTYPES = [torch.float32, torch.bfloat16, torch.float16]


def attended(seed: int, *, queries: int = 6, heads: int = 3, blocks: int = 2) -> list[tuple[Tensor, Tensor]]:
    """Normalised outputs [B, S, H, D] and log-sum-exps [B, H, S] of blocks of keys."""
    generator = torch.Generator().manual_seed(seed)
    made = []
    for _ in range(blocks):
        out = torch.randn(2, queries, heads, 5, generator=generator)
        made.append((out, 3 * torch.randn(2, heads, queries, generator=generator)))
    return made


@settings(deadline=None)
@given(st.integers(1, 3), st.integers(1, 5), st.floats(-200, 200), st.floats(-200, 200))
def test_merging_two_blocks_is_the_softmax_over_both_even_where_exponentials_overflow(batch, heads, shift_a, shift_b):
    generator = torch.Generator().manual_seed(batch * 10 + heads)
    scores = torch.randn(batch, heads, 3, 10, dtype=torch.float64, generator=generator)
    scores[..., :4] += shift_a
    scores[..., 4:] += shift_b
    values = torch.randn(batch, heads, 10, 6, dtype=torch.float64, generator=generator)

    def block(columns):
        part = scores[..., columns]
        out = (part.softmax(-1) @ values[:, :, columns]).transpose(1, 2)
        return out.float().contiguous(), part.logsumexp(-1).float().contiguous()

    out, lse = block(slice(0, 4))
    merge_(out, lse, *block(slice(4, 10)))
    truth = (scores.softmax(-1) @ values).transpose(1, 2)
    assert torch.allclose(out.double(), truth, atol=2e-5)
    assert torch.allclose(lse.double(), scores.logsumexp(-1), rtol=1e-6, atol=2e-5)


def test_of_one_key_against_three_equal_ones_the_block_gets_three_quarters() -> None:
    out, lse = torch.zeros(1, 1, 1, 2), torch.zeros(1, 1, 1)  # log 1
    merge_(out, lse, torch.full((1, 1, 1, 2), 4.0), torch.tensor(3.0).log().view(1, 1, 1))
    assert out.flatten().tolist() == pytest.approx([3.0, 3.0])
    assert lse.item() == pytest.approx(1.3862944)  # log 4


@pytest.mark.parametrize("dtype", DTYPES)
def test_an_output_is_rounded_once_after_a_merge_in_float32(dtype: torch.dtype) -> None:
    (out, lse), (block_out, block_lse) = attended(1, queries=64)
    narrow, block_narrow = out.to(dtype), block_out.to(dtype)
    wide, wide_lse = narrow.float(), lse.clone()
    merge_(wide, wide_lse, block_narrow.float(), block_lse)
    merge_(narrow, lse, block_narrow, block_lse)
    assert narrow.dtype == dtype and torch.equal(narrow, wide.to(dtype))
    assert torch.equal(lse, wide_lse)


@given(st.integers(0, 50))
def test_the_order_of_merging_does_not_matter_within_rounding(seed: int) -> None:
    blocks = attended(seed, blocks=3)
    results = []
    for order in itertools.permutations(blocks):
        (out, lse), *rest = ((out.clone(), lse.clone()) for out, lse in order)
        for part in rest:
            merge_(out, lse, *part)
        results.append((out, lse))
    for out, lse in results[1:]:
        assert torch.allclose(out, results[0][0], atol=1e-5) and torch.allclose(lse, results[0][1], atol=1e-5)


def test_a_slice_of_queries_is_merged_in_place_and_the_others_stay() -> None:
    (out, lse), (block_out, block_lse) = attended(3)
    out_before, lse_before = out.clone(), lse.clone()
    late = slice(4, 6)
    expected, expected_lse = out[:, late].clone(), lse[:, :, late].clone()
    merge_(expected, expected_lse, block_out[:, late].clone(), block_lse[:, :, late].clone())
    merge_(out[:, late], lse[:, :, late], block_out[:, late], block_lse[:, :, late])
    assert torch.equal(out[:, late], expected) and torch.equal(lse[:, :, late], expected_lse)
    assert not torch.equal(out[:, late], out_before[:, late])
    assert torch.equal(out[:, :4], out_before[:, :4]) and torch.equal(lse[:, :, :4], lse_before[:, :, :4])


def test_what_is_merged_in_stays_as_it_was() -> None:
    (out, lse), (block_out, block_lse) = attended(4)
    kept = block_out.clone(), block_lse.clone()
    merge_(out, lse, block_out, block_lse)
    assert torch.equal(block_out, kept[0]) and torch.equal(block_lse, kept[1])
