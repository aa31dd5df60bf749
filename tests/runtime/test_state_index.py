import os
import pickle
from pathlib import Path

import pytest
import torch
from torch.distributed import checkpoint as dcp

from runtime import state_index


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A whole state of two tensors, 400 and 4 bytes of content."""
    state = {"model.weight": torch.ones(10, 10), "optimizer.weight.step": torch.tensor(3.0)}
    dcp.save(state, storage_writer=dcp.FileSystemWriter(tmp_path / "step-1"), no_dist=True)
    return tmp_path / "step-1"


pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed is disabled")


def test_the_index_names_tensors_files_and_places(folder: Path) -> None:
    index = state_index.read(folder)
    assert set(index.state_dict_metadata) == {"model.weight", "optimizer.weight.step"}
    assert {place.relative_path for place in index.storage_data.values()} == {"__0_0.distcp"}
    assert state_index.defect(folder) is None


def test_a_state_is_torn_where_its_index_a_file_or_the_end_of_one_is_missing(folder: Path) -> None:
    data = folder / "__0_0.distcp"
    size = data.stat().st_size
    os.truncate(data, size - 1)
    assert state_index.defect(folder) == f"__0_0.distcp has {size - 1} of its {size} bytes"
    data.unlink()
    assert state_index.defect(folder) == "__0_0.distcp is missing"
    index = folder / ".metadata"
    index.write_bytes(index.read_bytes()[:100])
    assert str(state_index.defect(folder)).startswith("its index cannot be read: ")
    index.unlink()
    assert state_index.defect(folder) == "it has no index"
    assert state_index.defect(folder / "nowhere") == "it has no index"


@pytest.mark.parametrize("content", [b"", b"\x80", b"no pickle", pickle.dumps({"a": 1}), pickle.dumps(None)])
def test_what_is_no_index_is_told_in_words(folder: Path, content: bytes) -> None:
    (folder / ".metadata").write_bytes(content)
    assert str(state_index.defect(folder)).startswith("its index cannot be read: ")


class Program:
    """Pickles as a call."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return Path.write_text, (self._path, "run")  # pyright: ignore[reportReturnType]


def test_an_index_that_is_a_program_is_refused_and_not_run(folder: Path) -> None:
    mark = folder / "mark"
    (folder / ".metadata").write_bytes(pickle.dumps(Program(mark)))
    defect = str(state_index.defect(folder))
    assert "which is no part of an index" in defect
    with pytest.raises(pickle.UnpicklingError):
        state_index.SafeReader(folder).read_metadata()
    assert not mark.exists()
