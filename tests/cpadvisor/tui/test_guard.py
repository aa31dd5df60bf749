import os
import pty
import signal
import termios
import tty
from collections.abc import Iterator

import pytest
from pty_support import wait_until

from cpadvisor.processes import identify
from cpadvisor.tui import guard
from cpadvisor.tui.guard import RESTORE, Guard


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """Both ends of a pseudo-terminal, the user's end second."""
    master, slave = pty.openpty()
    yield master, slave
    os.close(master)
    os.close(slave)


def test_a_raw_line_gets_its_settings_back_and_the_screen_is_undone(terminal: tuple[int, int]) -> None:
    master, slave = terminal
    before = termios.tcgetattr(slave)
    tty.setraw(slave)
    guard.restore(slave, before)
    assert termios.tcgetattr(slave) == before
    assert os.read(master, 4096) == RESTORE


def test_a_line_that_a_shell_has_set_meanwhile_is_left_alone(terminal: tuple[int, int]) -> None:
    _, slave = terminal
    before = termios.tcgetattr(slave)
    tty.setraw(slave)
    shell = termios.tcgetattr(slave)
    shell[3] |= termios.ISIG  # as readline has it: keys one by one, and signals
    termios.tcsetattr(slave, termios.TCSANOW, shell)
    guard.restore(slave, before)
    assert termios.tcgetattr(slave)[3] == shell[3]


def test_a_terminal_that_has_gone_is_no_error() -> None:
    master, slave = pty.openpty()
    before = termios.tcgetattr(slave)
    os.close(master)
    guard.restore(slave, before)
    os.close(slave)


def test_what_is_no_terminal_gets_a_guard_that_does_nothing() -> None:
    read, write = os.pipe()
    nobody = guard.start(read)
    assert nobody == Guard()
    nobody.hold()
    nobody.release()
    nobody.end()
    os.close(read)
    os.close(write)


def test_a_guard_ends_when_it_is_told_and_leaves_no_child_behind(terminal: tuple[int, int]) -> None:
    master, slave = terminal
    watch = guard.start(slave)
    assert not os.get_inheritable(watch.pipe)
    watch.hold()
    watch.release()
    watch.end()
    assert identify(watch.pid) is None
    with pytest.raises(ChildProcessError):
        os.waitpid(watch.pid, os.WNOHANG)
    os.set_blocking(master, False)
    with pytest.raises(BlockingIOError):
        os.read(master, 1)


def test_a_guard_is_ended_also_where_children_are_not_waited_for(terminal: tuple[int, int]) -> None:
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        watch = guard.start(terminal[1])
        watch.end()
    finally:
        signal.signal(signal.SIGCHLD, before)
    assert identify(watch.pid) is None


def test_a_guard_that_was_killed_does_not_stop_the_app(terminal: tuple[int, int]) -> None:
    _, slave = terminal
    watch = guard.start(slave)
    os.kill(watch.pid, 9)
    wait_until(lambda: identify(watch.pid) is None)
    watch.hold()
    watch.release()
    watch.end()
