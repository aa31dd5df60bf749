"""The app in a real pseudo-terminal: refusal, signals, job control, odd bytes, and a terminal left whole."""

import os
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest
from pty_support import START, Terminal, children, guard_of, wait_until

from cpadvisor.errors import EXIT_ENVIRONMENT, EXIT_FAILED, MissingError
from cpadvisor.processes import identify
from cpadvisor.tui.guard import RESTORE
from cpadvisor.tui.terminal import require_screen

FAULTY = f"""
from cpadvisor.tui import app
def fail(self):
    raise RuntimeError("planted")
app.CpadvisorApp.action_next_theme = fail
{START}
"""


def end(terminal: Terminal, how: str) -> int:
    """End the app in one of the ways there are; the exit status that it must have."""
    if how == "q":
        terminal.press(b"q")
        return 0
    if how == "exception":
        terminal.press(b"t")
        return EXIT_FAILED
    number = signal.Signals[how]
    os.kill(terminal.pid, number)
    return -number if number == signal.SIGKILL else 128 + number


@pytest.mark.parametrize("how", ["q", "exception", "SIGTERM", "SIGHUP", "SIGKILL"])
def test_the_terminal_is_whole_however_the_app_ends(how: str, tmp_path: Path) -> None:
    terminal = Terminal(tmp_path, program=FAULTY if how == "exception" else START)
    terminal.read_until(b"NV18")
    guard = guard_of(terminal.pid)
    assert terminal.modes_left() != {}
    assert terminal.kitty_depth() == 1
    assert terminal.line_left() != terminal.attributes
    status = end(terminal, how)
    terminal.rest()
    assert terminal.exit_code() == status
    terminal.require_whole()
    wait_until(lambda: identify(guard) is None)


@pytest.mark.parametrize("how", ["q", "exception", "SIGTERM", "SIGHUP"])
def test_the_guard_writes_nothing_where_the_app_ended_by_itself(how: str, tmp_path: Path) -> None:
    terminal = Terminal(tmp_path, program=FAULTY if how == "exception" else START)
    terminal.read_until(b"NV18")
    guard_of(terminal.pid)
    end(terminal, how)
    terminal.rest()
    assert RESTORE not in terminal.seen


def test_the_terminal_is_whole_where_the_app_is_killed_at_its_start(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path)
    terminal.read_until(b"\x1b[?1049h")
    os.kill(terminal.pid, signal.SIGTERM)
    terminal.rest()
    terminal.exit_code()
    terminal.require_whole()


def test_the_guard_holds_the_terminal_and_one_pipe_and_no_session_of_the_app(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path)
    terminal.read_until(b"NV18")
    guard = guard_of(terminal.pid)
    held = sorted(str(link.readlink()).split(":")[0] for link in Path(f"/proc/{guard}/fd").iterdir())
    assert len(held) == 2
    assert held[0].startswith("/dev/pts/")
    assert held[1] == "pipe"
    assert os.getsid(guard) == guard
    end(terminal, "q")
    terminal.rest()


def test_the_guard_ends_in_silence_where_the_terminal_has_gone(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path)
    terminal.read_until(b"NV18")
    guard = guard_of(terminal.pid)
    os.kill(terminal.pid, signal.SIGSTOP)
    os.close(terminal.fd)
    os.kill(terminal.pid, signal.SIGKILL)
    assert terminal.exit_code() == -signal.SIGKILL
    wait_until(lambda: identify(guard) is None)


def test_the_app_ends_where_the_terminal_goes(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path)
    terminal.read_until(b"NV18")
    guard = guard_of(terminal.pid)
    os.close(terminal.fd)
    assert terminal.exit_code() == 128 + signal.SIGHUP
    wait_until(lambda: identify(guard) is None)


def test_an_error_of_the_apps_own_is_kept_in_a_file_and_told_in_one_line(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path, program=FAULTY)
    terminal.read_until(b"NV18")
    end(terminal, "exception")
    left = terminal.rest()
    report = tmp_path / "state" / "cpadvisor" / "crash.txt"
    assert "RuntimeError: planted" in report.read_text()
    assert report.stat().st_mode & 0o777 == 0o600
    assert str(report).encode() in left
    assert b"Traceback" not in left


def test_what_a_library_prints_waits_until_the_screen_is_gone(tmp_path: Path) -> None:
    noisy = "import os; from cpadvisor.tui import house; " + (
        "house.House.action_suspend_process = lambda self: os.write(2, b'from a C library'); " + START
    )
    terminal = Terminal(tmp_path, program=noisy)
    terminal.read_until(b"NV18")
    terminal.press(b"\x1a")
    time.sleep(0.3)
    terminal.press(b"2")
    assert b"C library" not in terminal.read_until(b"Candidates")
    end(terminal, "q")
    assert terminal.rest().rpartition(b"\x1b[?1049l")[2].count(b"from a C library") == 1


def test_what_was_begun_is_waited_for_and_the_run_that_came_of_it_is_named(tmp_path: Path) -> None:
    slow = (
        "import time; from pathlib import Path; from cpadvisor.tui import app, work; "
        "work.Work.launch = lambda self, draft: (time.sleep(2), Path('/runs/late-run'))[1]; "
        "app.why_not_launch = lambda session: None; "
    )
    terminal = Terminal(tmp_path, program=slow + START)
    terminal.read_until(b"NV18")
    terminal.press(b"2")
    terminal.read_until(b"MFU")
    time.sleep(0.5)
    terminal.press(b"L")
    time.sleep(0.5)
    end(terminal, "q")
    left = terminal.rest()
    assert terminal.exit_code() == 0
    assert b"waiting for what was begun to end" in left
    assert b"run late-run goes on" in left
    terminal.require_whole()


@pytest.mark.parametrize("keys", [b"XX", b"qx"], ids=["stop", "stop and quit"])
@pytest.mark.parametrize("how", ["SIGTERM", "SIGHUP", "terminal gone"])
def test_a_stop_that_was_begun_comes_to_its_end_whatever_ends_the_app(how: str, keys: bytes, tmp_path: Path) -> None:
    done = tmp_path / "done"
    slow = (
        "import time; from pathlib import Path; from dataclasses import replace; from cpadvisor.tui import work; "
        "from cpadvisor.watch.view import RunView; from cpadvisor.tui.session import Live; "
        "run = Path('/runs/r'); view = RunView(run='r', directory=run, state='running'); "
        "work.Work.living_run = lambda self: run; "
        "work.Work.watcher = lambda self, run_dir: type('W', (), {'look': lambda self, rank: Live(view=view)})(); "
        f"work.Work.stop = lambda self, run_dir: (time.sleep(2), Path({str(done)!r}).touch(), view)[2]; "
    )
    terminal = Terminal(tmp_path, program=slow + START)
    terminal.read_until(b"running")
    terminal.press(keys[:1])
    terminal.read_until(b"esc")
    terminal.press(keys[1:])
    time.sleep(0.7)
    assert not done.exists()
    if how == "terminal gone":
        os.close(terminal.fd)
    else:
        os.kill(terminal.pid, signal.Signals[how])
    wait_until(done.exists)
    if how != "terminal gone":
        terminal.rest()
        terminal.require_whole()


def test_a_slow_look_does_not_keep_the_prompt_waiting(tmp_path: Path) -> None:
    slow = "import time; from cpadvisor.tui import work; work.Work.machine = lambda self, request: time.sleep(60); "
    terminal = Terminal(tmp_path, program=slow + START)
    terminal.read_until(b"Node")
    time.sleep(0.5)
    end(terminal, "q")
    terminal.rest(seconds=10)
    assert terminal.exit_code() == 0


ALONE = b'"$PYTHON" -c "$PROGRAM"\n'
WRAPPED = b"""sh -c '"$PYTHON" -c "$PROGRAM"; true'\n"""
"""As `make run` or a launcher has it: the shell waits for the wrapper, which has to stop too."""


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs a shell with job control")
@pytest.mark.parametrize("command", [ALONE, WRAPPED], ids=["alone", "wrapped"])
@pytest.mark.parametrize("how", ["ctrl+z", "SIGTSTP"])
def test_ctrl_z_gives_the_shell_back_and_fg_the_app(command: bytes, how: str, tmp_path: Path) -> None:
    terminal, app = in_shell(tmp_path, command)
    if how == "ctrl+z":
        terminal.press(b"\x1a")
    else:
        os.kill(app, signal.SIGTSTP)
    terminal.read_until(b"Stopped")
    assert terminal.modes_left().keys() <= {2004}  # bash itself asks for bracketed paste
    assert terminal.kitty_depth() == 0
    terminal.press(b"echo still $((6*7))\n")
    terminal.read_until(b"still 42")
    terminal.press(b"fg\n")
    terminal.read_until(b"\x1b[?1049h")
    terminal.read_until(b"NV18")
    terminal.press(b"q")
    terminal.read_until(b"\x1b[?1049l")
    wait_until(lambda: identify(app) is None)
    leave_shell(terminal)
    terminal.require_whole()


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs a shell with job control")
def test_an_app_that_is_killed_while_it_is_stopped_leaves_the_shell_alone(tmp_path: Path) -> None:
    terminal, app = in_shell(tmp_path)
    guard = guard_of(app)
    terminal.press(b"\x1a")
    terminal.read_until(b"Stopped")
    os.kill(app, signal.SIGKILL)
    wait_until(lambda: identify(guard) is None)
    leave_shell(terminal)
    assert RESTORE not in terminal.seen
    terminal.require_whole()


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs a shell with job control")
def test_an_app_that_was_stopped_unseen_comes_back_and_leaves_the_line_as_it_was(tmp_path: Path) -> None:
    terminal, app = in_shell(tmp_path)
    os.kill(app, signal.SIGSTOP)
    terminal.read_until(b"Stopped")
    terminal.press(b"fg\n")
    terminal.read_until(b"\x1b[?1049h")
    terminal.read_until(b"NV18")
    terminal.press(b"q")
    terminal.read_until(b"\x1b[?1049l")
    wait_until(lambda: identify(app) is None)
    leave_shell(terminal)
    terminal.require_whole()


def in_shell(home: Path, command: bytes = ALONE) -> tuple[Terminal, int]:
    """An interactive shell, and the app as its job."""
    bash = str(shutil.which("bash"))
    terminal = Terminal(home, command=[bash, "--norc", "--noprofile", "-i"], PROGRAM=START, PYTHON=sys.executable)
    terminal.press(command)
    terminal.read_until(b"NV18")
    job = next(iter(children(terminal.pid)))
    return terminal, job if command == ALONE else next(iter(children(job)))


def leave_shell(terminal: Terminal) -> None:
    """End the shell."""
    terminal.press(b"exit\n")
    time.sleep(0.3)
    terminal.press(b"exit\n")
    terminal.rest()


def test_without_a_shell_ctrl_z_says_so_and_nothing_stops(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path)
    terminal.read_until(b"NV18")
    terminal.press(b"\x1a")
    terminal.read_until(b"No shell waits")
    end(terminal, "q")
    terminal.rest()
    assert terminal.exit_code() == 0


def test_a_mouse_report_beyond_column_95_does_not_end_the_app(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path)
    terminal.read_until(b"NV18")
    # X10 report: button, column and row each plus 32; column 110 is byte 0x8e, which no UTF-8 text begins with.
    terminal.press(b"\x1b[M" + bytes([32, 32 + 110, 32 + 5]))
    time.sleep(0.5)
    terminal.press(b"2")
    terminal.read_until(b"Candidates")
    terminal.press(b"q")
    terminal.rest()
    assert terminal.exit_code() == 0


@pytest.mark.parametrize("environ", [{}, {"TERM": "dumb"}, {"TERM": ""}])
def test_a_dumb_terminal_is_refused_with_the_commands_that_work_there(environ: dict[str, str]) -> None:
    with pytest.raises(MissingError) as caught:
        require_screen(environ)
    assert "cpadvisor plan" in str(caught.value)
    assert caught.value.exit_code == EXIT_ENVIRONMENT


def test_a_terminal_that_moves_its_cursor_is_accepted() -> None:
    require_screen({"TERM": "xterm"})
