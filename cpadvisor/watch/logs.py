"""The end of a log, without reading the whole of it, as plain lines that no terminal obeys."""

import os
import re
from pathlib import Path

from cpadvisor.rundir import AGENT_LOG, TORCHRUN_FOLDER, is_file, log_path, stat_of

MAX_LINE = 1000
"""Characters of a line; a longer one is cut and ends in an ellipsis."""
MAX_READ_BYTES = 4 << 20
_BLOCK_BYTES = 64 << 10

_ESCAPES = re.compile(
    r"\x1b\][^\x07\x1b]*(?:\x07|\x1b\\|$)"  # operating system commands: titles, clipboard, links
    r"|\x1b[PX^_][^\x1b]*(?:\x1b\\|$)"  # device control and private strings
    r"|(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?"  # colours and cursor moves
    r"|\x1b[ -/]*[0-~]?"
)
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def clean_line(raw: bytes) -> str:
    """One line as text: escape codes, control and direction characters removed, tabs as blanks.

    A progress bar redraws its line with carriage returns; what it drew last is kept. `b"10%\\r100%"` is `100%`.
    """
    text = raw.decode("utf-8", errors="replace").rstrip("\r")
    drawn = _ESCAPES.sub("", text).rsplit("\r", 1)[-1]
    plain = _CONTROLS.sub("", drawn.expandtabs(8))
    return plain if len(plain) <= MAX_LINE else plain[: MAX_LINE - 1] + "…"


def tail_file(path: Path, *, lines: int) -> tuple[str, ...]:
    """The last lines of a file, read backwards in blocks and never more than 4 MiB; none where there is no file."""
    if lines < 1:
        return ()
    try:
        with path.open("rb") as file:
            position = file.seek(0, os.SEEK_END)
            oldest = max(0, position - MAX_READ_BYTES)
            data = b""
            while position > oldest and data.count(b"\n") <= lines:
                start = max(oldest, position - _BLOCK_BYTES)
                file.seek(start)
                data = file.read(position - start) + data
                position = start
    except OSError:
        return ()
    rows = data.split(b"\n")
    if rows[-1] == b"":
        rows.pop()
    return tuple(clean_line(row) for row in rows[-lines:])


def torchrun_files(run_dir: Path, pattern: str) -> tuple[Path, ...]:
    """What torchrun keeps of each rank, by a pattern below its attempt; none where this user may not look."""
    try:
        return tuple((run_dir / TORCHRUN_FOLDER).glob(f"*/attempt_*/{pattern}"))
    except OSError:
        return ()


def rank_log(run_dir: Path, rank: int) -> Path | None:
    """Where a rank's output lies: `log-rank<R>.txt`; for axolotl, which starts torchrun itself, torchrun's own files.

    Of those the newest that is not empty counts: torchrun keeps standard output and standard error apart.
    """
    own = log_path(run_dir, rank)
    if is_file(own):
        return own
    found = [
        (told.st_mtime, path)
        for path in torchrun_files(run_dir, f"{rank}/std*.log")
        if (told := stat_of(path)) is not None and told.st_size
    ]
    return max(found)[1] if found else None


def log_times(run_dir: Path) -> dict[int | None, float]:
    """When each rank last printed something (unix seconds), by its number, and torchrun, under None.

    It is all that tells of ranks that write no events, which print into torchrun's own files.
    """
    rows: list[tuple[int | None, Path]] = [(None, run_dir / AGENT_LOG)]
    found = torchrun_files(run_dir, "*/std*.log")
    rows += [(int(path.parent.name), path) for path in found if path.parent.name.isdecimal()]
    times: dict[int | None, float] = {}
    for rank, path in rows:
        told = stat_of(path)
        if told is not None and told.st_size:
            times[rank] = max(told.st_mtime, times.get(rank, 0.0))
    return times


def tail(run_dir: Path, rank: int | None, lines: int) -> tuple[str, ...]:
    """The last lines that a rank printed; with rank None those of torchrun."""
    path = run_dir / AGENT_LOG if rank is None else rank_log(run_dir, rank)
    return () if path is None else tail_file(path, lines=lines)
