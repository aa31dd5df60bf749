from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from runtime import blocks, zigzag
from runtime.blocks import Block, Place


def truth(sequence_len, documents):
    """[S, S]: 1 where a token of a sequence sees another one of its document that is not after it."""
    index = torch.arange(sequence_len)
    document = torch.zeros(sequence_len, dtype=torch.long)
    for start in documents:
        document[start:] += 1
    return ((index[:, None] >= index) & (document[:, None] == document)).long()


def add_causal(seen_LS, place, positions_L):
    """Count the pairs of the share's own causal block, document by document."""
    borders = blocks.cuts(place) or (0, place.local)
    for first, end in pairwise(borders):
        columns = positions_L[first:end]
        seen_LS[first:end, columns] += torch.ones(end - first, end - first, dtype=torch.long).tril()


def add(seen_LS, met, positions):
    for block in met:
        rows = seen_LS[block.queries]
        rows[:, positions[block.keys]] += 1
        seen_LS[block.queries] = rows


@st.composite
def places(draw):
    """Every rank of a ring, with documents or without."""
    size, chunk = draw(st.integers(1, 4)), draw(st.integers(1, 5))
    sequence_len = 2 * size * chunk
    starts = draw(st.none() | st.sets(st.integers(1, sequence_len), max_size=6))
    documents = None if starts is None else (0, *sorted(starts))
    return sequence_len, [Place(rank=r, size=size, local=2 * chunk, documents=documents) for r in range(size)]


@given(places())
def test_a_ring_meets_every_pair_of_the_mask_exactly_once(drawn):
    sequence_len, ring = drawn
    mask = truth(sequence_len, ring[0].documents or (0,))
    shares = [zigzag.positions(place.rank, place.size, sequence_len) for place in ring]
    for place, own in zip(ring, shares, strict=True):
        seen = torch.zeros(place.local, sequence_len, dtype=torch.long)
        add_causal(seen, place, own)
        add(seen, blocks.own(place), own)
        for source in set(range(place.size)) - {place.rank}:
            came = shares[source][: blocks.needed_tokens(place, source, place.rank)]
            add(seen, blocks.foreign(place, source), came)
        assert torch.equal(seen, mask[own])


@given(places())
def test_gathered_keys_meet_every_pair_of_the_mask_exactly_once(drawn):
    sequence_len, ring = drawn
    mask = truth(sequence_len, ring[0].documents or (0,))
    for place in ring:
        own = zigzag.positions(place.rank, place.size, sequence_len)
        seen = torch.zeros(place.local, sequence_len, dtype=torch.long)
        add_causal(seen, place, own)
        add(seen, blocks.own(place), own)
        if place.size > 1:
            add(seen, blocks.gathered(place), torch.arange(sequence_len))
        assert torch.equal(seen, mask[own])


@given(places())
def test_spans_cover_the_queries_in_order_and_each_pair_of_the_mask_exactly_once(drawn):
    sequence_len, ring = drawn
    mask = truth(sequence_len, ring[0].documents or (0,))
    for place in ring:
        own = zigzag.positions(place.rank, place.size, sequence_len)
        seen = torch.zeros(place.local, sequence_len, dtype=torch.long)
        spans = list(blocks.spans(place))
        assert [row for span in spans for row in range(span.queries.start, span.queries.stop)] == [*range(place.local)]
        for span in spans:
            queries, keys = span.queries.stop - span.queries.start, span.keys.stop - span.keys.start
            seen[span.queries, span.keys] += torch.ones(queries, keys, dtype=torch.long).tril(keys - queries)
        assert torch.equal(seen, mask[own])


def test_a_source_before_gives_its_early_chunk_to_all_and_one_after_gives_both_to_the_late_queries():
    place = Place(rank=1, size=4, local=8)
    assert list(blocks.foreign(place, 0)) == [Block(queries=slice(0, 8), keys=slice(0, 4))]
    assert list(blocks.foreign(place, 2)) == [Block(queries=slice(4, 8), keys=slice(0, 8))]
    assert [blocks.needed_tokens(place, source, 1) for source in (0, 2, 3)] == [4, 8, 8]


def test_documents_cut_a_share_where_they_begin_and_where_its_two_chunks_part():
    # Chunks of 4 over 2 ranks: rank 0 holds tokens 0-3 and 12-15; rank 1 holds 4-11, which are neighbours.
    documents = (0, 3, 13)
    assert blocks.cuts(Place(rank=0, size=2, local=8, documents=documents)) == (0, 3, 4, 5, 8)
    assert blocks.cuts(Place(rank=1, size=2, local=8, documents=documents)) == (0, 8)
    assert blocks.cuts(Place(rank=0, size=2, local=8)) == ()


def test_only_the_document_that_reaches_from_chunk_to_chunk_crosses_ranks():
    # Document 3-12 covers token 12, the first of rank 0's late chunk; of the early chunk only token 3 is in it.
    place = Place(rank=0, size=2, local=8, documents=(0, 3, 13))
    assert list(blocks.own(place)) == [Block(queries=slice(4, 5), keys=slice(3, 4))]
    assert list(blocks.foreign(place, 1)) == [
        Block(queries=slice(4, 5), keys=slice(0, 4)),
        Block(queries=slice(4, 5), keys=slice(4, 8)),
    ]


@pytest.mark.parametrize("size", [2, 3, 8])
def test_every_step_of_a_ring_is_the_same_work_on_every_rank(size):
    chunk = 4
    for rank in range(size):
        place = Place(rank=rank, size=size, local=2 * chunk)
        for source in set(range(size)) - {rank}:
            (block,) = blocks.foreign(place, source)
            area = (block.queries.stop - block.queries.start) * (block.keys.stop - block.keys.start)
            assert area == 2 * chunk**2
