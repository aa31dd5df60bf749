import json
from pathlib import Path

import pytest
import torch
from gloo_pool import GlooPool
from safetensors.torch import save_file
from tiny_run import make_trainer, whole, write_folder
from torch import nn

from runtime import weights
from runtime.errors import ConfigError


def test_rows_drawn_alone_are_those_of_the_whole() -> None:
    source = weights.RandomSource(seed=3, std=0.02)
    shape = torch.Size((3000, 800))  # three blocks of 2^20
    everything = source.rows("w", shape, 0, 3000)
    torch.testing.assert_close(source.rows("w", shape, 1300, 1311), everything[1300:1311], rtol=0, atol=0)
    torch.testing.assert_close(source.rows("w", shape, 2999, 3000), everything[2999:], rtol=0, atol=0)
    assert everything.std().item() == pytest.approx(0.02, rel=0.01)
    assert everything.mean().abs().item() < 1e-4


def test_every_parameter_seed_and_block_has_numbers_of_its_own() -> None:
    shape = torch.Size((4, 8))
    drawn = [
        weights.RandomSource(seed=seed, std=1.0).rows(name, shape, 0, 4)
        for seed, name in ((1, "a"), (1, "b"), (2, "a"))
    ]
    assert not torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    assert weights.block_seed(1, "a", 0) != weights.block_seed(1, "a", 1)


def test_norms_begin_with_one_and_biases_with_zero() -> None:
    source = weights.RandomSource(seed=1, std=1.0)
    assert source.rows("norm.weight", torch.Size((3,)), 0, 3).tolist() == [1, 1, 1]
    assert source.rows("q_proj.bias", torch.Size((3,)), 1, 3).tolist() == [0, 0]


def first_weights(rank: int, world: int, path: Path) -> dict[str, torch.Tensor]:
    return {name: whole(value) for name, value in make_trainer(path).model.named_parameters()}


def test_weights_follow_from_the_seed_and_not_from_the_layout(gloo_pool: GlooPool, tmp_path: Path) -> None:
    # 34 rows do not divide by 4: the last rank holds fewer.
    shape = {"intermediate_size": 34}
    alone = gloo_pool.run(1, first_weights, write_folder(tmp_path, shape=shape))[0]
    spread = gloo_pool.run(4, first_weights, write_folder(tmp_path, shape=shape, context_parallel_size=2))[0]
    other = gloo_pool.run(1, first_weights, write_folder(tmp_path, shape=shape, seed=8))[0]
    for name, value in alone.items():
        assert torch.equal(value, spread[name]), name
        if value.ndim > 1:
            assert not torch.equal(value, other[name]), name


def two_layers() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2))


def saved(folder: Path) -> dict[str, torch.Tensor]:
    return {name: torch.randn_like(value) for name, value in two_layers().named_parameters()}


def test_weights_come_from_one_file_or_from_several_with_an_index(tmp_path: Path) -> None:
    tensors = saved(tmp_path)
    (tmp_path / "one").mkdir()
    save_file(tensors, tmp_path / "one" / "model.safetensors")
    (tmp_path / "two").mkdir()
    names = {name: f"part-{index % 2}.safetensors" for index, name in enumerate(tensors)}
    for part in set(names.values()):
        save_file({name: tensors[name] for name in names if names[name] == part}, tmp_path / "two" / part)
    (tmp_path / "two" / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    for folder in ("one", "two"):
        model = two_layers()
        weights.fill(model, weights.FileSource(tmp_path / folder), rank=0, world=1)
        for name, value in model.named_parameters():
            assert torch.equal(value, tensors[name]), name


def test_weights_that_do_not_belong_to_the_shape_are_refused(tmp_path: Path) -> None:
    tensors = saved(tmp_path)
    save_file({**tensors, "0.weight": torch.zeros(5, 3)}, tmp_path / "model.safetensors")
    with pytest.raises(ConfigError, match=r"0\.weight has shape \[5, 3\], config\.json asks for \[2, 3\]"):
        weights.fill(two_layers(), weights.FileSource(tmp_path), rank=0, world=1)
    del tensors["1.bias"]
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(ConfigError, match=r"has no tensor 1\.bias"):
        weights.fill(two_layers(), weights.FileSource(tmp_path), rank=0, world=1)


def test_a_broken_or_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"lacks \*\.safetensors"):
        weights.FileSource(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"no")
    with pytest.raises(ConfigError, match="is no safetensors file"):
        weights.FileSource(tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"a": "gone.safetensors"}}')
    with pytest.raises(ConfigError, match=r"lacks gone\.safetensors"):
        weights.FileSource(tmp_path)
