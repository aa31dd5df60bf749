"""The index of a training state: which tensors lie in which file, read without running what stands in it.

torch.distributed.checkpoint pickles its index, and a pickle may name any function
to be called. Here the names are those of an index, and none else: a run directory
that somebody else gave away is data, not a program.
"""

import pickle
from pathlib import Path
from typing import Any, BinaryIO

from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import Metadata, StorageMeta

INDEX = ".metadata"
"""torch writes it last, when every rank is done."""

_CHECKPOINT = "torch.distributed.checkpoint"
_NAMES = frozenset(
    {
        (f"{_CHECKPOINT}.metadata", "Metadata"),
        (f"{_CHECKPOINT}.metadata", "MetadataIndex"),
        (f"{_CHECKPOINT}.metadata", "StorageMeta"),
        (f"{_CHECKPOINT}.metadata", "TensorStorageMetadata"),
        (f"{_CHECKPOINT}.metadata", "ChunkStorageMetadata"),
        (f"{_CHECKPOINT}.metadata", "TensorProperties"),
        (f"{_CHECKPOINT}.metadata", "_MEM_FORMAT_ENCODING"),
        (f"{_CHECKPOINT}.filesystem", "_StorageInfo"),
        ("torch", "Size"),
        ("torch", "float32"),
        ("torch", "bfloat16"),
        ("torch", "int64"),
        ("torch.serialization", "_get_layout"),
        ("pathlib", "PosixPath"),
        ("pathlib._local", "PosixPath"),
    }
)


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _NAMES:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is no part of an index")
        return super().find_class(module, name)


def read(folder: Path) -> Metadata:
    """The index of one state. Raises OSError or pickle.UnpicklingError where it is none."""
    with (folder / INDEX).open("rb") as file:
        return _load(file)


def _load(file: BinaryIO) -> Metadata:
    try:
        index = _Unpickler(file).load()
    except (EOFError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise pickle.UnpicklingError(f"it is torn: {error}") from None
    if not isinstance(index, Metadata) or not isinstance(index.storage_data, dict):
        raise pickle.UnpicklingError("it holds something else than an index")
    return index


def defect(folder: Path) -> str | None:
    """Why the state in a folder is not whole; None where it is."""
    try:
        index = read(folder)
    except FileNotFoundError:
        return "it has no index"
    except (OSError, pickle.UnpicklingError) as error:
        return f"its index cannot be read: {error}"
    ends: dict[str, int] = {}
    for place in index.storage_data.values():
        ends[place.relative_path] = max(ends.get(place.relative_path, 0), place.offset + place.length)
    for name, end in sorted(ends.items()):
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size < end:
            return f"{name} has {path.stat().st_size} of its {end} bytes"
    return None


class SafeReader(FileSystemReader):
    """torch's reader, with the index read as above; the tensors it reads with weights_only itself."""

    def read_metadata(self, *_args: Any, **_kwargs: Any) -> Metadata:
        """The index, marked with this reading as torch does it."""
        index = read(Path(self.path))
        index.storage_meta = index.storage_meta or StorageMeta()
        index.storage_meta.load_id = self.load_id
        return index
