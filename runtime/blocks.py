"""Which local queries meet which keys: the causal half of the whole sequence, cut into blocks that a kernel can run.

Ranks hold zigzag shares (runtime.zigzag): an early and a late chunk. A block is
either causal (a rank's own share against itself) or full (every query sees every
key). Packed documents change only the extent of blocks: of two different chunks
only the one document that reaches from the earlier into the later can meet, so
a block between chunks stays a rectangle; inside a share, documents are cuts of
its causal block.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from runtime.zigzag import chunk_indices

Documents = Sequence[int]
"""Where the documents of one sequence begin, ascending, as positions in the whole sequence; the first is 0.

The sequence's length may follow the last one: an empty document.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Every query of `queries` sees every key of `keys`."""

    queries: slice
    """Rows of the local share."""
    keys: slice
    """Rows of the share, or of the whole sequence, that the keys come from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One rank of a ring and its share of a sequence."""

    rank: int
    size: int
    local: int
    """Tokens of the share: two chunks."""
    documents: Documents | None = None
    """None is one document over the whole sequence."""

    @property
    def chunk(self) -> int:
        """Tokens of a chunk. A whole sequence of an odd length has no two equal ones, and needs none."""
        return self.local // 2

    @property
    def blocks_overlap(self) -> bool:
        """Whether a query may meet more than two blocks: a second merge of rounded results is one too many."""
        return self.size > 2 or self.documents is not None


def cuts(place: Place) -> tuple[int, ...]:
    """Local rows at which a causal block is cut, 0 and the end included; empty where it is whole.

    Rank 0 of 2, chunks of 4, documents from 0, 3, 13 on, so local tokens 0-3 and 12-15: cuts 0, 3, 4, 5, 8.
    """
    if place.documents is None:
        return ()
    if place.size == 1:
        return tuple(sorted({*place.documents, place.local}))
    early, late = _chunks(place)
    inside = {0, place.local}
    if late > early + 1:  # the last rank's two chunks are neighbours
        inside.add(place.chunk)
    for chunk, row in ((early, 0), (late, place.chunk)):
        first = bisect_left(place.documents, chunk * place.chunk)
        last = bisect_left(place.documents, (chunk + 1) * place.chunk)
        inside.update(start - chunk * place.chunk + row for start in place.documents[first:last])
    return tuple(sorted(inside))


def own(place: Place) -> Iterator[Block]:
    """What a share's causal block leaves out of its own keys, once documents cut it: late queries, early keys."""
    if place.documents is None or place.size == 1:
        return
    early, late = _chunks(place)
    if late > early + 1:
        yield from _between(place, late, place.chunk, early, 0)


def foreign(place: Place, source: int) -> Iterator[Block]:
    """The blocks of the local queries and the share of another rank.

    A source before this rank gives its early chunk to all queries, one after it gives both to the late ones: equal
    work on every rank.
    """
    whole, half = place.local, place.chunk
    if place.documents is None:
        if source < place.rank:
            yield Block(queries=slice(0, whole), keys=slice(0, half))
        else:
            yield Block(queries=slice(half, whole), keys=slice(0, whole))
        return
    for query_chunk, query_row in zip(_chunks(place), (0, half), strict=True):
        for key_chunk, key_row in zip(chunk_indices(source, place.size), (0, half), strict=True):
            if key_chunk < query_chunk:
                yield from _between(place, query_chunk, query_row, key_chunk, key_row)


def gathered(place: Place) -> Iterator[Block]:
    """The blocks of the local queries and the other ranks' keys, laid out as the whole sequence.

    All queries see the chunks before the early one; the late ones also those between this rank's two.
    """
    early, late = _chunks(place)
    half = place.chunk
    if place.documents is None:
        if early > 0:
            yield Block(queries=slice(0, place.local), keys=slice(0, early * half))
        if late > early + 1:
            yield Block(queries=slice(half, place.local), keys=slice((early + 1) * half, late * half))
        return
    for query_chunk, query_row in ((early, 0), (late, half)):
        for key_chunk in range(query_chunk):
            if key_chunk != early:
                yield from _between(place, query_chunk, query_row, key_chunk, key_chunk * half)


def spans(place: Place) -> Iterator[Block]:
    """All local queries in order, each span with all of its keys in the whole sequence; the last keys are its own.

    Causal, query and key aligned at their ends: a span's first query sees all keys but those of the later queries.
    Without documents two spans: the early chunk against everything up to its end, the late one likewise.
    """
    for chunk, row in zip(_chunks(place), (0, place.chunk), strict=True):
        first, end = chunk * place.chunk, (chunk + 1) * place.chunk
        documents = place.documents or (0,)
        starts = documents[bisect_right(documents, first) : bisect_left(documents, end)]
        for start, stop in pairwise((first, *starts, end)):
            begin = documents[bisect_right(documents, start) - 1]
            queries = slice(row + start - first, row + stop - first)
            yield Block(queries=queries, keys=slice(begin, stop))


def needed_tokens(place: Place, source: int, rank: int) -> int:
    """Tokens of a source's share that `rank` needs: both chunks of a source after it, the early one of one before."""
    return place.local if source > rank else place.chunk


def _chunks(place: Place) -> tuple[int, int]:
    return chunk_indices(place.rank, place.size)


def _between(place: Place, query_chunk: int, query_row: int, key_chunk: int, key_row: int) -> Iterator[Block]:
    """The document that holds the first query, if it begins before the key chunk ends."""
    assert place.documents is not None, "without documents chunks meet whole"
    first = query_chunk * place.chunk
    index = bisect_right(place.documents, first)
    start = place.documents[index - 1]
    end = place.documents[index] if index < len(place.documents) else first + place.chunk
    key_first = key_chunk * place.chunk
    if start < key_first + place.chunk:
        yield Block(
            queries=slice(query_row, query_row + min(end - first, place.chunk)),
            keys=slice(key_row + max(start - key_first, 0), key_row + place.chunk),
        )
