import pytest
import torch

from runtime import data, zigzag
from runtime.data import Dataset, Loader
from runtime.errors import ConfigError
from runtime.loss import IGNORED
from runtime.settings import Batch, Sizes
from runtime.tokenizer import BytesTokenizer


def dataset(*documents: str, sequence_len: int = 8, vocab_size: int = 384) -> Dataset:
    return data.build(documents, BytesTokenizer(), sequence_len=sequence_len, vocab_size=vocab_size, name="test")


def loader(
    source: Dataset,
    *,
    dp_shard: int = 1,
    cp: int = 1,
    data_rank: int = 0,
    cp_rank: int = 0,
    micro_batch: int = 1,
    accumulation: int = 1,
    seed: int = 5,
) -> Loader:
    return Loader(
        source,
        batch=Batch(sequence_len=source.sequence_len, micro_batch=micro_batch, accumulation=accumulation),
        sizes=Sizes(dp_shard=dp_shard, cp=cp, rank_order=None),
        data_rank=data_rank,
        cp_rank=cp_rank,
        seed=seed,
        device=torch.device("cpu"),
    )


def test_a_document_is_cut_and_its_last_piece_padded() -> None:
    # 256, ten letters, 257: pieces of 8 and 4.
    pieces = dataset("abcdefghij")
    assert len(pieces) == 2
    inputs, labels = pieces.piece(0)
    assert inputs.tolist() == [256, 97, 98, 99, 100, 101, 102, 103]
    assert labels.tolist() == [97, 98, 99, 100, 101, 102, 103, 104], "the label crosses the cut"
    inputs, labels = pieces.piece(1)
    assert inputs.tolist() == [104, 105, 106, 257, 258, 258, 258, 258]
    assert labels.tolist() == [105, 106, 257, *[IGNORED] * 5]
    assert [pieces.labelled_tokens(index) for index in (0, 1)] == [8, 3]
    assert pieces.padded_share() == pytest.approx(4 / 16)


def test_documents_never_share_a_piece() -> None:
    pieces = dataset("abcdef", "xy")
    assert len(pieces) == 2
    inputs, labels = pieces.piece(1)
    assert inputs.tolist() == [256, 120, 121, 257, 258, 258, 258, 258]
    assert labels.tolist() == [120, 121, 257, *[IGNORED] * 5]


def test_a_piece_of_one_token_would_have_no_label_and_is_left_out() -> None:
    # 9 tokens: after the first piece only the end mark is left.
    pieces = dataset("abcdefg")
    assert len(pieces) == 1
    assert pieces.labelled_tokens(0) == 8


def test_counted_labels_are_those_in_the_batches() -> None:
    source = dataset("abcdefghij", "xyz" * 9, "k")
    for step in range(4):
        counted = loader(source, micro_batch=2, accumulation=2).labelled_tokens(step)
        batches = [loader(source, micro_batch=2, accumulation=2).micro_batch(step, index) for index in (0, 1)]
        assert counted == sum(int((batch.labels != IGNORED).sum()) for batch in batches)


def rows(source: Dataset, step: int, **layout: int) -> list[list[int]]:
    """The sequences of a step over all ranks, put together from their shares."""
    dp_shard, cp = layout.get("dp_shard", 1), layout.get("cp", 1)
    found: list[list[int]] = []
    for data_rank in range(dp_shard):
        shares = [loader(source, **layout, data_rank=data_rank, cp_rank=cp_rank) for cp_rank in range(cp)]
        for index in range(layout.get("accumulation", 1)):
            parts = [share.micro_batch(step, index).inputs for share in shares]
            found += zigzag.unshard(parts, dim=1).tolist()
    return sorted(found)


@pytest.mark.parametrize(
    "layout",
    [
        {"dp_shard": 2, "accumulation": 2},
        {"dp_shard": 4},
        {"cp": 4, "accumulation": 4},
        {"dp_shard": 2, "cp": 2, "micro_batch": 2},
    ],
)
def test_every_layout_sees_the_same_sequences_in_a_step(layout: dict[str, int]) -> None:
    source = dataset("".join(chr(33 + index % 90) for index in range(200)))
    for step in range(9):
        assert rows(source, step, **layout) == rows(source, step, accumulation=4)


def test_the_order_follows_from_the_seed_and_changes_with_the_epoch() -> None:
    assert data.order(50, seed=1, epoch=0) == data.order(50, seed=1, epoch=0)
    assert data.order(50, seed=1, epoch=0) != data.order(50, seed=2, epoch=0)
    assert data.order(50, seed=1, epoch=0) != data.order(50, seed=1, epoch=1)
    assert sorted(data.order(50, seed=1, epoch=3)) == list(range(50))


def test_an_epoch_shows_every_piece_once_and_then_begins_again() -> None:
    source = dataset("abcdefghijklmnopqrstuvwxyz" * 2)
    alone = loader(source)
    assert len(source) == 7
    for epoch in (0, 1):
        seen = [tuple(alone.micro_batch(epoch * 7 + step, 0).inputs[0].tolist()) for step in range(7)]
        assert len(set(seen)) == 7


def test_the_steps_of_an_epoch_cover_the_data() -> None:
    source = dataset("abcdefghijklmnopqrstuvwxyz" * 2)
    assert loader(source, micro_batch=2).steps_of(1.0) == 4
    assert loader(source, micro_batch=2).steps_of(2.0) == 7
    assert loader(source).steps_of(0.0) == 1


def test_a_dataset_without_text_is_empty() -> None:
    with pytest.raises(ConfigError, match="the dataset is empty"):
        dataset()


def test_a_sequence_longer_than_the_data_names_both_numbers() -> None:
    with pytest.raises(ConfigError, match="the dataset has 6 tokens, fewer than sequence_len 8"):
        dataset("abcd")


def test_ids_beyond_the_vocabulary_name_both_numbers() -> None:
    with pytest.raises(ConfigError, match=r"tokenizer bytes gives id 257, but the model's vocab_size is 256"):
        dataset("abcdefgh", vocab_size=256)
