"""The app in a real pseudo-terminal: refusal, signals, and bytes that are no UTF-8."""

import fcntl
import os
import pty
import select
import signal
import struct
import sys
import termios
import time

import pytest

from cpadvisor.errors import EXIT_ENVIRONMENT, MissingError
from cpadvisor.tui.terminal import require_screen

ALTERNATE_SCREEN_OFF = b"\x1b[?1049l"
MOUSE_OFF = b"\x1b[?1000l"
CURSOR_ON = b"\x1b[?25h"
START = "import sys; from cpadvisor.tui.app import run_app; sys.exit(run_app(node_name='dgx-h100'))"


class Terminal:
    """A child that runs the app on 80x24 cells."""

    def __init__(self) -> None:
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.environ["TERM"] = "xterm-256color"
            os.execv(sys.executable, [sys.executable, "-c", START])
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))

    def read_until(self, wanted: bytes, *, seconds: float = 30.0) -> bytes:
        """What was drawn up to `wanted`."""
        seen, end = b"", time.monotonic() + seconds
        while wanted not in seen and time.monotonic() < end:
            if select.select([self.fd], [], [], 0.1)[0]:
                try:
                    seen += os.read(self.fd, 65536)
                except OSError:
                    break
        assert wanted in seen, f"{wanted!r} was not drawn; the last was {seen[-300:]!r}"
        return seen

    def rest(self, *, seconds: float = 15.0) -> bytes:
        """What was drawn until the child let go of the terminal."""
        seen, end = b"", time.monotonic() + seconds
        while time.monotonic() < end:
            if select.select([self.fd], [], [], 0.1)[0]:
                try:
                    piece = os.read(self.fd, 65536)
                except OSError:
                    break
                if not piece:
                    break
                seen += piece
        return seen

    def exit_code(self) -> int:
        """How the child ended."""
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_app_and_leaves_the_terminal_whole(number: signal.Signals) -> None:
    terminal = Terminal()
    terminal.read_until(b"NV18")
    os.kill(terminal.pid, number)
    left = terminal.rest()
    assert terminal.exit_code() == 128 + number
    for restored in (ALTERNATE_SCREEN_OFF, MOUSE_OFF, CURSOR_ON):
        assert restored in left


def test_a_mouse_report_beyond_column_95_does_not_end_the_app() -> None:
    terminal = Terminal()
    terminal.read_until(b"NV18")
    # X10 report: button, column and row each plus 32; column 110 is byte 0x8e, which no UTF-8 text begins with.
    os.write(terminal.fd, b"\x1b[M" + bytes([32, 32 + 110, 32 + 5]))
    time.sleep(0.5)
    os.write(terminal.fd, b"2")
    terminal.read_until(b"Candidates")
    os.write(terminal.fd, b"q")
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
