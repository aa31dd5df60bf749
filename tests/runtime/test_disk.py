import errno
import os
from pathlib import Path

import pytest

from runtime import disk
from runtime.errors import DiskFullError


def error(code: int) -> OSError:
    return OSError(code, os.strerror(code))


def test_no_space_and_no_quota_are_full_and_nothing_else() -> None:
    assert disk.is_full(error(errno.ENOSPC))
    assert disk.is_full(error(errno.EDQUOT))
    assert not disk.is_full(error(errno.EIO))
    assert not disk.is_full(ValueError("No space left on device"))


def test_the_failure_names_the_path_the_reason_and_the_free_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk, "free_bytes", lambda _: 4096)
    failure = disk.failure(error(errno.ENOSPC), tmp_path / "x")
    assert isinstance(failure, DiskFullError)
    assert failure.kind == "disk_full"
    assert str(failure) == (
        f"the disk is full: cannot write {tmp_path}/x: No space left on device (4,096 bytes are free there); "
        "free some space, then resume the run"
    )
    other = disk.failure(error(errno.EACCES), tmp_path / "x")
    assert (type(other).__name__, str(other)) == ("TrainerError", f"cannot write {tmp_path}/x: Permission denied")


def test_free_bytes_are_those_of_the_file_system_also_for_what_does_not_exist_yet(tmp_path: Path) -> None:
    free = disk.free_bytes(tmp_path / "not" / "yet")
    assert free is not None
    state = os.statvfs(tmp_path)
    assert 0 <= free <= state.f_blocks * state.f_frsize


def test_the_ballast_may_be_dropped_by_every_rank(tmp_path: Path) -> None:
    (tmp_path / "ballast").write_bytes(b"x")
    disk.drop_ballast(tmp_path)
    disk.drop_ballast(tmp_path)
    assert list(tmp_path.iterdir()) == []
