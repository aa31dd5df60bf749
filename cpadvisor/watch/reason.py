"""Why a run ended: the first cause, not the peers that it took down.

When one rank dies, the others lose their connections to it and fail a moment later, and torchrun ends them; its
table lists them all. A signal that nobody of the run sends (a kill from outside, the kernel's out-of-memory killer)
comes first, then the earliest `end` event, the earliest error file, torchrun's own root cause with the last line
of that rank's log, and the last line of torchrun itself.
"""

import json
import re
import signal
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cpadvisor.rundir import AGENT_LOG, TORCHRUN_FOLDER
from cpadvisor.watch.logs import rank_log, tail_file
from cpadvisor.watch.state import End

_FAILURE = re.compile(r"rank\s*:\s*(\d+) \(local_rank: \d+\)\s*\n\s*exitcode\s*:\s*(-?\d+)")
_AGENT_LINES = 400
_LONGEST = 400

_KILLS = (signal.SIGKILL, signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE)
"""Signals that strike one rank alone; SIGTERM and SIGABRT come from torchrun and from NCCL's watchdog to its peers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RankFailure:
    """One row of torchrun's table of failures."""

    rank: int
    exit: int
    """Negative for a signal."""


def torchrun_failures(run_dir: Path) -> tuple[RankFailure, ...]:
    """The rows of the table that torchrun prints when it gives up, its root cause last."""
    text = "\n".join(tail_file(run_dir / AGENT_LOG, lines=_AGENT_LINES))
    return tuple(RankFailure(rank=int(rank), exit=int(code)) for rank, code in _FAILURE.findall(text))


def root_cause(run_dir: Path, *, ends: Iterable[End], failures: tuple[RankFailure, ...], exit: int | None) -> str:
    """One line that says why the run failed, with the rank that failed first."""
    found = (
        _killed(failures)
        or _first_end(ends)
        or _first_error_file(run_dir)
        or _agent_killed(exit, failures)
        or _last_words(run_dir, failures)
        or _agent_words(run_dir)
        or (f"the launcher ended with exit status {exit}" if exit is not None else "no rank and no log says why")
    )
    return found if len(found) <= _LONGEST else found[: _LONGEST - 1] + "…"


def _killed(failures: tuple[RankFailure, ...]) -> str | None:
    for failure in failures:
        if -failure.exit in _KILLS:
            name = signal.Signals(-failure.exit).name
            hint = ": killed from outside, or by the kernel for want of host memory" if name == "SIGKILL" else ""
            return f"rank {failure.rank} was ended by {name}{hint}"
    return None


def _first_end(ends: Iterable[End]) -> str | None:
    failed = sorted((end for end in ends if end.state == "failed"), key=lambda end: end.t)
    return next((f"rank {end.rank}: {end.reason}" for end in failed if end.reason), None)


def _first_error_file(run_dir: Path) -> str | None:
    """The earliest error.json of torch's @record: `{"message": {"message": …, "extraInfo": {"timestamp": …}}}`."""
    found: list[tuple[int, int, str]] = []
    for path in (run_dir / TORCHRUN_FOLDER).glob("*/attempt_*/*/error.json"):
        try:
            message = json.loads(path.read_text())["message"]
            text = message if isinstance(message, str) else message["message"]
            stamp = 0 if isinstance(message, str) else int(message["extraInfo"]["timestamp"])
            found.append((stamp, int(path.parent.name), text.strip().splitlines()[0]))
        except (OSError, ValueError, KeyError, TypeError, IndexError):
            continue
    if not found:
        return None
    _, rank, text = min(found)
    return f"rank {rank}: {text}"


def _agent_killed(exit: int | None, failures: tuple[RankFailure, ...]) -> str | None:
    if exit is None or exit >= 0 or failures:
        return None
    return f"torchrun was ended by {signal.Signals(-exit).name} from outside"


def _last_words(run_dir: Path, failures: tuple[RankFailure, ...]) -> str | None:
    if not failures:
        return None
    root = failures[-1]
    log = rank_log(run_dir, root.rank)
    line = _last_line(log) if log is not None else None
    return f"rank {root.rank}: {line}" if line else f"rank {root.rank} ended with exit status {root.exit}"


def _agent_words(run_dir: Path) -> str | None:
    return _last_line(run_dir / AGENT_LOG)


def _last_line(path: Path) -> str | None:
    return next((line.strip() for line in reversed(tail_file(path, lines=20)) if line.strip()), None)
