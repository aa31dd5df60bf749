"""A start on a disk that is full, or becomes full on the way: one clear error, and nothing left."""

from collections.abc import Callable
from pathlib import Path

import pytest
from small_disk import fill, on_small_disk

from cpadvisor import launch, rundir
from cpadvisor.errors import WriteError

DISK_KIB = 2048


@pytest.mark.parametrize("free_kib", [0, 4, 16, 128, 256])
def test_a_start_on_a_full_disk_says_so_and_leaves_nothing(
    request: pytest.FixtureRequest,
    config: Path,
    fake_torch: Callable[[str], None],
    tmp_path: Path,
    processes_of: Callable[[Path], list[int]],
    free_kib: int,
) -> None:
    fake_torch("train")

    def start(disk: Path) -> None:
        runs = disk / "runs"
        runs.mkdir()
        fill(disk, leave_kib=free_kib)
        with pytest.raises(WriteError, match="No space left on device; free some space"):
            launch.start(config, runs=runs)
        assert list(runs.iterdir()) == []

    on_small_disk(request, tmp_path / "disk", DISK_KIB, start)


def test_a_run_that_fits_starts_on_the_same_disk(
    request: pytest.FixtureRequest, config: Path, fake_torch: Callable[[str], None], tmp_path: Path
) -> None:
    fake_torch("train")

    def start(disk: Path) -> None:
        run_dir = launch.start(config, runs=disk / "runs")
        assert launch.wait(run_dir, poll_s=0.02).state == "done"
        assert rundir.list_runs(disk / "runs") == (run_dir,)

    on_small_disk(request, tmp_path / "disk", DISK_KIB, start)
