"""The trained model as safetensors with config.json, loadable where the names are Hugging Face's.

Parameters are gathered one at a time and rank 0 streams them into the file, so
no process holds more than one whole tensor. Files are written beside their
place and renamed when they are complete; the index comes last.
"""

import ctypes
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from runtime import disk
from runtime.errors import DiskFullError, TrainerError

MAX_FILE_BYTES = 5 * 10**9
"""Above this the model is spread over files, as Hugging Face does."""

_NAMES = {torch.float32: "F32", torch.bfloat16: "BF16"}


def save(model: nn.Module, folder: Path, *, dtype: torch.dtype, beside: Mapping[str, Path], writes: bool) -> int:
    """Write the model; the bytes of its tensors. Every rank calls it, the one with `writes` writes.

    `beside` are small files that belong to the model, by the names they get: config.json, tokenizer.json. Raises
    TrainerError where the folder cannot be written.
    """
    files = plan_files({name: tuple(value.shape) for name, value in model.named_parameters()}, dtype, MAX_FILE_BYTES)
    gathered = _gather(model, dtype)
    if not writes:
        for _ in gathered:
            pass
    else:
        try:
            _write(folder, files, dtype, beside, gathered)
        except OSError as error:
            raise _failure(error, folder) from error
    return sum(_size(shape, dtype) for shapes in files.values() for shape in shapes.values())


def _failure(error: OSError, folder: Path) -> TrainerError:
    free = disk.free_bytes(folder) if disk.is_full(error) else None
    left = "" if free is None else f" ({free:,} bytes are free there)"
    message = (
        f"cannot write the model to {folder}{left}: {error.strerror or error}; "
        "free some space there, or name another output_dir"
    )
    return DiskFullError(message) if disk.is_full(error) else TrainerError(message)


def _write(
    folder: Path,
    files: Mapping[str, Mapping[str, tuple[int, ...]]],
    dtype: torch.dtype,
    beside: Mapping[str, Path],
    tensors: Iterator[Tensor],
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, path in beside.items():
        if path.resolve() != (folder / name).resolve():
            shutil.copyfile(path, folder / name)
    for name, shapes in files.items():
        _write_file(folder / name, shapes, dtype, tensors)
    _write_index(folder, files, dtype)


def plan_files(
    shapes: Mapping[str, tuple[int, ...]], dtype: torch.dtype, limit: int
) -> dict[str, dict[str, tuple[int, ...]]]:
    """File names and the tensors in each, in the model's order, each file at most `limit` bytes if tensors allow."""
    groups: list[dict[str, tuple[int, ...]]] = [{}]
    filled = 0
    for name, shape in shapes.items():
        size = _size(shape, dtype)
        if groups[-1] and filled + size > limit:
            groups.append({})
            filled = 0
        groups[-1][name] = shape
        filled += size
    if len(groups) == 1:
        return {"model.safetensors": groups[0]}
    return {f"model-{n:05}-of-{len(groups):05}.safetensors": group for n, group in enumerate(groups, start=1)}


def _size(shape: tuple[int, ...], dtype: torch.dtype) -> int:
    return torch.Size(shape).numel() * dtype.itemsize


@torch.no_grad()
def _gather(model: nn.Module, dtype: torch.dtype) -> Iterator[Tensor]:
    for parameter in model.parameters():
        whole = parameter.full_tensor() if isinstance(parameter, DTensor) else parameter.detach()
        yield whole.to(dtype).cpu().contiguous()


def _write_file(
    path: Path, shapes: Mapping[str, tuple[int, ...]], dtype: torch.dtype, tensors: Iterator[Tensor]
) -> None:
    """Eight bytes of header length, the header in JSON, then the tensors in its order."""
    partial = path.with_name(f"{path.name}.partial")
    try:
        with partial.open("wb") as file:
            header = _header(shapes, dtype)
            file.write(len(header).to_bytes(8, "little") + header)
            for shape in shapes.values():
                tensor = next(tensors)
                assert tuple(tensor.shape) == shape, f"{path.name}: {tuple(tensor.shape)} came, {shape} was announced"
                file.write((ctypes.c_char * (tensor.numel() * tensor.itemsize)).from_address(tensor.data_ptr()))
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        partial.unlink(missing_ok=True)  # a part of a model serves nobody, and its bytes keep the disk full
        raise
    partial.replace(path)


def _header(shapes: Mapping[str, tuple[int, ...]], dtype: torch.dtype) -> bytes:
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, shape in shapes.items():
        end = offset + _size(shape, dtype)
        entries[name] = {"dtype": _NAMES[dtype], "shape": shape, "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(entries, separators=(",", ":")).encode()
    # Tensors begin at a multiple of eight; the format pads its header with blanks.
    return text + b" " * (-len(text) % 8)


def _write_index(folder: Path, files: Mapping[str, Mapping[str, tuple[int, ...]]], dtype: torch.dtype) -> None:
    path = folder / "model.safetensors.index.json"
    if len(files) == 1:
        path.unlink(missing_ok=True)  # of an earlier, larger model
        return
    index = {
        "metadata": {"total_size": sum(_size(shape, dtype) for shapes in files.values() for shape in shapes.values())},
        "weight_map": {name: file for file, shapes in files.items() for name in shapes},
    }
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(json.dumps(index, indent=2), encoding="utf-8")
    partial.replace(path)
