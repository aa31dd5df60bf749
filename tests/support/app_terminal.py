"""A terminal of its own for the app: a pseudo-terminal, a shell that leads its session, and the app as its child.

As in real life the shell outlives the app, so that what the app leaves of the
terminal can be looked at: its settings, and every byte that was written to it.
"""

import contextlib
import fcntl
import os
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Mapping
from pathlib import Path

from cpadvisor.processes import all_stats

ROWS, COLUMNS = 30, 100

ALTERNATE_SCREEN = (b"\x1b[?1049h", b"\x1b[?1049l")
"""Taken and given back (xterm control sequences: DECSET and DECRST 1049)."""
CURSOR = (b"\x1b[?25l", b"\x1b[?25h")
"""Hidden and shown."""
MOUSE = tuple((b"\x1b[?%dh" % mode, b"\x1b[?%dl" % mode) for mode in (1000, 1002, 1003, 1006, 1015))
"""Reports of buttons, drags, moves; the extended forms of them."""
PASTE = (b"\x1b[?2004h", b"\x1b[?2004l")
FOCUS = (b"\x1b[?1004h", b"\x1b[?1004l")
MODES = (ALTERNATE_SCREEN, CURSOR, PASTE, FOCUS, *MOUSE)

_SHELL = '"$@"; echo "status $?"; exec sleep 600'
_ESCAPES = re.compile(rb"\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[\[(][0-?]*[ -/]*[@-~]|\x1b[=>78]")


class AppTerminal:
    """`python -m cpadvisor ARGUMENTS` on a terminal of 100x30."""

    def __init__(
        self, *arguments: str, env: Mapping[str, str], cwd: Path, rows: int = ROWS, columns: int = COLUMNS
    ) -> None:
        self._master, self._slave = os.openpty()
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.settings_before = termios.tcgetattr(self._slave)
        self.seen = b""
        self._looked = 0
        self._shell = subprocess.Popen(
            ["/bin/sh", "-c", _SHELL, "sh", sys.executable, "-m", "cpadvisor", *arguments],
            stdin=self._slave,
            stdout=self._slave,
            stderr=self._slave,
            cwd=cwd,
            env={**env, "TERM": "xterm-256color"},
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )

    @property
    def shell(self) -> int:
        """The process number of the shell."""
        return self._shell.pid

    @property
    def app(self) -> int:
        """The process number of the app."""
        end = time.monotonic() + 10
        while time.monotonic() < end:
            for stat in all_stats():
                if stat.parent == self._shell.pid:
                    return stat.process.pid
            time.sleep(0.02)
        raise AssertionError("the shell has no child")

    def press(self, keys: str) -> None:
        """Type."""
        os.write(self._master, keys.encode())

    def read(self, seconds: float) -> None:
        """Take in what is drawn in this time."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if select.select([self._master], [], [], min(left, 0.1))[0]:
                try:
                    self.seen += os.read(self._master, 65536)
                except OSError:
                    return

    def _end_of(self, word: str) -> int:
        """Where a word that was drawn ends in the bytes: what was drawn after it is for the next wait."""
        low, high = self._looked, len(self.seen)
        while low < high:
            middle = (low + high) // 2
            if word in plain(self.seen[self._looked : middle]):
                high = middle
            else:
                low = middle + 1
        return low

    def shows(self, *words: str, seconds: float = 60.0) -> str:
        """Wait until one of these is drawn, in what came since the last wait; gives the one."""
        end = time.monotonic() + seconds
        while True:
            text = plain(self.seen[self._looked :])
            found = next((word for word in words if word in text), None)
            if found is not None:
                self._looked = self._end_of(found)
                return found
            assert time.monotonic() < end, f"none of {words} was drawn; the last was\n{text[-2000:]}"
            self.read(0.1)

    def wait_for_status(self, *, seconds: float = 20.0) -> int:
        """The exit status of the app, as the shell tells it: 128 + the signal for one that was killed."""
        end = time.monotonic() + seconds
        pattern = re.compile(rb"status (\d+)\r?\n")
        while not (found := pattern.search(self.seen)):
            assert time.monotonic() < end, f"the app did not end; the last was {self.seen[-600:]!r}"
            self.read(0.1)
        return int(found[1])

    def hang_up(self) -> None:
        """The terminal is gone, as when its window is closed or ssh breaks: the kernel sends SIGHUP."""
        os.close(self._slave)
        os.close(self._master)
        self._slave = self._master = -1

    def assert_whole(self, *, seconds: float = 5.0) -> None:
        """Fail unless the terminal is as it was before the app: settings, screen, cursor, mouse, paste, focus."""
        end = time.monotonic() + seconds
        while (left := self._left_behind()) and time.monotonic() < end:
            self.read(0.2)
        assert not left, f"the app left {', '.join(left)}; its last bytes were {self.seen[-400:]!r}"

    def _left_behind(self) -> list[str]:
        left = [f"mode {on!r}" for on, off in MODES if self.seen.rfind(on) > self.seen.rfind(off)]
        if termios.tcgetattr(self._slave) != self.settings_before:
            left.append("other terminal settings")
        return left

    def close(self) -> None:
        """End what is left and let the terminal go."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._shell.pid, signal.SIGKILL)
        self._shell.wait()
        for descriptor in {self._master, self._slave} - {-1}:
            os.close(descriptor)


def plain(drawn: bytes) -> str:
    """What was drawn, without colours and cursor moves."""
    return _ESCAPES.sub(b"", drawn).decode(errors="replace")
