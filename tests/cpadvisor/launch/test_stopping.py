import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cpadvisor import launch
from cpadvisor.errors import LaunchError
from cpadvisor.launch.keeper import KEEPER_VARIABLE, RUN_VARIABLE
from cpadvisor.launch.stopping import marked_runs, may_live
from cpadvisor.node import Holder
from cpadvisor.processes import ProcessId, identify, send
from cpadvisor.rundir import boot_id
from cpadvisor.runrecord import RunRecord, read_record, write_record
from cpadvisor.watch.host import oom_kills
from cpadvisor.watch.monitor import Monitor
from cpadvisor.watch.ranks import RankEvents
from cpadvisor.watch.view import RunView

Until = Callable[..., RunView]
Pids = Callable[[Path], list[int]]


def running(view: RunView) -> bool:
    return all(rank.pid for rank in view.ranks) and view.state == "running"


@pytest.fixture
def long_run(config: Path, runs: Path, fake_torch: Callable[[str], None], poll_until: Until) -> Path:
    fake_torch("long")
    run_dir = launch.start(config, runs=runs)
    poll_until(run_dir, running)
    return run_dir


@pytest.fixture
def stubborn_run(config: Path, runs: Path, fake_torch: Callable[[str], None], poll_until: Until) -> Path:
    fake_torch("stubborn")
    run_dir = launch.start(config, runs=runs)
    poll_until(run_dir, running)
    return run_dir


def agent_of(run_dir: Path) -> ProcessId:
    agent = read_record(run_dir).agent
    assert agent is not None
    return agent


def test_stop_leaves_no_process_and_says_stopped(long_run: Path, processes_of: Pids) -> None:
    assert len(processes_of(long_run)) == 3
    view = launch.stop(long_run)
    assert (view.state, view.reason) == ("stopped", "stopped on request")
    assert processes_of(long_run) == []
    assert not any(rank.alive for rank in view.ranks)


def test_each_ranks_events_are_read_once_to_find_its_process(
    stubborn_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []

    class Counted(RankEvents):
        def __init__(self, run_dir: Path, rank: int) -> None:
            read.append(rank)
            super().__init__(run_dir, rank)

    monkeypatch.setattr("cpadvisor.launch.stopping.RankEvents", Counted)
    launch.stop(stubborn_run, grace_s=0.3)
    assert read == [0, 1]


def test_stop_again_changes_nothing(long_run: Path) -> None:
    first = launch.stop(long_run)
    word = (long_run / "stop.json").read_text()
    second = launch.stop(long_run)
    assert (second.state, second.reason) == (first.state, first.reason) == ("stopped", "stopped on request")
    assert (long_run / "stop.json").read_text() == word


def test_stopping_a_run_that_is_done_leaves_it_done(
    config: Path, runs: Path, fake_torch: Callable[[str], None]
) -> None:
    fake_torch("train")
    run_dir = launch.start(config, runs=runs)
    launch.wait(run_dir, poll_s=0.02)
    assert launch.stop(run_dir).state == "done"
    assert not (run_dir / "stop.json").exists()


def test_ranks_that_ignore_sigterm_and_their_children_are_killed(stubborn_run: Path, processes_of: Pids) -> None:
    assert len(processes_of(stubborn_run)) == 5  # the agent, two ranks, a child in its own session of each
    assert launch.stop(stubborn_run, grace_s=1).state == "stopped"
    assert processes_of(stubborn_run) == []


def test_stop_works_when_the_agent_was_killed_before(stubborn_run: Path, processes_of: Pids, poll_until: Until) -> None:
    os.kill(agent_of(stubborn_run).pid, signal.SIGKILL)
    view = poll_until(stubborn_run, lambda view: bool(view.warnings))
    assert view.state == "running"
    assert "torchrun is gone and its ranks go on" in view.warnings[0]
    assert launch.stop(stubborn_run, grace_s=0.5).state == "stopped"
    assert processes_of(stubborn_run) == []


def test_a_halted_agent_is_woken_to_obey(long_run: Path, processes_of: Pids) -> None:
    os.kill(agent_of(long_run).pid, signal.SIGSTOP)
    began = time.monotonic()
    assert launch.stop(long_run, grace_s=15).state == "stopped"
    assert time.monotonic() - began < 10
    assert processes_of(long_run) == []


def test_a_halted_rank_is_woken_to_obey(long_run: Path, processes_of: Pids) -> None:
    victim = Monitor(long_run).poll().ranks[1].pid
    assert victim is not None
    os.kill(victim, signal.SIGSTOP)
    began = time.monotonic()
    assert launch.stop(long_run, grace_s=15).state == "stopped"
    assert time.monotonic() - began < 10
    assert processes_of(long_run) == []


def test_a_halted_rank_without_its_torchrun_is_ended_too(long_run: Path, processes_of: Pids) -> None:
    victim = Monitor(long_run).poll().ranks[0].pid
    assert victim is not None
    os.kill(victim, signal.SIGSTOP)
    os.kill(agent_of(long_run).pid, signal.SIGKILL)
    assert launch.stop(long_run).state == "stopped"
    assert processes_of(long_run) == []


def test_two_who_stop_at_once_see_the_same_end(stubborn_run: Path, processes_of: Pids) -> None:
    views: list[RunView] = []
    threads = [threading.Thread(target=lambda: views.append(launch.stop(stubborn_run, grace_s=1))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    told = {(view.state, view.reason, view.exit) for view in views}
    assert (len(views), len(told)) == (3, 1)
    assert told.pop()[:2] == ("stopped", "stopped on request")
    assert processes_of(stubborn_run) == []


def test_torchrun_is_asked_once_by_two_who_stop(long_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    agent = agent_of(long_run)

    def count(process: ProcessId, signum: signal.Signals) -> bool:
        if (process, signum) == (agent, signal.SIGTERM):
            asked.append(process.pid)
        return send(process, signum)

    monkeypatch.setattr("cpadvisor.launch.stopping.send", count)
    threads = [threading.Thread(target=launch.stop, args=(long_run,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert asked == [agent.pid]


def test_the_exit_status_is_written_when_stop_returns(long_run: Path) -> None:
    view = launch.stop(long_run)
    assert view.exit is not None
    assert json.loads((long_run / "exit.json").read_text())["exit"] == view.exit


def test_a_number_that_another_process_has_now_is_not_signalled(long_run: Path) -> None:
    launch.stop(long_run)
    bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        process = identify(bystander.pid)
        assert process is not None
        earlier = replace(process, start_ticks=process.start_ticks - 1)
        write_record(long_run, replace(read_record(long_run), agent=earlier))
        for rank in range(2):
            path = long_run / f"events-rank{rank}.jsonl"
            event = {"v": 1, "seq": 0, "t": 1.0, "kind": "start", "pid": earlier.pid, "pid_start": earlier.start_ticks}
            path.write_text(json.dumps(event) + "\n")
        launch.stop(long_run, grace_s=0)
        time.sleep(0.1)
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_numbers_of_another_boot_are_not_signalled(long_run: Path) -> None:
    launch.stop(long_run)
    bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        record = read_record(long_run)
        write_record(long_run, replace(record, agent=identify(bystander.pid), boot_id="before the restart"))
        (long_run / "stop.json").unlink()
        (long_run / "exit.json").unlink()
        for rank in range(2):
            (long_run / f"events-rank{rank}.jsonl").unlink()
        view = launch.stop(long_run, grace_s=0)
        assert (view.state, view.reason) == ("lost", "the machine was restarted while it ran")
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_the_run_of_another_host_is_stopped_there(long_run: Path) -> None:
    launch.stop(long_run)
    write_record(long_run, replace(read_record(long_run), host="gpu-07"))
    with pytest.raises(LaunchError, match=r"runs on host gpu-07, and this is .*; stop it there"):
        launch.stop(long_run)


def test_sigterm_from_outside_is_told_as_such(long_run: Path, poll_until: Until) -> None:
    os.kill(agent_of(long_run).pid, signal.SIGTERM)
    view = poll_until(long_run, lambda view: view.is_final)
    assert (view.state, view.reason, view.exit) == ("stopped", "SIGTERM", 1)


def test_a_rank_killed_from_outside_is_the_root_cause(long_run: Path, poll_until: Until) -> None:
    victim = Monitor(long_run).poll().ranks[1].pid
    assert victim is not None
    os.kill(victim, signal.SIGKILL)
    view = poll_until(long_run, lambda view: view.is_final and (long_run / "exit.json").exists())
    assert view.state == "failed"
    # Where the kernel counts what it kills itself, that can be ruled out.
    alone = ": killed from outside, or by the kernel for want of host memory"
    assert view.reason == f"rank 1 was ended by SIGKILL{alone if oom_kills() is None else ' from outside'}"


def test_agent_and_ranks_killed_together_are_told_by_the_exit_status(
    long_run: Path, processes_of: Pids, poll_until: Until
) -> None:
    for pid in (agent_of(long_run).pid, *processes_of(long_run)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    view = poll_until(long_run, lambda view: view.is_final)
    assert (view.state, view.exit) == ("failed", -9)
    assert view.reason == "torchrun was ended by SIGKILL from outside"


def test_a_run_that_vanished_unseen_is_lost(long_run: Path, processes_of: Pids, poll_until: Until) -> None:
    for pid in (agent_of(long_run).pid, *processes_of(long_run)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    poll_until(long_run, lambda view: view.exit is not None and (long_run / "exit.json").exists())
    (long_run / "exit.json").unlink()  # as if the process that started it had been killed as well
    view = poll_until(long_run, lambda view: view.exit is None)
    assert view.state == "lost"
    how = "how is not known: their keeper, who writes it down, was killed (SIGKILL)"
    assert view.reason == f"torchrun and its ranks are gone, and {how}"


def test_a_full_disk_does_not_keep_a_run_alive(
    long_run: Path, processes_of: Pids, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("cpadvisor.rundir.os.fsync", full)
    assert launch.stop(long_run).state == "stopped"
    assert processes_of(long_run) == []


def test_ctrl_c_in_the_foreground_stops_the_run(long_run: Path, processes_of: Pids) -> None:
    def interrupt(view: RunView) -> None:
        if view.state == "running":
            raise KeyboardInterrupt

    view = launch.wait(long_run, interrupt, poll_s=0.02)
    assert (view.state, view.reason) == ("stopped", "stopped on request")
    assert processes_of(long_run) == []


def test_ctrl_c_while_only_watching_leaves_the_run_alone(long_run: Path, processes_of: Pids) -> None:
    def interrupt(view: RunView) -> None:
        raise KeyboardInterrupt

    view = launch.wait(long_run, interrupt, stop_on_interrupt=False)
    assert view.state == "running"
    assert len(processes_of(long_run)) == 3
    launch.stop(long_run)


def test_two_watchers_agree(long_run: Path) -> None:
    first, second = Monitor(long_run), Monitor(long_run)
    first.poll()
    launch.stop(long_run)
    one, other = first.poll(), second.poll()
    assert (one.state, one.exit, one.reason, one.loss) == (other.state, other.exit, other.reason, other.loss)


def hold(run_dir: Path) -> Holder:
    rank = Monitor(run_dir).poll().ranks[0]
    assert rank.pid is not None
    write_record(run_dir, replace(read_record(run_dir), gpus=(0, 1)))
    return Holder(gpu=0, pid=rank.pid, user="me", command="python", used_bytes=3 * 2**30)


def test_stop_waits_until_the_driver_has_freed_the_memory(long_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    holder = hold(long_run)
    other = replace(holder, pid=1)
    answers = [(holder, other), (holder, other), (other,)]
    monkeypatch.setattr("cpadvisor.launch.stopping._holders", lambda: answers.pop(0))
    assert launch.stop(long_run).state == "stopped"
    assert answers == []


def test_memory_that_the_driver_keeps_is_told(long_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    holder = hold(long_run)
    monkeypatch.setattr("cpadvisor.launch.stopping._holders", lambda: (holder,))
    monkeypatch.setattr("cpadvisor.launch.stopping._GPU_S", 0.0)
    with pytest.raises(LaunchError, match=r"the driver still holds memory for them \(GPU 0: 3.0 GiB\)"):
        launch.stop(long_run)


# What is asked before anything is read.

GONE = ProcessId(pid=1, start_ticks=1)
RECORD = RunRecord(run="r", boot_id=boot_id(), agent=GONE, keeper=GONE)


def test_what_left_no_trace_needs_no_closer_look(tmp_path: Path) -> None:
    assert not may_live(tmp_path, RECORD, ())
    assert not may_live(tmp_path, replace(RECORD, agent=None), ())


def test_a_process_that_the_record_names_is_a_trace_within_one_boot(tmp_path: Path) -> None:
    me = identify(os.getpid())
    assert may_live(tmp_path, replace(RECORD, agent=me), ())
    assert may_live(tmp_path, replace(RECORD, keeper=me), ())
    assert not may_live(tmp_path, replace(RECORD, agent=me, boot_id="another boot"), ())


def test_a_run_that_just_began_may_live(tmp_path: Path) -> None:
    assert may_live(tmp_path, replace(RECORD, agent=None, started=time.time()), ())


def test_a_run_of_another_host_may_live_until_its_exit_status_is_written(tmp_path: Path) -> None:
    record = replace(RECORD, host="gpu-07")
    assert may_live(tmp_path, record, ())
    (tmp_path / "exit.json").write_text("{}")
    assert not may_live(tmp_path, record, ())


@pytest.mark.parametrize("variable", [RUN_VARIABLE, KEEPER_VARIABLE])
def test_a_process_that_carries_the_name_of_the_run_is_a_trace(tmp_path: Path, variable: str) -> None:
    run_dir, link = tmp_path / "r", tmp_path / "link"
    run_dir.mkdir()
    link.symlink_to(run_dir)
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, env={variable: str(link)})
    try:
        assert may_live(run_dir, RECORD, marked_runs())
    finally:
        child.communicate()
    assert not may_live(run_dir, RECORD, marked_runs())
