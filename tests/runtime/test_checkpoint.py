import json
from pathlib import Path

import pytest
import torch
from gloo_pool import GlooPool
from safetensors.torch import load_file
from tiny_run import make_trainer, whole, write_folder

from runtime import checkpoint
from runtime.errors import DiskFullError, TrainerError


def save(rank: int, world: int, path: Path, limit: int | None) -> tuple[int, dict[str, torch.Tensor]]:
    if limit is not None:
        checkpoint.MAX_FILE_BYTES = limit
    trainer = make_trainer(path)
    beside = {"config.json": trainer.config.model_dir / "config.json"}
    folder = trainer.config.output_dir
    size = checkpoint.save(trainer.model, folder, dtype=torch.float32, beside=beside, writes=rank == 0)
    return size, {name: whole(value) for name, value in trainer.model.named_parameters()}


def test_the_file_holds_every_parameter_and_lies_beside_its_config(gloo_pool: GlooPool, tmp_path: Path) -> None:
    path = write_folder(tmp_path, dp_shard_size=2, context_parallel_size=2)
    size, expected = gloo_pool.run(4, save, path, None)[0]
    found = load_file(tmp_path / "out" / "model.safetensors")
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value), name
    assert size == 4 * sum(value.numel() for value in expected.values())
    assert json.loads((tmp_path / "out" / "config.json").read_text())["model_type"] == "llama"
    assert not list((tmp_path / "out").glob("*.partial"))


def test_a_large_model_is_spread_over_files_with_an_index(gloo_pool: GlooPool, tmp_path: Path) -> None:
    path = write_folder(tmp_path, context_parallel_size=2)
    _, expected = gloo_pool.run(2, save, path, 60_000)[0]
    gloo_pool.close()  # the limit lives in the processes
    index = json.loads((tmp_path / "out" / "model.safetensors.index.json").read_text())
    assert index["weight_map"].keys() == expected.keys()
    assert len(set(index["weight_map"].values())) > 1
    for name, file in index["weight_map"].items():
        assert torch.equal(load_file(tmp_path / "out" / file)[name], expected[name]), name


def test_a_trained_model_loads_into_the_next_run_of_another_layout(gloo_pool: GlooPool, tmp_path: Path) -> None:
    _, expected = gloo_pool.run(1, save, write_folder(tmp_path), None)[0]
    own = {"tokenizer": "bytes"}
    path = write_folder(tmp_path, base_model="out", output_dir="again", seed=99, context_parallel_size=2, cpadvisor=own)
    for _, found in gloo_pool.run(2, save, path, None):
        for name, value in expected.items():
            assert torch.equal(found[name], value), name


def test_files_are_filled_in_order_up_to_the_limit() -> None:
    shapes = {"a": (3,), "b": (2,), "c": (10,), "d": (1,)}
    # float32: 12, 8, 40, 4 bytes at a limit of 20
    assert checkpoint.plan_files(shapes, torch.float32, 20) == {
        "model-00001-of-00003.safetensors": {"a": (3,), "b": (2,)},
        "model-00002-of-00003.safetensors": {"c": (10,)},
        "model-00003-of-00003.safetensors": {"d": (1,)},
    }
    assert list(checkpoint.plan_files(shapes, torch.bfloat16, 1000)) == ["model.safetensors"]


def test_a_folder_that_cannot_be_written_leaves_the_old_model(tmp_path: Path) -> None:
    old = tmp_path / "model.safetensors"
    old.write_bytes(b"old")
    (tmp_path / "model.safetensors.partial").mkdir()
    with pytest.raises(TrainerError, match=r"cannot write the model to .*: Is a directory") as caught:
        checkpoint.save(torch.nn.Linear(2, 2), tmp_path, dtype=torch.float32, beside={}, writes=True)
    assert caught.value.kind == "exception"
    assert old.read_bytes() == b"old"


def test_a_full_disk_is_told_in_words_and_keeps_the_old_model(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_text("old")
    (tmp_path / "model.safetensors.partial").symlink_to("/dev/full")
    with pytest.raises(
        DiskFullError,
        match=r"cannot write the model to .* \([\d,]+ bytes are free there\): No space left on device; free some space",
    ) as caught:
        checkpoint.save(torch.nn.Linear(2, 2), tmp_path, dtype=torch.float32, beside={}, writes=True)
    assert caught.value.kind == "disk_full"
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]
    assert (tmp_path / "model.safetensors").read_text() == "old"


def test_files_beside_the_model_get_the_names_that_others_look_for(tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text("{}")
    beside = {"tokenizer.json": tmp_path / "mine.json"}
    checkpoint.save(torch.nn.Linear(2, 2), tmp_path / "out", dtype=torch.float32, beside=beside, writes=True)
    assert (tmp_path / "out" / "tokenizer.json").read_text() == "{}"
