import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from runtime import zigzag


def test_rank_r_of_p_holds_chunks_r_and_2p_minus_1_minus_r():
    assert [zigzag.chunk_indices(rank, 4) for rank in range(4)] == [(0, 7), (1, 6), (2, 5), (3, 4)]


def test_the_shares_of_sixteen_tokens_over_two_ranks():
    assert zigzag.positions(0, 2, 16).tolist() == [0, 1, 2, 3, 12, 13, 14, 15]
    assert zigzag.positions(1, 2, 16).tolist() == [4, 5, 6, 7, 8, 9, 10, 11]


@given(cp=st.integers(1, 8), chunk=st.integers(1, 5), dim=st.integers(0, 2))
def test_the_shares_partition_the_sequence_and_come_back_in_order(cp, chunk, dim):
    shape = [3, 3, 3]
    shape[dim] = 2 * cp * chunk
    whole = torch.arange(torch.Size(shape).numel()).view(shape)
    shares = [zigzag.shard(whole, rank=rank, cp=cp, dim=dim) for rank in range(cp)]
    assert {share.shape[dim] for share in shares} == {2 * chunk}
    assert torch.equal(zigzag.unshard(shares, dim=dim), whole)


@given(cp=st.integers(2, 16), chunk=st.integers(1, 4))
def test_every_rank_has_the_same_causal_work(cp, chunk):
    sequence_len = 2 * cp * chunk
    work = [(zigzag.positions(rank, cp, sequence_len) + 1).sum().item() for rank in range(cp)]
    assert len(set(work)) == 1


def test_an_uneven_sequence_names_both_neighbours_that_fit():
    with pytest.raises(ValueError, match=r"10000 does not split into 6 equal chunks .* use 9996 or 10002"):
        zigzag.shard(torch.zeros(10_000), rank=0, cp=3, dim=0)


def test_a_rank_outside_the_group_is_refused():
    with pytest.raises(ValueError, match="rank 4 is not one of 4"):
        zigzag.chunk_indices(4, 4)
