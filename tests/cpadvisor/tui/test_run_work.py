import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from test_figures import recorded_run

from cpadvisor.errors import LaunchError
from cpadvisor.rundir import CONFIG_FILE, EXIT_FILE
from cpadvisor.runrecord import read_record, write_record
from cpadvisor.tui.history import ReplayState
from cpadvisor.tui.run_work import FEW, RunsReader
from cpadvisor.tui.work import Work
from runtime.telemetry import EventWriter


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    root = tmp_path / "runs"
    root.mkdir()
    return root


@pytest.fixture
def work(tmp_path: Path, runs: Path) -> Work:
    return Work(config=tmp_path / "c.yaml", runs=runs)


def living(runs: Path) -> Path:
    """A run whose process is this one."""
    return recorded_run(runs)


def ended(runs: Path, name: str = "20261122T000000Z-tiny-1x1x1x1") -> Path:
    """A run of an earlier boot that said it was done."""
    directory = recorded_run(runs, name=name)
    write_record(directory, replace(read_record(directory), boot_id="earlier", agent=None))
    writer = EventWriter(directory, 0)
    writer.emit("end", state="done", reason=None)
    writer.close()
    return directory


def test_the_history_is_newest_first_with_what_each_run_is(runs: Path) -> None:
    old, new = ended(runs), living(runs)
    history = list(RunsReader(runs).looks())[-1]
    assert [entry.directory for entry in history.entries] == [new, old]
    assert [entry.is_alive for entry in history.entries] == [True, False]
    assert [entry.view.state for entry in history.entries if entry.view] == ["running", "done"]


def test_a_torn_record_is_named_and_hides_no_other_run(runs: Path) -> None:
    done = ended(runs)
    torn = runs / "20261123T000001Z-torn"
    torn.mkdir()
    (torn / "run.json").write_text('{"run": ')
    history = list(RunsReader(runs).looks())[-1]
    problems = {entry.directory: entry.problem for entry in history.entries}
    assert problems[done] is None
    assert "run.json" in (problems[torn] or "")


def test_an_ended_run_is_read_again_only_when_its_files_change(runs: Path) -> None:
    directory = ended(runs)
    reader = RunsReader(runs)
    first = list(reader.looks())[-1].entries[0]
    assert list(reader.looks())[-1].entries[0] is first
    writer = EventWriter(directory, 0)
    writer.emit("start", rank=0, world=1, pid=1, pid_start=1, steps=5)
    writer.close()
    os.utime(directory / "events-rank0.jsonl", ns=(1, 1))
    assert list(reader.looks())[-1].entries[0] is not first


def test_a_living_run_is_looked_at_each_time(runs: Path) -> None:
    directory = living(runs)
    reader = RunsReader(runs)
    list(reader.looks())
    writer = EventWriter(directory, 0)
    writer.emit("step", step=4, loss=3.5, step_s=1.0, tokens_per_s_per_gpu=1900.0)
    writer.close()
    view = list(reader.looks())[-1].entries[0].view
    assert view is not None
    assert view.step == 4


def test_many_runs_come_in_parts_and_at_last_all_of_them(runs: Path) -> None:
    for number in range(FEW + 3):
        ended(runs, f"20261101T0000{number:02d}Z-tiny-1x1x1x1")
    reader = RunsReader(runs)
    assert [len(history.entries) for history in reader.looks()] == [FEW, FEW + 3]
    assert [len(history.entries) for history in reader.looks()] == [FEW + 3]


def test_a_run_that_was_deleted_leaves_the_list(runs: Path) -> None:
    directory = ended(runs)
    reader = RunsReader(runs)
    assert len(list(reader.looks())[-1].entries) == 1
    shutil.rmtree(directory)
    assert list(reader.looks())[-1].entries == ()


def test_the_newest_living_run_is_found_and_without_one_nothing(work: Work, runs: Path) -> None:
    ended(runs)
    assert work.living_run() is None
    directory = living(runs)
    assert work.living_run() == directory
    (directory / EXIT_FILE).write_text('{"exit": 0}')
    assert work.living_run() is None


def test_a_replay_begins_empty_and_ends_in_the_frame_that_watch_shows(work: Work, runs: Path) -> None:
    directory = ended(runs)
    player = work.player(directory)
    start = player.frame(ReplayState(at_s=0.0, length_s=player.length_s, speed=1.0))
    last = player.frame(ReplayState(at_s=player.length_s, length_s=player.length_s, speed=1.0, rank=0))
    assert start.live.view.loss == ()
    assert last.live.view == work.recall(directory, 0).live.view
    assert last.live.view.state == "done"
    assert len(last.live.view.loss) == 3


def test_two_runs_are_compared_by_the_configs_that_they_ran(work: Work, runs: Path) -> None:
    first, second = ended(runs), ended(runs, "20261122T000001Z-tiny-1x1x1x2")
    (first / CONFIG_FILE).write_text("context_parallel_size: 1\nseed: 42\n")
    (second / CONFIG_FILE).write_text("context_parallel_size: 2\nseed: 42\n")
    comparison = work.compare(first, second).comparison
    assert [(each.key, each.first, each.second) for each in comparison.differences] == [
        ("context_parallel_size", "1", "2")
    ]
    (second / CONFIG_FILE).unlink()
    assert "has no config any more" in work.compare(first, second).comparison.notes[0]


def test_an_ended_run_is_deleted_whole_and_a_living_one_is_refused(work: Work, runs: Path) -> None:
    done, alive = ended(runs), living(runs)
    assert work.delete(done).directory == done
    assert not done.exists()
    with pytest.raises(LaunchError, match="stop"):
        work.delete(alive)
    assert alive.exists()


def test_a_run_that_vanished_under_the_watcher_is_told_as_a_failure(work: Work, runs: Path) -> None:
    directory = living(runs)
    watcher = work.watcher(directory)
    assert watcher.look(0).view.state == "running"
    directory.rename(runs / ".gone")
    failure = watcher.look(0).view.failure
    assert failure is not None
    assert failure.kind == "vanished"
