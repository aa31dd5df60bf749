"""The app in a real pseudo-terminal: what it draws, what it changes, and what it leaves behind."""

import fcntl
import os
import pty
import re
import select
import struct
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

START = "import sys; from cpadvisor.cli import main; sys.exit(main(['--node', 'dgx-h100', *sys.argv[1:]]))"
"""A program that opens the app as the command does."""

AT_FIRST = {7: True, 25: True}
"""Private modes that a terminal has set from the beginning: line wrap and a visible cursor."""

_MODES = re.compile(rb"\x1b\[\?([0-9;]+)([hl])")
_KITTY = re.compile(rb"\x1b\[([<>])[0-9]*u")
"""A keyboard mode of kitty's protocol is pushed with > and popped with <."""


class Terminal:
    """A program on a terminal of its own; nothing of it reaches the user's files."""

    def __init__(
        self,
        home: Path,
        *,
        program: str = START,
        command: list[str] | None = None,
        size: tuple[int, int] = (80, 24),
        **env: str,
    ) -> None:
        self.seen = b""
        argv = command or [sys.executable, "-c", program]
        variables = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "CPADVISOR_"))}
        variables |= {"TERM": "xterm-256color", "LANG": "C.UTF-8", "XDG_STATE_HOME": f"{home}/state"}
        variables |= {"XDG_CONFIG_HOME": f"{home}/config", "PYTHONPATH": os.pathsep.join(sys.path), **env}
        for name in ("COLORTERM", "NO_COLOR", "TMUX", *(name for name, value in env.items() if not value)):
            if name not in env or not env[name]:
                variables.pop(name, None)
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execve(argv[0], argv, variables)
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", size[1], size[0], 0, 0))
        self.attributes = termios.tcgetattr(self.fd)

    def read_until(self, wanted: bytes, *, seconds: float = 60.0) -> bytes:
        """What was drawn up to `wanted`, since the last reading."""
        seen, end = b"", time.monotonic() + seconds
        while wanted not in seen and time.monotonic() < end:
            piece = self._read()
            if piece is None:
                break
            seen += piece
        assert wanted in seen, f"{wanted!r} was not drawn; the last was {seen[-300:]!r}"
        return seen

    def rest(self, *, seconds: float = 15.0) -> bytes:
        """What was drawn until all let go of the terminal."""
        seen, end = b"", time.monotonic() + seconds
        while time.monotonic() < end:
            piece = self._read()
            if piece is None:
                return seen
            seen += piece
        raise AssertionError(f"something still holds the terminal after {seconds} s; the last was {seen[-300:]!r}")

    def _read(self) -> bytes | None:
        """What there is within a tenth of a second, None once nobody holds the terminal."""
        if not select.select([self.fd], [], [], 0.1)[0]:
            return b""
        try:
            piece = os.read(self.fd, 65536)
        except OSError:
            return None
        self.seen += piece
        return piece or None

    def press(self, keys: bytes) -> None:
        """Type."""
        os.write(self.fd, keys)

    def exit_code(self) -> int:
        """How the program ended; negative for a signal."""
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def modes_left(self) -> dict[int, bool]:
        """Private modes that differ from those a terminal begins with, after all that was written."""
        modes = dict(AT_FIRST)
        for numbers, switch in _MODES.findall(self.seen):
            modes |= {int(number): switch == b"h" for number in numbers.split(b";")}
        return {number: on for number, on in modes.items() if on != AT_FIRST.get(number, False)}

    def kitty_depth(self) -> int:
        """How many keyboard modes of kitty's protocol are pushed and not popped; none is popped from an empty stack."""
        depth = 0
        for move in _KITTY.findall(self.seen):
            depth = depth + 1 if move == b">" else max(depth - 1, 0)
        return depth

    def line_left(self) -> list[Any]:
        """The line settings as they are now."""
        return termios.tcgetattr(self.fd)

    def require_whole(self) -> None:
        """Nothing that the program changed is left changed."""
        assert self.modes_left() == {}
        assert self.kitty_depth() == 0
        assert self.line_left() == self.attributes


def wait_until(true: Callable[[], bool], *, seconds: float = 60.0) -> None:
    """Wait for something that happens in another process."""
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            pytest.fail(f"waited {seconds} s in vain")
        time.sleep(0.02)


def children(pid: int) -> dict[int, str]:
    """Processes whose parent this is, with their names."""
    found: dict[int, str] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = stat.read_text(errors="replace")
        except OSError:
            continue
        before, _, after = text.rpartition(")")
        if int(after.split()[1]) == pid:
            number, _, name = before.partition(" (")
            found[int(number)] = name
    return found


def guard_of(pid: int) -> int:
    """The guard of an app."""
    wait_until(lambda: "cpadvisor-guard" in children(pid).values())
    return next(number for number, name in children(pid).items() if name == "cpadvisor-guard")
