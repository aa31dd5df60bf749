"""The process that starts torchrun and outlives whoever asked for it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cpadvisor import launch, rundir
from cpadvisor.errors import LaunchError
from cpadvisor.launch.gpus import refuse_running
from cpadvisor.launch.keeper import KEEPER_VARIABLE
from cpadvisor.processes import ProcessId, environment, is_alive
from cpadvisor.runrecord import read_record, write_record
from cpadvisor.watch.monitor import Monitor
from cpadvisor.watch.view import RunView

Fake = Callable[[str], None]
Until = Callable[..., RunView]
START_AND_DIE = (
    "import sys, os, signal; from pathlib import Path; from cpadvisor import launch; "
    "print(launch.start(Path(sys.argv[1]), runs=Path(sys.argv[2])), flush=True); "
    "os.kill(os.getpid(), signal.SIGKILL)"
)


def keeper_of(run_dir: Path) -> ProcessId:
    keeper = read_record(run_dir).keeper
    assert keeper is not None
    return keeper


def until_gone(process: ProcessId) -> None:
    end = time.monotonic() + 20
    while is_alive(process):
        assert time.monotonic() < end, process
        time.sleep(0.02)


@pytest.fixture
def long_run(config: Path, runs: Path, fake_torch: Fake, poll_until: Until) -> Path:
    fake_torch("long")
    run_dir = launch.start(config, runs=runs)
    poll_until(run_dir, lambda view: view.step is not None and all(rank.pid for rank in view.ranks))
    return run_dir


def test_the_exit_status_is_kept_although_the_starter_was_killed(config: Path, runs: Path, fake_torch: Fake) -> None:
    fake_torch("fail")
    root = Path(rundir.__file__).parents[1]
    env = {**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{os.environ['PYTHONPATH']}"}
    child = subprocess.run([sys.executable, "-c", START_AND_DIE, config, runs], capture_output=True, text=True, env=env)
    run_dir = Path(child.stdout.strip())
    view = launch.wait(run_dir, poll_s=0.02)
    assert (view.state, view.exit) == ("failed", 1)
    assert json.loads((run_dir / "exit.json").read_text())["exit"] == 1


def test_a_run_has_not_ended_before_its_exit_status_is_written(
    config: Path, runs: Path, fake_torch: Fake, poll_until: Until
) -> None:
    fake_torch("train")
    for _ in range(3):
        run_dir = launch.start(config, runs=runs)
        view = poll_until(run_dir, lambda view: view.is_final)
        assert (view.state, view.exit, (run_dir / "exit.json").exists()) == ("done", 0, True)


def test_it_is_no_process_of_the_run_and_ends_with_it(
    long_run: Path, processes_of: Callable[[Path], list[int]]
) -> None:
    keeper = keeper_of(long_run)
    assert is_alive(keeper)
    assert keeper.pid not in processes_of(long_run)
    assert environment(keeper)[KEEPER_VARIABLE] == str(long_run)
    assert all(KEEPER_VARIABLE not in Path(f"/proc/{pid}/environ").read_text() for pid in processes_of(long_run))
    launch.stop(long_run)
    until_gone(keeper)


def test_it_leads_its_own_session_and_holds_no_descriptor_but_to_nowhere(long_run: Path) -> None:
    keeper = keeper_of(long_run)
    assert os.getsid(keeper.pid) == keeper.pid
    assert {str(entry.readlink()) for entry in Path(f"/proc/{keeper.pid}/fd").iterdir()} == {"/dev/null"}
    launch.stop(long_run)


def test_a_run_goes_on_without_it_and_then_nobody_knows_the_exit_status(long_run: Path, poll_until: Until) -> None:
    os.kill(keeper_of(long_run).pid, signal.SIGKILL)
    view = poll_until(long_run, lambda view: (view.step or 0) >= 4)
    assert view.state == "running"
    view = launch.stop(long_run)
    assert (view.state, view.exit) == ("stopped", None)


def test_a_run_whose_starter_was_killed_before_it_could_name_torchrun_is_seen_and_stopped(
    long_run: Path, processes_of: Callable[[Path], list[int]]
) -> None:
    named = read_record(long_run)
    monitor = Monitor(long_run, clock=lambda: named.started + 60)
    before = monitor.poll().state
    write_record(long_run, replace(named, agent=None, keeper=None, gpus=(0,)))
    view = monitor.poll()
    assert (view.state, view.failure, view.warnings) == (before, None, ())
    with pytest.raises(LaunchError, match=f"run {long_run.name} is {before} on GPU 0"):
        refuse_running(long_run.parent, (0,))
    assert (read_record(long_run).agent, read_record(long_run).keeper) == (named.agent, named.keeper)
    view = launch.stop(long_run)
    assert (view.state, processes_of(long_run)) == ("stopped", [])
    assert view.exit is not None


def test_the_processes_of_an_earlier_attempt_are_not_taken_for_those_of_a_later(
    long_run: Path, fake_torch: Fake
) -> None:
    launch.stop(long_run)
    earlier = json.loads((long_run / "agent.json").read_text())
    launch.resume(long_run)
    record = read_record(long_run)
    write_record(long_run, replace(record, agent=None, keeper=None))
    assert read_record(long_run) == record
    assert json.loads((long_run / "attempt-1" / "agent.json").read_text()) == earlier
    launch.stop(long_run)


def test_it_writes_nothing_where_the_directory_has_gone_or_is_of_another_attempt(long_run: Path) -> None:
    keeper, record = keeper_of(long_run), read_record(long_run)
    write_record(long_run, replace(record, agent=ProcessId(pid=1, start_ticks=1)))
    assert record.agent is not None
    os.kill(record.agent.pid, signal.SIGTERM)
    until_gone(keeper)
    assert not (long_run / "exit.json").exists()


def test_it_makes_no_directory_that_has_gone(long_run: Path) -> None:
    keeper, record = keeper_of(long_run), read_record(long_run)
    shutil.rmtree(long_run)
    assert record.agent is not None
    os.kill(record.agent.pid, signal.SIGTERM)
    until_gone(keeper)
    assert not long_run.exists()


def test_a_command_that_cannot_be_started_is_told_with_its_reason(
    config: Path, runs: Path, fake_torch: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_torch("train")
    monkeypatch.setattr("cpadvisor.launch.starting.find_python", lambda *args, **kwargs: "/nowhere/python")
    with pytest.raises(LaunchError, match="cannot start /nowhere/python: No such file or directory; name another"):
        launch.start(config, runs=runs)
    assert list(runs.iterdir()) == []


def test_on_a_full_disk_it_takes_the_ballast(long_run: Path) -> None:
    # A folder in the place of the file stands for the disk that takes nothing, until the ballast is gone.
    (long_run / "exit.json").mkdir()
    keeper = keeper_of(long_run)
    launch.stop(long_run)
    until_gone(keeper)
    assert not (long_run / "ballast").exists()
