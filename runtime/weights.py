"""Initial weights, shard by shard: drawn from the seed, or read from *.safetensors.

A random weight is a function of (seed, parameter name, place in the parameter)
and never of the layout: each block of 2^20 elements has a generator of its own,
so a rank draws only the blocks that its rows lie in.
"""

import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from runtime.errors import ConfigError

BLOCK = 2**20
"""Elements drawn by one generator: 8 ms of work."""


class Source(Protocol):
    """Where weights come from."""

    def rows(self, name: str, shape: torch.Size, start: int, stop: int) -> Tensor:
        """Rows start to stop of a parameter, on the CPU."""
        ...


class RandomSource:
    """Normal with a standard deviation for matrices, one for norms, zero for biases."""

    def __init__(self, *, seed: int, std: float) -> None:
        self._seed = seed
        self._std = std

    def rows(self, name: str, shape: torch.Size, start: int, stop: int) -> Tensor:
        """Rows of a parameter as the seed has them, float32."""
        row = shape[1:].numel()
        size = torch.Size((stop - start, *shape[1:]))
        if len(shape) == 1:
            return torch.zeros(size) if name.endswith(".bias") else torch.ones(size)
        return self._normal(name, shape.numel(), start * row, stop * row).view(size)

    def _normal(self, name: str, total: int, start: int, stop: int) -> Tensor:
        flat = torch.empty(stop - start)

        def draw(block: int) -> None:
            first, last = block * BLOCK, min((block + 1) * BLOCK, total)
            generator = torch.Generator().manual_seed(block_seed(self._seed, name, block))
            values = torch.empty(last - first).normal_(0.0, self._std, generator=generator)
            low, high = max(first, start), min(last, stop)
            flat[low - start : high - start] = values[low - first : high - first]

        with ThreadPoolExecutor(max_workers=_threads()) as pool:
            list(pool.map(draw, range(start // BLOCK, -(-stop // BLOCK))))
        return flat


def block_seed(seed: int, name: str, block: int) -> int:
    """63 bits that differ for every seed, parameter and block."""
    digest = hashlib.sha256(f"{seed}/{name}/{block}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def _threads() -> int:
    local_world = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return max((os.cpu_count() or 1) // local_world, 1)


class FileSource:
    """A folder of *.safetensors, with or without an index."""

    def __init__(self, folder: Path) -> None:
        from safetensors import safe_open

        self._folder = folder
        self._stack = ExitStack()
        self._files: dict[str, Any] = {}
        for path in _files(folder):
            try:
                file = self._stack.enter_context(safe_open(path, framework="pt"))
            except Exception as error:  # the library raises an exception of its own for a broken file
                raise ConfigError(str(path), [f"is no safetensors file: {error}"]) from None
            self._files.update(dict.fromkeys(file.keys(), file))

    def rows(self, name: str, shape: torch.Size, start: int, stop: int) -> Tensor:
        """Rows of a parameter as the file has them, in the file's dtype."""
        if name not in self._files:
            raise ConfigError(str(self._folder), [f"has no tensor {name}; the weights do not belong to config.json"])
        stored = self._files[name].get_slice(name)
        if tuple(stored.get_shape()) != tuple(shape):
            raise ConfigError(
                str(self._folder), [f"{name} has shape {stored.get_shape()}, config.json asks for {list(shape)}"]
            )
        return stored[start:stop]


def source(folder: Path | None, *, seed: int, std: float) -> Source:
    """The weights of a folder, or random ones for None."""
    return RandomSource(seed=seed, std=std) if folder is None else FileSource(folder)


def _files(folder: Path) -> list[Path]:
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        names = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
        paths = [folder / name for name in sorted(set(names))]
    else:
        paths = sorted(folder.glob("*.safetensors"))
    missing = [path.name for path in paths if not path.is_file()]
    if missing or not paths:
        raise ConfigError(str(folder), [f"lacks {', '.join(missing) or '*.safetensors'}"])
    return paths


def local(tensor: Tensor) -> Tensor:
    """This rank's part of a tensor; the tensor itself where it is not sharded."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def local_rows(parameter: Tensor, rank: int, world: int) -> tuple[int, int]:
    """The rows of a parameter on this rank: FSDP2 gives ceil(rows / world) to each until none is left."""
    if not isinstance(parameter, DTensor):
        return 0, parameter.shape[0]
    each = -(-parameter.shape[0] // world)
    return min(rank * each, parameter.shape[0]), min((rank + 1) * each, parameter.shape[0])


@torch.no_grad()
def fill(model: nn.Module, source: Source, *, rank: int, world: int) -> None:
    """Put this rank's shard of every parameter in place, one parameter at a time."""
    for name, parameter in model.named_parameters():
        start, stop = local_rows(parameter, rank, world)
        shard = local(parameter)
        assert shard.shape[0] == stop - start, f"{name}: {shard.shape[0]} rows here, rank {rank} has {start} to {stop}"
        if stop > start:
            shard.copy_(source.rows(name, parameter.shape, start, stop))
