"""Which tokens each rank sees in each step: a function of the data, the seed and the step alone.

Documents are cut into pieces of sequence_len tokens and never share one; the
last piece of a document is padded and its padding has no label. The label of a
token is the one after it, across the cut too. Pieces are permuted anew in every
epoch; sequence k of a step goes to data rank k mod dp_shard, and the ranks of a
context-parallel group take their zigzag shares of the same sequence.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from math import ceil

import torch
from torch import Tensor

from runtime import zigzag
from runtime.errors import ConfigError
from runtime.loss import IGNORED
from runtime.settings import Batch, Sizes
from runtime.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """All tokens in one tensor, and where each piece begins and ends in it."""

    tokens: Tensor
    """int32, documents one after the other."""
    starts: tuple[int, ...]
    ends: tuple[int, ...]
    """One past the last token of each piece."""
    document_ends: tuple[int, ...]
    """One past the last token of the document that holds the piece."""
    sequence_len: int
    pad: int

    def __len__(self) -> int:
        return len(self.starts)

    def labelled_tokens(self, piece: int) -> int:
        """Tokens of a piece that have a successor to predict: all but the last one of a document."""
        return min(self.ends[piece], self.document_ends[piece] - 1) - self.starts[piece]

    def padded_share(self) -> float:
        """Which part of all positions is padding."""
        used = sum(end - start for start, end in zip(self.starts, self.ends, strict=True))
        return 1 - used / (len(self) * self.sequence_len)

    def piece(self, index: int) -> tuple[Tensor, Tensor]:
        """Inputs and labels [S] of a piece, int64."""
        start, end = self.starts[index], self.ends[index]
        inputs = torch.full((self.sequence_len,), self.pad, dtype=torch.int64)
        labels = torch.full((self.sequence_len,), IGNORED, dtype=torch.int64)
        inputs[: end - start] = self.tokens[start:end]
        labelled = self.labelled_tokens(index)
        labels[:labelled] = self.tokens[start + 1 : start + 1 + labelled]
        return inputs, labels


def build(documents: Iterable[str], tokenizer: Tokenizer, *, sequence_len: int, vocab_size: int, name: str) -> Dataset:
    """Tokenize and cut. Raises ConfigError for no data, too little of it, or ids that the model does not have."""
    encoded = [ids for ids in map(tokenizer.encode, documents) if len(ids) > 1]
    if not encoded:
        raise ConfigError(name, ["the dataset is empty: it holds no document of two tokens or more"])
    tokens = torch.cat(encoded)
    if len(tokens) < sequence_len:
        raise ConfigError(
            name,
            [f"the dataset has {len(tokens)} tokens, fewer than sequence_len {sequence_len}; lower it or add data"],
        )
    highest = int(tokens.max())
    if highest >= vocab_size:
        raise ConfigError(
            name,
            [
                f"tokenizer {tokenizer.name} gives id {highest}, but the model's vocab_size is {vocab_size}; "
                "set cpadvisor.tokenizer to the model's own tokenizer.json"
            ],
        )
    return _cut(encoded, tokens, sequence_len, tokenizer.pad if tokenizer.pad < vocab_size else 0)


def _cut(encoded: list[Tensor], tokens: Tensor, sequence_len: int, pad: int) -> Dataset:
    starts: list[int] = []
    ends: list[int] = []
    document_ends: list[int] = []
    offset = 0
    for document in encoded:
        stop = offset + len(document)
        # The last token alone has nothing to predict, so no piece begins there.
        for start in range(offset, stop - 1, sequence_len):
            starts.append(start)
            ends.append(min(start + sequence_len, stop))
            document_ends.append(stop)
        offset = stop
    return Dataset(
        tokens=tokens,
        starts=tuple(starts),
        ends=tuple(ends),
        document_ends=tuple(document_ends),
        sequence_len=sequence_len,
        pad=pad,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class MicroBatch:
    """The share of one rank: its tokens and their labels, [B, S/cp] both."""

    inputs: Tensor
    labels: Tensor


class Loader:
    """Batches of one rank, and the counts that all ranks agree on without asking each other."""

    def __init__(
        self,
        dataset: Dataset,
        *,
        batch: Batch,
        sizes: Sizes,
        data_rank: int,
        cp_rank: int,
        seed: int,
        device: torch.device,
    ) -> None:
        self._dataset = dataset
        self._batch = batch
        self._sizes = sizes
        self._data_rank = data_rank
        self._cp_rank = cp_rank
        self._seed = seed
        self._device = device

    @property
    def sequences_per_step(self) -> int:
        """Sequences of one optimizer step over all data ranks."""
        return self._batch.sequences_per_step(self._sizes)

    def steps_of(self, epochs: float) -> int:
        """Optimizer steps that see the data `epochs` times: the last one begins the data again where it runs out."""
        return max(ceil(len(self._dataset) * epochs / self.sequences_per_step), 1)

    def labelled_tokens(self, step: int) -> int:
        """Labels of one step over all ranks: what the sum of losses is divided by."""
        first = step * self.sequences_per_step
        pieces = (self._piece(first + k) for k in range(self.sequences_per_step))
        return sum(self._dataset.labelled_tokens(piece) for piece in pieces)

    def micro_batch(self, step: int, index: int) -> MicroBatch:
        """Micro-batch `index` of a step, this rank's share of it, on its device."""
        first = step * self.sequences_per_step + index * self._batch.micro_batch * self._sizes.dp_shard
        sequences = range(
            first + self._data_rank, first + self._batch.micro_batch * self._sizes.dp_shard, self._sizes.dp_shard
        )
        pieces = [self._dataset.piece(self._piece(sequence)) for sequence in sequences]
        return MicroBatch(
            inputs=self._share(torch.stack([inputs for inputs, _ in pieces])),
            labels=self._share(torch.stack([labels for _, labels in pieces])),
        )

    def _share(self, whole_BS: Tensor) -> Tensor:
        # [B, S] -> [B, S/cp], chunks r and 2P - 1 - r
        share = zigzag.shard(whole_BS, rank=self._cp_rank, cp=self._sizes.cp, dim=1)
        return share.pin_memory().to(self._device, non_blocking=True) if self._device.type == "cuda" else share

    def _piece(self, sequence: int) -> int:
        """The piece that is sequence number `sequence` of the whole run."""
        epoch, place = divmod(sequence, len(self._dataset))
        return order(len(self._dataset), seed=self._seed, epoch=epoch)[place]


@lru_cache(maxsize=2)  # a step may straddle two epochs
def order(pieces: int, *, seed: int, epoch: int) -> tuple[int, ...]:
    """The permutation of the pieces in one epoch."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    return tuple(torch.randperm(pieces, generator=generator).tolist())
