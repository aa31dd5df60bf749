"""Events of a run: one JSON line each, append only, a file a rank. Standard library only.

A line is written by one `write` of less than 4 kB, so a reader never sees half
of one line inside another. A torn last line is not an error: the reader leaves
it for the next look. A kind that the reader does not know is passed through;
callers skip what they do not use.
"""

import errno
import json
import math
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

VERSION = 1
MAX_LINE_BYTES = 4096

_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ESTALE)


def events_path(run_dir: Path, rank: int) -> Path:
    """The events file of one rank."""
    return run_dir / f"events-rank{rank}.jsonl"


class EventWriter:
    """Appends events of one rank. `emit` costs one system call and never waits for the disk."""

    def __init__(self, run_dir: Path, rank: int) -> None:
        self.path = events_path(run_dir, rank)
        self._seq = _next_seq(self.path)
        self._fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._counts_links = os.fstat(self._fd).st_nlink > 0

    def emit(self, kind: str, **fields: object) -> None:
        """Write one event. Numbers that are not finite become null: JSON has no NaN.

        Raises OSError where the line cannot be written whole, as on a full disk; then no part of it stays.
        """
        record = {"v": VERSION, "seq": self._seq, "t": time.time(), "mono": time.monotonic(), "kind": kind}
        line = encode({**record, **fields})
        rest = memoryview(line)
        try:
            while rest:
                rest = rest[os.write(self._fd, rest) :]
        except OSError:
            self._take_back(len(line) - len(rest))
            raise
        self._seq += 1

    def is_in_place(self) -> bool:
        """Whether the file still lies under its name; False once its folder was removed or moved.

        Inode numbers are not compared: some network file systems give a file another one at each look.
        """
        try:
            self.path.stat()
        except OSError as error:
            return error.errno not in _GONE
        return os.fstat(self._fd).st_nlink > 0 or not self._counts_links

    def close(self) -> None:
        """Close the file; emitting afterwards is an error."""
        os.close(self._fd)

    def _take_back(self, written: int) -> None:
        # A disk that fills up in the middle of a line takes its beginning; the next line must not be glued to it.
        if written:
            os.ftruncate(self._fd, os.fstat(self._fd).st_size - written)


def encode(record: dict[str, object]) -> bytes:
    """One record as a line under 4 kB; long texts are cut and marked with an ellipsis."""
    for keep in (3000, 1000, 300, 100):
        line = (json.dumps(_plain(record, keep), separators=(",", ":"), allow_nan=False) + "\n").encode()
        if len(line) < MAX_LINE_BYTES:
            return line
    raise ValueError(
        f"event {record.get('kind')!r} has {len(line)} bytes after cutting its texts; the limit is {MAX_LINE_BYTES}"
    )


def _plain(value: Any, keep: int) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return value if len(value) <= keep else value[: keep - 1] + "…"
    if isinstance(value, dict):
        return {str(key): _plain(item, keep) for key, item in cast(dict[Any, Any], value).items()}
    if isinstance(value, list | tuple):
        return [_plain(item, keep) for item in cast(list[Any], value)]
    return value


def _next_seq(path: Path) -> int:
    if not path.exists():
        return 0
    data = path.read_bytes()
    if data and not data.endswith(b"\n"):
        with path.open("ab") as file:
            file.write(b"\n")
    return data.count(b"\n")


def parse(line: bytes) -> dict[str, Any] | None:
    """One line as a record; None where it is torn, not an object, or of another version."""
    try:
        record = json.loads(line)
    except ValueError:
        return None
    if not isinstance(record, dict):
        return None
    fields = cast(dict[str, Any], record)
    return fields if fields.get("v") == VERSION and isinstance(fields.get("kind"), str) else None


class EventReader:
    """Follows one file: each `poll` gives the records that came since the last one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def poll(self) -> Iterator[dict[str, Any]]:
        """New whole records in order. A file that is not there yet gives none."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            return
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.splitlines():
            record = parse(line)
            if record is not None:
                yield record
