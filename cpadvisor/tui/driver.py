"""Textual's driver for a terminal that is not lost: guarded, alone on the screen, and calm when the terminal goes."""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from typing import Any, TextIO, cast

from textual.app import App
from textual.drivers.linux_driver import LinuxDriver

from cpadvisor.tui.guard import Guard


class TerminalDriver(LinuxDriver):
    """Draws to a file of its own and tells the guard when the terminal is changed and when it is whole."""

    def __init__(self, app: App[Any], *, guard: Guard, output: "Output", **options: Any) -> None:
        super().__init__(app, **options)
        self._file = cast(TextIO, output)
        self._guard = guard

    def start_application_mode(self) -> None:
        """Take the terminal."""
        self._guard.hold()
        super().start_application_mode()

    def close(self) -> None:
        """Give it back: what undoes the changes has been written when this returns."""
        super().close()
        self._guard.release()

    def _get_terminal_size(self) -> tuple[int, int]:
        # Textual asks standard output, which leads aside while the app draws.
        try:
            size = os.get_terminal_size(self._file.fileno())
        except OSError:
            return 80, 24
        return size.columns or 80, size.lines or 24


class Output:
    """The terminal as a text file that never raises: what cannot be written any more is dropped.

    Textual writes from a thread that an error would end, and then waits for it
    for ever. A terminal that has gone is told to the app as SIGHUP, once.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._waiting: list[str] = []
        self._gone = False

    def fileno(self) -> int:
        """The terminal's descriptor."""
        return self._descriptor

    def isatty(self) -> bool:
        """Whether the descriptor is a terminal."""
        return os.isatty(self._descriptor)

    def write(self, text: str) -> int:
        """Keep the text for the next flush."""
        self._waiting.append(text)
        return len(text)

    def flush(self) -> None:
        """Write what is kept."""
        data = "".join(self._waiting).encode(errors="replace")
        self._waiting.clear()
        while data and not self._gone:
            try:
                data = data[os.write(self._descriptor, data) :]
            except OSError:
                self._gone = True
                os.kill(os.getpid(), signal.SIGHUP)


class Aside:
    """What libraries and children write to descriptors 1 and 2 while the app draws; it would tear the screen."""

    def __init__(self) -> None:
        self.text = ""

    @contextlib.contextmanager
    def taking(self) -> Iterator[Output]:
        """The terminal for the app alone; afterwards `text` holds what was written meanwhile."""
        terminal = os.dup(1 if os.isatty(1) else 2)
        kept = (os.dup(1), os.dup(2))
        file = os.memfd_create("cpadvisor-aside")
        _flush()
        os.dup2(file, 1)
        os.dup2(file, 2)
        try:
            yield Output(terminal)
        finally:
            _flush()
            for descriptor, was in enumerate(kept, start=1):
                os.dup2(was, descriptor)
                os.close(was)
            os.close(terminal)
            os.lseek(file, 0, os.SEEK_SET)
            with open(file, encoding="utf-8", errors="replace") as read:  # noqa: PTH123 - a descriptor, not a path
                self.text = read.read()


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
