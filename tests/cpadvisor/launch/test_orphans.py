"""Runs whose directory is gone while their processes live."""

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from cpadvisor import launch
from cpadvisor.errors import LaunchError
from cpadvisor.launch.orphans import OrphanMonitor, orphan_at
from cpadvisor.processes import ProcessId
from cpadvisor.runrecord import read_record
from cpadvisor.watch.view import RunView

Until = Callable[..., RunView]
Pids = Callable[[Path], list[int]]


@pytest.fixture
def long_run(config: Path, runs: Path, fake_torch: Callable[[str], None], poll_until: Until) -> Path:
    fake_torch("long")
    run_dir = launch.start(config, runs=runs)
    poll_until(run_dir, lambda view: all(rank.pid for rank in view.ranks) and view.step is not None)
    return run_dir


def lose(run_dir: Path) -> ProcessId:
    """Delete the directory; gives the agent, which its record named."""
    agent = read_record(run_dir).agent
    assert agent is not None
    shutil.rmtree(run_dir)
    return agent


@pytest.fixture
def orphan(long_run: Path) -> Path:
    """A run that lives without its directory."""
    lose(long_run)
    return long_run


def test_it_is_found_by_its_mark_with_its_ranks_and_its_torchrun(long_run: Path, runs: Path) -> None:
    agent = lose(long_run)
    (found,) = launch.find_orphans(runs)
    assert (found.run, found.directory, found.world, found.agent) == (long_run.name, long_run, 2, agent)
    assert sorted(found.ranks) == [0, 1]
    assert len(found.processes) == 3
    launch.stop(long_run)
    assert launch.find_orphans(runs) == ()


def test_it_is_told_as_running_with_what_vanished_and_what_ends_it(orphan: Path, runs: Path) -> None:
    view = launch.orphan_view(launch.find_orphans(runs)[0])
    assert (view.state, view.model, view.layout_label, view.world) == ("running", "tiny", "1×1×1×2", 2)
    assert view.failure is not None and view.failure.kind == "vanished"
    assert view.failure.headline == "the run directory has vanished while the processes of the run go on"
    assert view.failure.command == f"cpadvisor stop {orphan}"  # by its path, as it is not where runs usually are
    assert [rank.alive for rank in view.ranks] == [True, True]
    assert 0 < view.elapsed_s < 60


def test_stop_ends_it_and_says_so_again(orphan: Path, processes_of: Pids) -> None:
    view = launch.stop(orphan)
    assert (view.state, view.reason) == ("stopped", "the run directory has vanished")
    assert processes_of(orphan) == []
    with pytest.raises(LaunchError, match=r"is no run: it has no run.json"):
        launch.stop(orphan)


def test_its_ranks_are_ended_also_without_their_torchrun(long_run: Path, processes_of: Pids) -> None:
    agent = lose(long_run)
    os.kill(agent.pid, signal.SIGKILL)
    found = orphan_at(long_run)
    assert found is not None
    assert launch.stop(long_run).state == "stopped"
    assert processes_of(long_run) == []


def test_it_is_lost_once_its_processes_have_ended(orphan: Path, processes_of: Pids) -> None:
    found = orphan_at(orphan)
    assert found is not None
    monitor = OrphanMonitor(found)
    assert monitor.poll().state == "running"
    launch.stop(orphan)
    assert monitor.poll().state == "lost"
    assert not any(rank.alive for rank in monitor.poll().ranks)


def test_one_who_waits_for_it_sees_its_end(orphan: Path) -> None:
    def end(view: RunView) -> None:
        if view.state == "running":
            launch.stop(orphan)

    assert launch.wait(orphan, end, poll_s=0.02).state == "lost"


def test_names_prefixes_and_paths_find_it(orphan: Path, runs: Path, tmp_path: Path) -> None:
    for name in (orphan.name, orphan.name[:12], str(orphan)):
        found = launch.find_orphan(runs, name)
        assert found is not None and found.directory == orphan
    for name in ("", "nope", str(tmp_path / orphan.name)):
        assert launch.find_orphan(runs, name) is None
    assert launch.find_orphans(tmp_path) == ()


def test_a_directory_that_was_moved_has_not_vanished(long_run: Path, runs: Path, processes_of: Pids) -> None:
    moved = long_run.rename(runs / "elsewhere")
    assert launch.find_orphans(runs) == ()
    assert launch.stop(moved).state == "stopped"
    assert processes_of(long_run) == []


def test_a_living_run_whose_record_is_damaged_is_told_as_it_is(long_run: Path) -> None:
    (long_run / "run.json").write_text("{")
    view = launch.open_monitor(long_run).poll()
    assert view.failure is not None and view.failure.mend is not None
    assert (view.state, view.failure.kind) == ("running", "unreadable")
    assert view.failure.evidence[0] == f"it is at {long_run}"
    assert view.failure.mend.endswith("its events, logs and checkpoints are still there")
    assert view.failure.command == f"cpadvisor stop {long_run}"
    launch.stop(long_run)


def test_a_run_whose_record_is_damaged_can_still_be_stopped(long_run: Path, processes_of: Pids) -> None:
    (long_run / "run.json").write_text("{")
    view = launch.stop(long_run)
    assert (view.state, view.reason) == ("stopped", "its record run.json cannot be read")
    assert processes_of(long_run) == []
    with pytest.raises(LaunchError, match="mend the file, or stop the run and delete it"):
        launch.stop(long_run)
