"""Saved by processes, loaded by fresh ones: training goes on bit for bit."""

import shutil
from pathlib import Path

import pytest
import torch
from gloo_pool import GlooPool, RankError
from real_run import of_kind
from small_disk import fill, on_small_disk
from tiny_run import make_trainer, silent, whole, write_folder
from torch import Tensor

from runtime import resume, state_folders, training_state
from runtime.errors import DiskFullError, TrainerError, VanishedError

LAYOUTS = [
    {"dp_shard_size": 1, "context_parallel_size": 2},
    {"dp_shard_size": 2, "context_parallel_size": 1},
    {"dp_shard_size": 2, "context_parallel_size": 2},
]
Outcome = tuple[list[float], dict[str, Tensor]]


def train(rank: int, world: int, path: Path, last: int, save_at: int | None, resumes: bool) -> Outcome:
    """Losses up to step `last`, and the weights then."""
    trainer = make_trainer(path)
    reporter = silent(path.parent)
    first = resume.begin(trainer, reporter, resumes=resumes) or 0
    losses: list[float] = []
    for step in range(first, last):
        losses.append(trainer.step(step, reporter).loss)
        if step + 1 == save_at:
            training_state.save(
                trainer.config.run_dir, save_at, model=trainer.model, optimizer=trainer.optimizer, keep=2, rank=rank
            )
    return losses, {name: whole(value) for name, value in trainer.model.named_parameters()}


def folder_with(tmp_path: Path, name: str, **changes: object) -> Path:
    folder = tmp_path / name
    folder.mkdir()
    (folder / "run.json").write_text("{}")
    return write_folder(folder, max_steps=6, warmup_steps=1, **changes)


def assert_equal(found: Outcome, expected: Outcome) -> None:
    assert found[0] == expected[0]
    assert found[1].keys() == expected[1].keys()
    for name, value in expected[1].items():
        assert torch.equal(found[1][name], value), name


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: "x".join(str(size) for size in layout.values()))
def test_six_steps_interrupted_after_four_equal_six_in_one_go(
    gloo_pool: GlooPool, tmp_path: Path, layout: dict[str, int]
) -> None:
    world = layout["dp_shard_size"] * layout["context_parallel_size"]
    expected = gloo_pool.run(world, train, folder_with(tmp_path, "whole", **layout), 6, None, False)
    path = folder_with(tmp_path, "broken", **layout)
    before = gloo_pool.run(world, train, path, 5, 4, False)
    assert before[0][0] == expected[0][0][:5]
    after = gloo_pool.run(world, train, path, 6, None, True)
    for rank in range(world):
        assert_equal(after[rank], (expected[rank][0][4:], expected[rank][1]))


@pytest.mark.parametrize("optimizer", ["adamw_torch", "adamw_torch_fused"])
def test_a_tied_head_and_either_optimizer_come_back_as_they_were(
    gloo_pool: GlooPool, tmp_path: Path, optimizer: str
) -> None:
    shape = {"model_type": "qwen3", "tie_word_embeddings": True}
    changes = {"shape": shape, "optimizer": optimizer, "context_parallel_size": 2}
    expected = gloo_pool.run(2, train, folder_with(tmp_path, "whole", **changes), 6, None, False)
    path = folder_with(tmp_path, "broken", **changes)
    gloo_pool.run(2, train, path, 4, 4, False)
    after = gloo_pool.run(2, train, path, 6, None, True)
    assert_equal(after[0], (expected[0][0][4:], expected[0][1]))


def test_one_process_alone_goes_on_too(gloo_pool: GlooPool, tmp_path: Path) -> None:
    expected = gloo_pool.run(1, train, folder_with(tmp_path, "whole"), 6, None, False)
    path = folder_with(tmp_path, "broken")
    gloo_pool.run(1, train, path, 4, 4, False)
    after = gloo_pool.run(1, train, path, 6, None, True)
    assert_equal(after[0], (expected[0][0][4:], expected[0][1]))


def test_a_state_of_one_layout_loads_into_another(gloo_pool: GlooPool, tmp_path: Path) -> None:
    split = folder_with(tmp_path, "split", context_parallel_size=2, dp_shard_size=1)
    expected = gloo_pool.run(2, train, split, 4, 4, False)[0]
    shutil.copytree(split.parent / "checkpoints", tmp_path / "other" / "checkpoints")
    (tmp_path / "other" / "run.json").write_text("{}")
    other = write_folder(tmp_path / "other", max_steps=6, dp_shard_size=2, context_parallel_size=2)
    for losses, weights in gloo_pool.run(4, train, other, 4, None, True):
        assert losses == []
        for name, value in expected[1].items():
            assert torch.equal(weights[name], value), name


def test_a_fresh_run_loads_nothing_and_sets_what_is_there_aside(gloo_pool: GlooPool, tmp_path: Path) -> None:
    path = folder_with(tmp_path, "run", context_parallel_size=2)
    first = gloo_pool.run(2, train, path, 4, 4, False)
    again = gloo_pool.run(2, train, path, 4, None, False)
    assert_equal(again[0], first[0])
    assert state_folders.newest_whole(path.parent) == (None, ())
    assert (path.parent / "checkpoints.1" / "step-4" / ".metadata").is_file()


def test_a_torn_state_is_passed_over_for_the_one_before_it(gloo_pool: GlooPool, tmp_path: Path) -> None:
    path = folder_with(tmp_path, "run", context_parallel_size=2)
    expected = gloo_pool.run(2, train, path, 4, 2, False)
    gloo_pool.run(2, train, path, 4, 4, True)
    (path.parent / "checkpoints" / "step-4" / "__1_0.distcp").unlink()
    step, (passed_over,) = state_folders.newest_whole(path.parent)
    assert (step, passed_over.endswith("step-4 is not whole: __1_0.distcp is missing")) == (2, True)
    after = gloo_pool.run(2, train, path, 4, None, True)
    assert_equal(after[0], (expected[0][0][2:], expected[0][1]))
    (warning,) = of_kind(path.parent / "events-0", "warning")
    assert (warning["rule"], warning["message"]) == ("torn_checkpoint", passed_over)


def saved_names(rank: int, world: int, path: Path) -> list[str]:
    trainer = make_trainer(path)
    reporter = silent(path.parent)
    for step in range(4):
        trainer.step(step, reporter)
        training_state.save(
            trainer.config.run_dir, step + 1, model=trainer.model, optimizer=trainer.optimizer, keep=2, rank=rank
        )
    torch.distributed.barrier()
    return sorted(entry.name for entry in (path.parent / "checkpoints").iterdir())


def test_the_last_two_are_kept(gloo_pool: GlooPool, tmp_path: Path) -> None:
    path = folder_with(tmp_path, "run", context_parallel_size=2)
    assert gloo_pool.run(2, saved_names, path) == [["step-3", "step-4"]] * 2


def save_twice(rank: int, world: int, path: Path) -> tuple[str, list[str]]:
    """What is said where a state finds no space, and what is left then; the second time there is space."""
    trainer = make_trainer(path)
    trainer.step(0, silent(path.parent.parent))

    def save() -> None:
        training_state.save(
            trainer.config.run_dir, 1, model=trainer.model, optimizer=trainer.optimizer, keep=2, rank=rank
        )

    with pytest.raises(DiskFullError) as caught:
        save()
    torch.distributed.barrier()
    left = [entry.name for entry in (path.parent / "checkpoints").iterdir()]
    torch.distributed.barrier()
    (path.parent / "filler").unlink(missing_ok=True)
    torch.distributed.barrier()
    save()
    return str(caught.value), left


def test_a_state_without_space_is_told_by_every_rank_and_leaves_no_part_of_itself(
    gloo_pool: GlooPool, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    def save_on_a_full_disk(disk: Path) -> None:
        run_dir = disk / "run"
        run_dir.mkdir()
        (run_dir / "run.json").write_text("{}")
        path = write_folder(run_dir, context_parallel_size=2)
        fill(run_dir, leave_kib=200)
        for said, left in gloo_pool.run(2, save_twice, path):
            assert f"cannot write {run_dir}/checkpoints/step-1.partial: No space left on device (" in said
            assert left == []
        assert [entry.name for entry in (run_dir / "checkpoints").iterdir()] == ["step-1"]
        assert state_folders.newest_whole(run_dir) == (1, ())

    # Weights and moments take 3 x 4 x 49,312 bytes and as much again in headers.
    on_small_disk(request, tmp_path / "disk", 2048, save_on_a_full_disk)


def save_a_large_tensor(rank: int, world: int, run_dir: Path) -> str:
    state_folders.begin(run_dir, 1)
    with pytest.raises(DiskFullError) as caught:
        training_state._write(run_dir, 1, {"model.weight": torch.ones(2**18)}, rank)
    return str(caught.value)


def test_a_tensor_that_torch_fails_to_write_in_its_middle_is_told_as_a_full_disk_too(
    gloo_pool: GlooPool, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    def save_on_a_small_disk(disk: Path) -> None:
        (said,) = gloo_pool.run(1, save_a_large_tensor, disk)
        assert f"cannot write {disk}/checkpoints/step-1.partial: No space left on device (" in said

    # One tensor of 1 MiB, which torch's zip writer sends in one piece.
    on_small_disk(request, tmp_path / "disk", 512, save_on_a_small_disk)


def save_into_a_gone_directory(rank: int, world: int, path: Path) -> str:
    trainer = make_trainer(path)
    trainer.step(0, silent(path.parent))
    gone = path.parent / "gone"
    try:
        if rank == 0:
            gone.mkdir()
            state_folders.begin(gone, 1)
        torch.distributed.barrier()
        if rank == 0:
            shutil.rmtree(gone)
        torch.distributed.barrier()
        state = training_state.tensors(trainer.model, trainer.optimizer)
        training_state._write(gone, 1, state, rank)
    except VanishedError as error:
        return str(error)
    return "written"


def test_a_directory_that_vanishes_under_a_state_is_not_made_again(gloo_pool: GlooPool, tmp_path: Path) -> None:
    path = folder_with(tmp_path, "run", context_parallel_size=2)
    for said in gloo_pool.run(2, save_into_a_gone_directory, path):
        assert said.startswith(f"the run directory {path.parent / 'gone'} is gone")
    assert not (path.parent / "gone").exists()


def test_a_state_of_another_model_is_refused_in_words(gloo_pool: GlooPool, tmp_path: Path) -> None:
    path = folder_with(tmp_path, "run", context_parallel_size=2)
    gloo_pool.run(2, train, path, 4, 4, False)
    write_folder(path.parent, shape={"hidden_size": 64, "num_attention_heads": 8}, context_parallel_size=2)
    with pytest.raises(RankError) as caught:
        gloo_pool.run(2, train, path, 6, None, True)
    assert f"{TrainerError.__name__}: cannot load {path.parent / 'checkpoints' / 'step-4'} on rank " in str(
        caught.value
    )
    assert "remove it to go on from the state before it" in str(caught.value)
