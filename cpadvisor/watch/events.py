"""Events of one rank as they were written, by whatever version: what another one shares is read, and noted."""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from runtime.telemetry import VERSION

HEAD_BYTES = 256
"""The first event of a file names a process and a time: no two files begin alike."""


class Events(Protocol):
    """New events of one rank at each look, in their order."""

    @property
    def versions(self) -> set[str]:
        """Versions other than ours that were met."""
        ...

    @property
    def unread(self) -> int:
        """Whole lines that hold no event."""
        ...

    def poll(self) -> list[dict[str, Any]]:
        """What came since the last look."""
        ...


class EventFile:
    """Follows one file as it grows. A torn last line is left for the next look; a file in its place is read anew."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._head = b""
        """How the file began when it was first read. Some network file systems give it another inode at each look."""
        self.versions: set[str] = set()
        self.unread = 0

    def poll(self) -> list[dict[str, Any]]:
        """New whole events; none where there is no file yet, or it cannot be read."""
        found = (self._read(line) for line in self._new_lines())
        return [event for event in found if event is not None]

    def _new_lines(self) -> list[bytes]:
        try:
            with open(self._path, "rb", opener=_without_waiting) as file:
                self._begin_anew_where_replaced(file)
                file.seek(self._offset)
                data = file.read()
        except OSError:
            return []
        whole = data[: data.rfind(b"\n") + 1]
        if self._offset == 0:
            self._head = whole[:HEAD_BYTES]
        self._offset += len(whole)
        return whole.splitlines()

    def _begin_anew_where_replaced(self, file: BinaryIO) -> None:
        is_cut = os.fstat(file.fileno()).st_size < self._offset
        if is_cut or file.read(len(self._head)) != self._head:
            self._offset = 0

    def _read(self, line: bytes) -> dict[str, Any] | None:
        event = read_event(line)
        if event is None:
            self.unread += bool(line.strip())
        elif event.get("v") != VERSION:
            self.versions.add("none" if event.get("v") is None else str(event["v"]))
        return event


def _without_waiting(path: str, flags: int) -> int:
    """Opening a pipe would wait for its writer, and a look waits for nobody; no pipe holds events."""
    return os.open(path, flags | os.O_NONBLOCK)


def read_event(line: bytes) -> dict[str, Any] | None:
    """One line as an event of any version; None where it is torn or names no kind."""
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return event if isinstance(event, dict) and isinstance(event.get("kind"), str) else None


# Another version may keep something else under a name; what has another shape then counts as left out.


def number(event: Mapping[str, Any], key: str) -> float | None:
    """A finite number of an event."""
    value = event.get(key)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return whole(event, key)


def whole(event: Mapping[str, Any], key: str) -> int | None:
    """A whole number of an event, of at most 64 bits: longer ones fit in no float."""
    value = event.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 63 else None


def text(event: Mapping[str, Any], key: str) -> str | None:
    """A text of an event."""
    value = event.get(key)
    return value if isinstance(value, str) else None


def numbers(event: Mapping[str, Any], key: str) -> dict[str, float]:
    """A mapping of names to numbers; what is none is left out."""
    value = event.get(key)
    if not isinstance(value, dict):
        return {}
    return {name: found for name in value if (found := number(value, name)) is not None}
