"""What a rank tells the outside: events, one line a step, and how it ended, exactly once.

SIGTERM is answered by a thread of its own, because the main thread may hang in
a collective for ever: it writes the `end` event and leaves at once.

A run whose disk is full, or whose directory was taken away, ends here with an
error in words. The last words are written into the space of the ballast. A
directory that is gone is not made again: nobody would look for the run there,
and a training that nobody can watch, stop or resume holds its GPUs for nothing.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from runtime import disk
from runtime.progress import Progress
from runtime.telemetry import EventWriter, events_path

HEARTBEAT_S = 5.0
SIGTERM_STATUS = 128 + signal.SIGTERM
"""Exit status by the shell's convention for a process that a signal ended."""


class Reporter:
    """Events of one rank. `end` never fails; the rest raises TrainerError where nothing can be written."""

    def __init__(self, run_dir: Path, *, rank: int) -> None:
        self._run_dir = run_dir
        try:
            run_dir.mkdir(parents=True, exist_ok=True)
            self._events = EventWriter(run_dir, rank)
        except OSError as error:
            raise disk.failure(error, events_path(run_dir, rank)) from error
        self._lock = threading.RLock()
        self._ended = False
        self._last = 0.0
        self._rank = rank
        self.progress = Progress()
        self.step = 0
        """The last finished step, from 1."""

    def emit(self, kind: str, **fields: object) -> None:
        """Write one event, unless the end was written."""
        with self._lock:
            if self._ended:
                return
            self.check_place()
            try:
                self._events.emit(kind, **fields)
            except OSError as error:
                self._cannot_write(error, self._events.path)
            self._last = time.monotonic()

    def check_place(self) -> None:
        """Raise VanishedError where the run directory was taken away; what is written next would make it again."""
        if not self._events.is_in_place():
            self._ended = True
            raise disk.vanished(self._run_dir)

    def heartbeat(self) -> None:
        """Say that the main thread came by, if nothing was said for some seconds."""
        if time.monotonic() - self._last > HEARTBEAT_S:
            self.emit("heartbeat", step=self.step)

    def warn(self, rule: str, message: str) -> None:
        """A warning event, on standard output too from rank 0."""
        self.emit("warning", rule=rule, message=message)
        self.say(f"warning: {message}")

    def say(self, line: str) -> None:
        """One line on standard output, from rank 0 alone."""
        if self._rank != 0:
            return
        try:
            print(line, flush=True)
        except OSError as error:
            where = _where_output_goes()
            disk.silence(sys.stdout)
            self._cannot_write(error, where)

    def end(self, state: str, reason: str | None = None, **facts: object) -> None:
        """The last event: done, failed or stopped; a failure's `cause` is its kind. Nothing is written after it.

        `step` is the last that was finished, `in_step` the one under way.
        """
        with self._lock:
            if self._ended:
                return
            self._ended = True
            told = {"state": state, "reason": reason, "step": self.step, "in_step": self.progress.step, **facts}
            try:
                self._events.emit("end", **told)
            except OSError:
                disk.drop_ballast(self._run_dir)
                with suppress(OSError):  # without space for a line of its own it is told by the exit status alone
                    self._events.emit("end", **told)

    def _cannot_write(self, error: OSError, path: Path) -> NoReturn:
        failure = disk.failure(error, path)
        disk.drop_ballast(self._run_dir)
        self.end("failed", str(failure), cause=failure.kind)
        raise failure from error

    def stop_on_sigterm(self, clean_up: Callable[[], None] = lambda: None) -> None:
        """From now on SIGTERM writes `end` stopped, cleans up and ends the process. The main thread calls it."""
        readable, writable = os.pipe()
        os.set_blocking(writable, False)
        # Python's own handler writes the signal's number here at once, whatever the main thread does.
        signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, lambda *_: None)
        threading.Thread(target=self._await_sigterm, args=(readable, clean_up), name="sigterm", daemon=True).start()

    def _await_sigterm(self, readable: int, clean_up: Callable[[], None]) -> None:
        while signal.SIGTERM not in os.read(readable, 16):
            pass
        self.end("stopped", f"SIGTERM at step {self.step}")
        clean_up()
        os._exit(SIGTERM_STATUS)


def _where_output_goes() -> Path:
    """The file that standard output is redirected to, as the kernel names it."""
    with suppress(OSError, ValueError):
        return Path(f"/proc/self/fd/{sys.stdout.fileno()}").readlink()
    return Path("standard output")
