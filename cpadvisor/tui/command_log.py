"""What the app did, as the headless commands that do the same: kept in memory and in a file of the user's alone.

A command stands in the log from its start; when it ends, it gets its outcome
and one line in the file. Threads of the app write, its screen reads.
"""

import contextlib
import os
import time
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock

from cpadvisor.errors import WriteError
from cpadvisor.rundir import read_existing, state_root, write_atomically

MOST_ENTRIES = 500
MOST_BYTES = 256 * 1024
"""A file that has grown beyond it loses its older half."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One thing that the app did."""

    command: str
    started_at: float
    """Unix seconds."""
    seconds: float | None = None
    """How long it took; None while it is under way."""
    problem: str | None = None
    """Why it failed."""


def log_path() -> Path:
    """Where the log is kept."""
    return state_root() / "commands.log"


class CommandLog:
    """The log of one app. Without a path it is kept in memory alone, as a read-only app keeps it."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._entries: dict[int, Entry] = {}
        self._begun = 0
        self._lock = Lock()

    @property
    def entries(self) -> tuple[Entry, ...]:
        """Oldest first."""
        with self._lock:
            return tuple(self._entries.values())

    def begin(self, command: str) -> int:
        """A command has begun; the number by which it is ended."""
        with self._lock:
            self._begun += 1
            self._entries[self._begun] = Entry(command=command, started_at=time.time())
            while len(self._entries) > MOST_ENTRIES:
                del self._entries[next(iter(self._entries))]
            return self._begun

    def end(self, number: int, problem: str | None = None) -> None:
        """It has ended, well or with a problem."""
        with self._lock:
            entry = self._entries.get(number)
            if entry is None:
                return
            ended = replace(entry, seconds=max(time.time() - entry.started_at, 0.0), problem=problem)
            self._entries[number] = ended
            if self._path is not None:
                with contextlib.suppress(OSError, WriteError):  # the log is no reason to stop anything
                    _append(self._path, line_of(ended) + "\n")


def line_of(entry: Entry) -> str:
    """`2026-11-23T10:11:12Z  ok  0.3 s  cpadvisor stop 2026…`; a problem follows in the same line."""
    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(entry.started_at))
    outcome = "ok" if entry.problem is None else "failed"
    told = "" if entry.problem is None else "  # " + " ".join(entry.problem.split())
    return f"{when}  {outcome}  {entry.seconds or 0.0:.1f} s  {entry.command}{told}"


def _append(path: Path, line: str) -> None:
    """One write at the end of a file of mode 0600; two apps may do so at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        os.fchmod(file, 0o600)
        os.write(file, line.encode(errors="replace"))
        size = os.fstat(file).st_size
    finally:
        os.close(file)
    if size > MOST_BYTES:
        lines = (read_existing(path) or "").splitlines(keepends=True)
        write_atomically(path, "".join(lines[len(lines) // 2 :]))
