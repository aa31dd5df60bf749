import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from cpadvisor import processes
from cpadvisor.processes import (
    HALTED_STATES,
    carrying,
    descendants,
    environment,
    identify,
    is_alive,
    marked,
    parse_stat,
    send,
    started_at,
    state_of,
)

SLEEP = "import time; time.sleep(60)"


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", SLEEP], env={**os.environ, "MARK_OF_TEST": "a run"})
    yield process
    process.kill()
    process.wait()


def test_a_command_with_brackets_and_blanks_does_not_shift_the_fields() -> None:
    rest = "S 41 1 1 0 -1 4194560 100 0 0 0 5 3 0 0 20 0 1 0 987654 1000 200"
    stat = parse_stat(f"42 (tmux: a) b (c) {rest}")
    assert stat is not None
    assert (stat.process.pid, stat.parent, stat.state, stat.process.start_ticks) == (42, 41, "S", 987654)


def test_a_stat_that_is_cut_short_is_no_process() -> None:
    assert parse_stat("42 (python) S 41 1") is None
    assert parse_stat("") is None


def test_the_same_number_with_another_start_is_another_process(child: subprocess.Popen[bytes]) -> None:
    process = identify(child.pid)
    assert process is not None and is_alive(process)
    other = replace(process, start_ticks=process.start_ticks + 1)
    assert not is_alive(other)
    assert not send(other, signal.SIGKILL)
    time.sleep(0.05)
    assert child.poll() is None


@pytest.mark.parametrize("has_pidfd", [True, False])
def test_a_signal_reaches_the_process_it_names(
    child: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch, has_pidfd: bool
) -> None:
    if not has_pidfd:

        def refuse(pid: int) -> int:
            raise OSError(38, "Function not implemented")

        monkeypatch.setattr(processes.os, "pidfd_open", refuse)
    process = identify(child.pid)
    assert process is not None
    other = replace(process, start_ticks=process.start_ticks + 1)
    assert not send(other, signal.SIGKILL)
    assert send(process, signal.SIGTERM)
    assert child.wait(timeout=10) == -signal.SIGTERM
    assert not send(process, signal.SIGTERM)


def test_a_process_that_ended_is_gone_before_its_parent_collects_it(child: subprocess.Popen[bytes]) -> None:
    process = identify(child.pid)
    assert process is not None
    child.send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert not is_alive(process)
    assert child.wait() == -9


def test_a_process_that_is_halted_says_so_and_one_that_is_gone_has_no_state(child: subprocess.Popen[bytes]) -> None:
    process = identify(child.pid)
    assert process is not None
    assert state_of(process) not in (None, *HALTED_STATES)
    child.send_signal(signal.SIGSTOP)
    os.waitpid(child.pid, os.WUNTRACED)
    assert state_of(process) == "T"
    assert state_of(replace(process, start_ticks=process.start_ticks + 1)) is None
    child.kill()
    child.wait()
    assert state_of(process) is None


def test_the_mark_is_found_in_grandchildren_of_other_sessions() -> None:
    script = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {SLEEP!r}], start_new_session=True)"
    subprocess.run([sys.executable, "-c", script], env={**os.environ, "MARK_OF_TEST": "an orphan"}, check=True)
    found = carrying("MARK_OF_TEST", "an orphan")
    assert len(found) == 1
    assert not carrying("MARK_OF_TEST", "an orph")
    assert all(send(process, signal.SIGKILL) for process in found)


def test_descendants_are_children_and_their_children() -> None:
    script = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {SLEEP!r}])"
    parent = subprocess.Popen([sys.executable, "-c", script])
    root = identify(parent.pid)
    assert root is not None
    deadline = time.monotonic() + 10
    while not (below := descendants([root])):
        assert time.monotonic() < deadline
    (grandchild,) = below
    assert grandchild != root
    stale = replace(root, start_ticks=root.start_ticks + 1)
    assert descendants([stale]) == frozenset()
    parent.kill()
    parent.wait()
    assert send(grandchild, signal.SIGKILL)


def test_processes_are_found_by_the_value_of_their_mark(child: subprocess.Popen[bytes]) -> None:
    process = identify(child.pid)
    assert process is not None
    assert marked("MARK_OF_TEST") == {"a run": frozenset({process})}
    assert environment(process)["MARK_OF_TEST"] == "a run"


def test_a_process_that_is_gone_has_no_environment(child: subprocess.Popen[bytes]) -> None:
    process = identify(child.pid)
    assert process is not None
    child.kill()
    child.wait()
    assert environment(process) == {}
    assert marked("MARK_OF_TEST") == {}


def test_a_process_started_when_it_was_started(child: subprocess.Popen[bytes]) -> None:
    process = identify(child.pid)
    assert process is not None
    began = started_at(process)
    assert began is not None and abs(began - time.time()) < 10  # btime is whole seconds, and clocks are adjusted
