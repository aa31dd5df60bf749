import json
from pathlib import Path

import pytest
import torch
from gloo_pool import GlooPool
from tiny_run import make_trainer, silent, whole, write_folder
from torch import Tensor

from cpadvisor import catalog
from runtime import parallel, zigzag
from runtime.loss import IGNORED
from runtime.model import Positions

LAYOUTS = [
    {"dp_shard_size": 1, "context_parallel_size": 2},
    {"dp_shard_size": 1, "context_parallel_size": 4},
    {"dp_shard_size": 2, "context_parallel_size": 1},
    {"dp_shard_size": 2, "context_parallel_size": 2},
]
TINY = catalog.config_json(catalog.find_model("tiny"))
GLOBAL_BATCH = 4
STEPS = 20

Outcome = tuple[list[float], dict[str, Tensor], dict[str, Tensor]]


def train_and_tell(rank: int, world: int, path: Path) -> Outcome:
    """Losses of all steps, gradients of the first, weights at the end."""
    trainer = make_trainer(path)
    reporter = silent(path.parent)
    trainer.accumulate(0, reporter)
    gradients = {name: whole(value.grad) for name, value in trainer.model.named_parameters() if value.grad is not None}
    trainer.optimizer.zero_grad(set_to_none=True)
    losses = [trainer.step(step, reporter).loss for step in range(trainer.steps)]
    return losses, gradients, {name: whole(value) for name, value in trainer.model.named_parameters()}


def outcome(
    pool: GlooPool, folder: Path, *, shape: dict[str, object] | None = None, **changes: object
) -> list[Outcome]:
    folder.mkdir()
    sizes = {"dp_shard_size": 1, "context_parallel_size": 1, **changes}
    dp, cp = sizes["dp_shard_size"], sizes["context_parallel_size"]
    assert isinstance(dp, int) and isinstance(cp, int)
    sizes.setdefault("gradient_accumulation_steps", GLOBAL_BATCH // dp)
    path = write_folder(folder, shape={**TINY, **(shape or {})}, max_steps=STEPS, warmup_steps=2, **sizes)
    return pool.run(dp * cp, train_and_tell, path)


@pytest.fixture(scope="module")
def one_process(gloo_pool: GlooPool, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    return outcome(gloo_pool, tmp_path_factory.mktemp("whole") / "one")[0]


def assert_same(found: Outcome, expected: Outcome) -> None:
    torch.testing.assert_close(torch.tensor(found[0]), torch.tensor(expected[0]), rtol=1e-4, atol=0.0)
    for place in (1, 2):
        assert found[place].keys() == expected[place].keys()
        for name, value in expected[place].items():
            size = value.abs().max()
            assert size > 0, f"{name} is zero everywhere"
            distance = (found[place][name] - value).abs().max() / size
            assert distance < (1e-4 if place == 1 else 1e-3), f"{name} is off by {distance:.1e} of its largest value"


def test_the_text_is_learnable_and_every_parameter_has_a_gradient(one_process: Outcome) -> None:
    losses, gradients, weights = one_process
    assert len(losses) == STEPS
    # ln 384 = 5.95 is the loss of knowing nothing; random logits add about half their variance.
    assert losses[0] == pytest.approx(5.95, abs=0.25)
    # By how much depends on the text, the library of this Python: 1.42 nats with 3.12, 1.6 with 3.11.
    assert losses[-1] < losses[0] - 1.0
    assert gradients.keys() == weights.keys()
    assert len(gradients) == 1 + 2 * 9 + 2


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: "x".join(str(size) for size in layout.values()))
def test_every_layout_has_the_losses_gradients_and_weights_of_one_process(
    gloo_pool: GlooPool, tmp_path: Path, one_process: Outcome, layout: dict[str, int]
) -> None:
    ranks = outcome(gloo_pool, tmp_path / "run", **layout)
    for rank in ranks:
        assert rank[0] == ranks[0][0], "every rank reports the same loss"
    assert_same(ranks[0], one_process)


def test_two_sequences_at_once_equal_two_after_each_other(
    gloo_pool: GlooPool, tmp_path: Path, one_process: Outcome
) -> None:
    found = outcome(
        gloo_pool, tmp_path / "run", context_parallel_size=2, micro_batch_size=2, gradient_accumulation_steps=2
    )
    assert_same(found[0], one_process)


@pytest.mark.parametrize("policy", ["attention_saved", "full"])
def test_recomputation_changes_nothing(gloo_pool: GlooPool, tmp_path: Path, one_process: Outcome, policy: str) -> None:
    own = {"random_weights": True, "tokenizer": "bytes", "recompute": {policy: 2}}
    found = outcome(gloo_pool, tmp_path / "run", context_parallel_size=2, cpadvisor=own)
    assert_same(found[0], one_process)


@pytest.mark.parametrize(
    "shape",
    [
        {"model_type": "qwen3", "tie_word_embeddings": True},
        {"model_type": "qwen2", "rope_theta": 1e6},
    ],
    ids=["qwen3 tied", "qwen2"],
)
def test_other_families_split_like_the_first(gloo_pool: GlooPool, tmp_path: Path, shape: dict[str, object]) -> None:
    one = outcome(gloo_pool, tmp_path / "one", shape=shape)[0]
    found = outcome(gloo_pool, tmp_path / "two", shape=shape, dp_shard_size=2, context_parallel_size=2)[0]
    assert_same(found, one)


def shards_after_accumulation(rank: int, world: int, path: Path) -> tuple[int, int]:
    trainer = make_trainer(path)
    trainer.accumulate(0, silent(path.parent))
    held = sum(gradient.numel() for gradient in parallel.local_gradients(trainer.model))
    return held, trainer.model.parameter_count()


def test_gradients_stay_sharded_under_accumulation(gloo_pool: GlooPool, tmp_path: Path) -> None:
    path = write_folder(tmp_path, dp_shard_size=2, context_parallel_size=2, gradient_accumulation_steps=2)
    for held, parameters in gloo_pool.run(4, shards_after_accumulation, path):
        assert held == parameters // 4


def loss_by_hand(rank: int, world: int, path: Path) -> tuple[float, float, int]:
    """This rank's part of the loss of the first step; its plain sum of token losses, and how many they are."""
    trainer = make_trainer(path)
    part = trainer.accumulate(0, silent(path.parent)).item()
    total, count = 0.0, 0
    for index in range(trainer.config.batch.accumulation):
        batch = trainer.loader.micro_batch(0, index)
        tokens = zigzag.positions(trainer.mesh.cp_rank, trainer.config.sizes.cp, trainer.config.batch.sequence_len)
        total += trainer.model(batch.inputs, Positions(tokens=tokens), batch.labels, 1.0).item()
        count += int((batch.labels != IGNORED).sum())
    return part, total, count


def test_the_loss_is_the_mean_over_labels_where_ranks_hold_different_amounts_of_padding(
    gloo_pool: GlooPool, tmp_path: Path
) -> None:
    rows = [json.dumps({"text": "word " * words}) for words in (2, 23, 5, 40, 11, 3)]
    (tmp_path / "rows.jsonl").write_text("\n".join(rows))
    data = [{"path": "rows.jsonl", "type": "completion"}]
    path = write_folder(
        tmp_path, datasets=data, dp_shard_size=2, context_parallel_size=2, gradient_accumulation_steps=2
    )
    parts, totals, counts = zip(*gloo_pool.run(4, loss_by_hand, path), strict=True)
    assert len(set(counts)) > 1
    assert sum(counts) < 4 * 128 / 2, "most positions are padding"
    assert sum(parts) == pytest.approx(sum(totals) / sum(counts), rel=1e-5)
