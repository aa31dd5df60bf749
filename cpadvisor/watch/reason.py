"""Why a run ended: the first cause, not the peers that it took down.

When one rank dies, the others lose their connections to it and fail a moment later, and torchrun ends them; its
table lists them all. A signal that nobody of the run sends (a kill from outside, the kernel's out-of-memory killer)
comes first, then the earliest `end` event, the earliest error file, torchrun's own root cause with the last line
of that rank's log, and the last line of torchrun itself.
"""

import re
import signal
from collections.abc import Iterable, Iterator
from dataclasses import replace

from cpadvisor.processes import signal_name
from cpadvisor.rundir import CONFIG_FILE
from cpadvisor.watch.case import Case
from cpadvisor.watch.clues import RankFailure
from cpadvisor.watch.failure import KINDS, Failure
from cpadvisor.watch.mends import mended
from cpadvisor.watch.state import End
from cpadvisor.watch.wording import is_lost_connection, kind_of, signal_in, step_in

MAX_EVIDENCE = 10
LONGEST = 400
_LONGEST_EVIDENCE = 200

_NOISE = re.compile(r"[\s^~]*|\[[WI]\d{4} .*\[c10d\].*")
"""Blank lines, the marks under a traceback's code, and what torch's communication says by the way."""

_KILLS = (signal.SIGKILL, signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGTERM)
"""Signals that strike one rank alone; SIGABRT comes from NCCL's watchdog, to the peers of the rank that is late."""
_SHELL_BASE = 128
"""A shell's exit status for a command that a signal ended, and the trainer's own for SIGTERM."""


def root_cause(case: Case) -> Failure:
    """The first cause with its evidence, its mend and the command that mends it."""
    finders = (
        _killed,
        _launcher_signalled,
        _gone_in_silence,
        _first_end,
        _first_error_file,
        _launcher_killed,
        _full_disk,
        _last_words,
        _launcher_words,
    )
    found = next((failure for find in finders if (failure := find(case)) is not None), None) or _unknown(case)
    told = mended(found, case)
    evidence = shorten(line.replace(case.code, "") for line in told.evidence)
    return replace(told, headline=cut(told.headline, LONGEST), evidence=evidence)


def cut(text: str, length: int) -> str:
    """A text of at most so many characters; a longer one ends in an ellipsis."""
    return text if len(text) <= length else text[: length - 1] + "…"


def shorten(lines: Iterable[str]) -> tuple[str, ...]:
    """The last 10 lines that say anything."""
    return tuple(cut(line, _LONGEST_EVIDENCE) for line in lines if _NOISE.fullmatch(line) is None)[-MAX_EVIDENCE:]


def _killed(case: Case) -> Failure | None:
    for row in case.clues.first_failures:
        signum = _signal_of(row.exit)
        # Without its pid nobody can tell a rank that torchrun ended itself from one that another did.
        if signum in _KILLS and (signum != signal.SIGTERM or row.pid is not None):
            return _struck(case, row, signal.Signals(signum))
    return None


def _signal_of(status: int) -> int:
    """The signal behind an exit status, 0 for none: -9 and 137 are 9."""
    return -status if status < 0 else max(0, status - _SHELL_BASE)


def _struck(case: Case, row: RankFailure, signum: signal.Signals) -> Failure:
    by_kernel = signum == signal.SIGKILL and bool(case.oom_kills)
    hint = " from outside" if signum in (signal.SIGKILL, signal.SIGTERM) else ""
    if by_kernel:
        hint = ": the kernel killed it for want of host memory"
    elif signum == signal.SIGKILL and case.oom_kills is None:
        hint = ": killed from outside, or by the kernel for want of host memory"
    return Failure(
        kind="host_memory" if by_kernel else "killed",
        headline=f"rank {row.rank} was ended by {signum.name}{hint}",
        rank=row.rank,
        evidence=(
            f"torchrun: rank {row.rank}{_pid(row)} ended with exit status {row.exit}",
            *_around(case, row, signum),
        ),
    )


def _around(case: Case, row: RankFailure, signum: signal.Signals) -> Iterator[str]:
    """A crash may leave words in the rank's log; of a kill the kernel may know."""
    if signum in (signal.SIGKILL, signal.SIGTERM):
        yield from _kernel_lines(case)
    else:
        yield from _log_trace(case.clues.rank_logs.get(row.rank, ()))


def _pid(row: RankFailure) -> str:
    return "" if row.pid is None else f" (pid {row.pid})"


def _kernel_lines(case: Case) -> Iterator[str]:
    if case.oom_kills:
        yield f"the kernel killed {case.oom_kills} process(es) for want of memory while the run ran"
    elif case.oom_kills == 0:
        yield "the kernel killed no process for want of memory while the run ran"


def _gone_in_silence(case: Case) -> Failure | None:
    """A rank without a last word, whose peers lost their connection to it: torchrun was no more there to say so."""
    first = min((end for end in case.ends if end.state == "failed"), key=lambda end: end.t, default=None)
    silent = sorted(case.spoken - {end.rank for end in case.ends})
    if case.clues.failures or first is None or not silent or not is_lost_connection(first.reason or ""):
        return None
    return Failure(
        kind="killed",
        headline=f"rank {silent[0]} is gone without a word, and its peers lost their connection to it",
        rank=silent[0],
        evidence=(f"rank {first.rank}: {first.reason}", *_kernel_lines(case)),
    )


def _launcher_signalled(case: Case) -> Failure | None:
    """torchrun says which signal ended it, and passes it on; of SIGTERM the ranks that are far enough tell more."""
    signum = signal_in(case.clues.agent_log)
    if signum in (None, signal.SIGTERM) or case.clues.failures:
        return None
    return _launcher_end(case, int(signum or 0))


def _launcher_killed(case: Case) -> Failure | None:
    """A signal that no rank tells of: SIGTERM may come before they listen for it, and those of axolotl never do."""
    by_status = -case.exit if case.exit is not None and case.exit < 0 else None
    signum = by_status or signal_in(case.clues.agent_log)
    return None if signum is None or case.clues.failures else _launcher_end(case, signum)


def _launcher_end(case: Case, signum: int) -> Failure:
    status = "" if case.exit is None else f"torchrun's exit status is {case.exit}"
    return Failure(
        kind="launcher_killed",
        headline=f"torchrun was ended by {signal_name(signum)} from outside",
        evidence=tuple(filter(None, (status, *_kernel_lines(case)))),
    )


def _first_end(case: Case) -> Failure | None:
    failed = sorted((end for end in case.ends if end.state == "failed" and end.reason), key=lambda end: end.t)
    return _ended(case, failed[0]) if failed else None


def _ended(case: Case, end: End) -> Failure:
    first, *rest = (end.reason or "").splitlines()
    return Failure(
        kind=_kind_of_end(end),
        headline=f"rank {end.rank}: {first}",
        rank=end.rank,
        step=step_in(first) or end.step,
        evidence=tuple(rest) or _trace(case, end.rank),
    )


def _kind_of_end(end: End) -> str:
    """The trainer's own word, else what its reason tells; its refusal of a config begins with the config's path."""
    if end.kind in KINDS:
        return str(end.kind)
    text = end.reason or ""
    is_refusal = text.partition(":")[0].endswith(CONFIG_FILE)
    return kind_of(text) or ("config" if is_refusal else "exception")


def _trace(case: Case, rank: int) -> tuple[str, ...]:
    """The traceback of a rank: from its error file, else from the end of its log."""
    told = next((error.trace for error in case.clues.errors if error.rank == rank), ())
    return told or _log_trace(case.clues.rank_logs.get(rank, ()))


def _log_trace(lines: tuple[str, ...]) -> tuple[str, ...]:
    """The last traceback, else the last three lines that say anything."""
    starts = [place for place, line in enumerate(lines) if line.startswith("Traceback (most recent call last)")]
    return lines[starts[-1] :] if starts else shorten(lines)[-3:]


def _first_error_file(case: Case) -> Failure | None:
    if not case.clues.errors:
        return None
    first = case.clues.errors[0]
    return Failure(
        kind=kind_of(first.message) or "exception",
        headline=f"rank {first.rank}: {first.message}",
        rank=first.rank,
        step=step_in(first.message),
        evidence=first.trace,
    )


def _full_disk(case: Case) -> Failure | None:
    """Nobody said anything, and there is no space to say it in."""
    space = case.clues.space
    if space is None or not space.is_full:
        return None
    return Failure(
        kind="disk_full",
        headline=f"no rank could say why it ended, and the file system {space.place} has no space",
    )


def _last_words(case: Case) -> Failure | None:
    if not case.clues.failures:
        return None
    root = (case.clues.first_failures or case.clues.failures)[-1]
    lines = case.clues.rank_logs.get(root.rank, ())
    last = _last_line(lines)
    return Failure(
        kind=kind_of(last or "") or "exception",
        headline=f"rank {root.rank}: {last}" if last else f"rank {root.rank} ended with exit status {root.exit}",
        rank=root.rank,
        evidence=_log_trace(lines),
    )


def _launcher_words(case: Case) -> Failure | None:
    lines = _log_trace(case.clues.agent_log)
    last = _last_line(lines)
    if last is None:
        return None
    kind = next((kind for line in lines if (kind := kind_of(line)) is not None), "launcher")
    return Failure(kind=kind, headline=last, evidence=lines)


def _unknown(case: Case) -> Failure:
    if case.exit is None:
        return Failure(kind="lost", headline="no rank and no log says why")
    return Failure(kind="launcher", headline=f"the launcher ended with exit status {case.exit}")


def _last_line(lines: tuple[str, ...]) -> str | None:
    return next((line.strip() for line in reversed(lines) if line.strip()), None)
