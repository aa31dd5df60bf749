import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cpadvisor import launch, rundir
from cpadvisor.errors import LaunchError, WriteError
from cpadvisor.launch import removing
from cpadvisor.launch.environment import RUN_VARIABLE
from cpadvisor.runrecord import RunRecord, read_record, write_record
from cpadvisor.watch.view import RunView


@pytest.fixture
def ended(tmp_path: Path) -> Path:
    """A run that was killed long ago, with a checkpoint folder and a link that leads out of it."""
    run_dir = rundir.create_run(tmp_path / "runs", model="tiny", layout="1x1x1x2")
    write_record(run_dir, RunRecord(run=run_dir.name, boot_id="before the restart"))
    (run_dir / "checkpoints" / "step-3").mkdir(parents=True)
    (run_dir / "checkpoints" / "step-3" / "weights").write_text("numbers")
    return run_dir


def test_a_run_is_deleted_with_all_that_is_in_it(ended: Path) -> None:
    launch.remove(ended)
    assert list(ended.parent.iterdir()) == []


def test_the_events_of_a_run_that_is_gone_are_not_read_to_delete_it(
    ended: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(removing, "Monitor", None)
    launch.remove(ended)
    assert not ended.exists()


def test_what_links_lead_to_stays(ended: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "data").write_text("mine")
    (ended / "folder").symlink_to(precious)
    (ended / "file").symlink_to(precious / "data")
    launch.remove(ended)
    assert (precious / "data").read_text() == "mine"
    assert not ended.exists()


def test_a_link_to_a_run_is_no_run(ended: Path) -> None:
    link = ended.with_name("link")
    link.symlink_to(ended)
    with pytest.raises(LaunchError, match=rf"link is a link to {ended}; delete the link with `rm "):
        launch.remove(link)
    assert ended.is_dir() and link.is_symlink()


def test_a_directory_without_a_record_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    with pytest.raises(LaunchError, match=r"notes is no run: it has no run.json"):
        launch.remove(tmp_path / "notes")
    assert (tmp_path / "notes").is_dir()


def test_a_run_that_lives_is_refused_with_the_command_that_ends_it(
    config: Path, runs: Path, fake_torch: Callable[[str], None], poll_until: Callable[..., RunView]
) -> None:
    fake_torch("long")
    run_dir = launch.start(config, runs=runs)
    poll_until(run_dir, lambda view: view.step is not None)
    with pytest.raises(LaunchError, match=rf"run {run_dir.name} is .*; end it with `cpadvisor stop {run_dir}`"):
        launch.remove(run_dir)
    damaged = read_record(run_dir)
    (run_dir / "run.json").write_text("{")
    with pytest.raises(LaunchError, match="is running; end it"):
        launch.remove(run_dir)
    write_record(run_dir, damaged)
    launch.stop(run_dir)
    launch.remove(run_dir)
    assert rundir.list_runs(runs) == ()


def test_a_run_that_left_a_process_behind_is_refused(ended: Path) -> None:
    write_record(ended, replace(read_record(ended), boot_id=rundir.boot_id()))
    left = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(60)"], env={**os.environ, RUN_VARIABLE: str(ended)}
    )
    try:
        with pytest.raises(LaunchError, match="is not quite gone: processes of it live; end it with"):
            launch.remove(ended)
    finally:
        left.kill()
        left.wait()
    launch.remove(ended)


def test_a_run_whose_record_is_damaged_can_be_deleted(ended: Path) -> None:
    (ended / "run.json").write_text("{")
    launch.remove(ended)
    assert not ended.exists()


def test_a_directory_that_may_not_be_moved_stays_whole(ended: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, target: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(WriteError, match=r"cannot delete .*: Permission denied \(nothing of it is gone\)"):
        launch.remove(ended)
    assert (ended / "checkpoints" / "step-3" / "weights").read_text() == "numbers"


def test_a_deletion_that_is_cut_short_is_out_of_sight_and_finished_by_the_next(
    ended: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = ended.with_name("other")
    shutil.copytree(ended, other)

    def interrupted(path: Path, **_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("cpadvisor.launch.removing.shutil.rmtree", interrupted)
        with pytest.raises(KeyboardInterrupt):
            launch.remove(ended)
    assert rundir.list_runs(ended.parent) == (other,)
    assert len(list(ended.parent.iterdir())) == 2
    launch.remove(other)
    assert list(ended.parent.iterdir()) == []
