"""What the files of an ended run say of its end: torchrun's table and log, error files, the ranks' last lines.

When one rank dies, torchrun ends the others and lists them all in its table, each with its exit status; its log
names the processes that it ended itself.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cpadvisor.errors import ConfigError
from cpadvisor.rundir import AGENT_LOG, CONFIG_FILE
from cpadvisor.watch.host import Space, space_of
from cpadvisor.watch.logs import clean_line, rank_log, tail_file, torchrun_files
from cpadvisor.yaml_reader import read_yaml

AGENT_LINES = 20_000
"""torchrun repeats the traceback of every rank, some 80 lines each, between what it ended itself and its root cause."""
RANK_LINES = 60

_ROW = re.compile(r"rank\s*:\s*(\d+) \(local_rank: \d+\)\s*\n\s*exitcode\s*:\s*(-?\d+)(?: \(pid: (\d+)\))?")
_CLOSED = re.compile(r"Sending process (\d+) closing signal")


@dataclass(frozen=True, slots=True, kw_only=True)
class RankFailure:
    """One row of torchrun's table of failures."""

    rank: int
    exit: int
    """Negative for a signal."""
    pid: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorFile:
    """error.json of one rank, which torch's @record writes where Python raised."""

    rank: int
    t: int
    """Unix seconds; 0 where it does not say."""
    message: str
    trace: tuple[str, ...] = ()
    """Lines of the traceback."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Clues:
    """Everything that is read from files once a run has ended. All texts are plain lines that no terminal obeys."""

    failures: tuple[RankFailure, ...] = ()
    """torchrun's table, its root cause last."""
    closed_pids: frozenset[int] = frozenset()
    """Processes that torchrun ended itself, because another had failed before."""
    errors: tuple[ErrorFile, ...] = ()
    """Earliest first."""
    agent_log: tuple[str, ...] = ()
    rank_logs: Mapping[int, tuple[str, ...]] = field(default_factory=lambda: dict[int, tuple[str, ...]]())
    config: Mapping[str, Any] = field(default_factory=lambda: dict[str, Any]())
    """The values of the config that ran; empty where it cannot be read."""
    space: Space | None = None
    """Of the run directory, now."""

    @property
    def first_failures(self) -> tuple[RankFailure, ...]:
        """Rows of ranks that torchrun did not end itself."""
        return tuple(row for row in self.failures if row.pid is None or row.pid not in self.closed_pids)


def read_clues(run_dir: Path, *, world: int) -> Clues:
    """Read what there is; a file that is missing, torn or of another shape says nothing."""
    agent_log = tail_file(run_dir / AGENT_LOG, lines=AGENT_LINES)
    return Clues(
        failures=table_rows(agent_log),
        closed_pids=frozenset(int(pid) for line in agent_log for pid in _CLOSED.findall(line)),
        errors=_error_files(run_dir),
        agent_log=agent_log,
        rank_logs={rank: _rank_lines(run_dir, rank) for rank in range(world)},
        config=_config(run_dir),
        space=space_of(run_dir),
    )


def table_rows(agent_log: tuple[str, ...]) -> tuple[RankFailure, ...]:
    """The rows of the table that torchrun prints when it gives up, its root cause last."""
    return tuple(
        RankFailure(rank=int(rank), exit=int(code), pid=int(pid) if pid else None)
        for rank, code, pid in _ROW.findall("\n".join(agent_log))
    )


def _rank_lines(run_dir: Path, rank: int) -> tuple[str, ...]:
    path = rank_log(run_dir, rank)
    return () if path is None else tail_file(path, lines=RANK_LINES)


def _error_files(run_dir: Path) -> tuple[ErrorFile, ...]:
    found = (_error_file(path) for path in torchrun_files(run_dir, "*/error.json"))
    return tuple(sorted((each for each in found if each is not None), key=lambda each: (each.t, each.rank)))


def _error_file(path: Path) -> ErrorFile | None:
    """`{"message": {"message": …, "extraInfo": {"timestamp": …, "py_callstack": …}}}`, or a text as the message."""
    try:
        message = json.loads(path.read_text())["message"]
        extra = {} if isinstance(message, str) else message["extraInfo"]
        told = message if isinstance(message, str) else message["message"]
        return ErrorFile(
            rank=int(path.parent.name),
            t=int(extra.get("timestamp", 0)),
            message=plain(told.strip().splitlines()[0]),
            trace=tuple(plain(line) for line in str(extra.get("py_callstack", "")).splitlines() if line.strip()),
        )
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError, OverflowError, RecursionError):
        return None


def plain(text: str) -> str:
    """One line of text that no terminal obeys."""
    return clean_line(text.encode(errors="replace"))


def _config(run_dir: Path) -> dict[str, Any]:
    path = run_dir / CONFIG_FILE
    try:
        return read_yaml(path.read_text(encoding="utf-8"), name=str(path))[0]
    except (OSError, UnicodeDecodeError, ConfigError):
        return {}
