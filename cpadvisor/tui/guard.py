"""A small process that puts the terminal back where the app was killed without warning, as by SIGKILL.

It holds the terminal and one end of a pipe, nothing else, and sleeps. The
kernel closes the app's end of the pipe however the app dies; the guard then
restores what the app had changed, unless the app had told it that the terminal
is whole. It leads a session of its own, so no key of the terminal reaches it.
"""

import contextlib
import os
import signal
import termios
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

RESTORE = (
    b"\x1b\\"  # ends a string that the app may have been cut off in
    b"\x1b[?2026l"  # synchronized update
    b"\x1b[?2004l\x1b[?7h\x1b[?2048l"  # bracketed paste, line wrap, resize reports
    b"\x1b[?1000l\x1b[?1003l\x1b[?1015l\x1b[?1006l\x1b[?1016l"  # mouse
    b"\x1b[<u\x1b[?1049l\x1b[?25h\x1b[?1004l"  # kitty keys before the alternate screen, cursor, focus reports
    b"\x1b[0m"
)
"""What textual 8.2.8's linux driver sets at its start, undone in the order of its own end."""

_HELD, _WHOLE = b"1", b"0"
_RAW = termios.ICANON | termios.ECHO | termios.ISIG | termios.IEXTEN
_TERMINAL, _PIPE = 0, 1
"""The guard's only two descriptors."""
_IGNORED = (
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
    signal.SIGTSTP,
    signal.SIGTTIN,
    signal.SIGTTOU,
    signal.SIGPIPE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """The app's side of the guard. One of pid 0 guards nothing, where no process can be had."""

    pid: int = 0
    pipe: int = -1

    def hold(self) -> None:
        """The app changes the terminal from now on."""
        self._say(_HELD)

    def release(self) -> None:
        """The terminal is whole again."""
        self._say(_WHOLE)

    def end(self) -> None:
        """Let the guard end, and wait for it: it never outlives the app."""
        if self.pid:
            os.close(self.pipe)
            with contextlib.suppress(ChildProcessError):  # whoever ignores SIGCHLD has no children to wait for
                os.waitpid(self.pid, 0)

    def _say(self, what: bytes) -> None:
        if self.pid:
            with contextlib.suppress(OSError):  # a guard that was killed is missed only where the app is killed too
                os.write(self.pipe, what)


def start(terminal: int) -> Guard:
    """Fork the guard of a terminal. Call it before any thread is started: a fork copies only one of them."""
    try:
        before = termios.tcgetattr(terminal)
        read, write = os.pipe()
        pid = os.fork()
    except (OSError, termios.error):
        return Guard()
    if pid == 0:
        _guard(terminal, read, before)
    os.close(read)
    return Guard(pid=pid, pipe=write)


def _guard(terminal: int, pipe: int, before: list[Any]) -> NoReturn:
    """The life of the guard. Whatever goes wrong in it stays in it."""
    try:
        for number in _IGNORED:
            signal.signal(number, signal.SIG_IGN)
        os.setsid()
        _keep_two(terminal, pipe)
        with contextlib.suppress(OSError):
            Path("/proc/self/comm").write_text("cpadvisor-guard")
        if _last_word(_PIPE) == _HELD:
            restore(_TERMINAL, before)
    finally:
        os._exit(0)


def _keep_two(terminal: int, pipe: int) -> None:
    """The terminal as descriptor 0, the pipe as 1, all others closed."""
    terminal, pipe = os.dup(terminal), os.dup(pipe)
    os.dup2(terminal, _TERMINAL)
    os.dup2(pipe, _PIPE)
    os.closerange(2, os.sysconf("SC_OPEN_MAX"))


def _last_word(pipe: int) -> bytes:
    """What the app said last before the pipe was closed."""
    last = _WHOLE
    while said := os.read(pipe, 64):
        last = said[-1:]
    return last


def restore(terminal: int, before: list[Any]) -> None:
    """Undo what the app did to a terminal, in silence where the terminal has gone.

    The line settings are left alone where they are no longer the app's: then a
    shell was faster and has made its own.
    """
    with contextlib.suppress(OSError, termios.error):
        if not termios.tcgetattr(terminal)[3] & _RAW:
            termios.tcsetattr(terminal, termios.TCSANOW, before)
        os.write(terminal, RESTORE)
