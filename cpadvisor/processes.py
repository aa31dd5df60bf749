"""A process is its number and the tick it started at, so that a number used again is never taken for it.

Everything here reads Linux's /proc. A process that has ended but was not yet
collected by its parent (a zombie) counts as gone.
"""

import os
import signal
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
HALTED_STATES = ("T", "t")
"""Stopped by a signal such as SIGSTOP; held by a debugger (proc(5))."""
_ZOMBIE_STATES = ("Z", "X")


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class ProcessId:
    """One process of this boot."""

    pid: int
    start_ticks: int
    """Clock ticks from boot to its start: field 22 of /proc/<pid>/stat."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessStat:
    """What /proc/<pid>/stat says of a process that exists."""

    process: ProcessId
    parent: int
    state: str


def parse_stat(text: str) -> ProcessStat | None:
    """One line of /proc/<pid>/stat; None where it is cut short.

    The command stands in brackets and may hold blanks and brackets itself, so the fields are counted from
    the last bracket: state is the first behind it, parent the second, start time the twentieth.
    """
    before, _, after = text.rpartition(")")
    fields = after.split()
    if not before or len(fields) < 20:
        return None
    pid = int(before.split(" ", 1)[0])
    return ProcessStat(process=ProcessId(pid=pid, start_ticks=int(fields[19])), parent=int(fields[1]), state=fields[0])


def read_stat(pid: int) -> ProcessStat | None:
    """The process that has this number now; None where there is none, or only a zombie."""
    try:
        stat = parse_stat((PROC / str(pid) / "stat").read_text(errors="replace"))
    except OSError:
        return None
    return None if stat is None or stat.state in _ZOMBIE_STATES else stat


def identify(pid: int) -> ProcessId | None:
    """The process that has this number now."""
    stat = read_stat(pid)
    return None if stat is None else stat.process


def is_alive(process: ProcessId) -> bool:
    """Whether this very process still runs: same number, same start."""
    return identify(process.pid) == process


def state_of(process: ProcessId) -> str | None:
    """The letter of /proc/<pid>/stat for this very process, such as R, S, D or one of HALTED_STATES; None once gone."""
    stat = read_stat(process.pid)
    return stat.state if stat is not None and stat.process == process else None


def all_stats() -> Iterator[ProcessStat]:
    """Every process that this user may see."""
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            stat = read_stat(int(entry.name))
            if stat is not None:
                yield stat


def descendants(roots: Iterable[ProcessId]) -> frozenset[ProcessId]:
    """Living children of the living roots, their children, and so on; the roots themselves are left out."""
    stats = tuple(all_stats())
    found = {root.pid for root in roots if is_alive(root)}
    below: set[ProcessId] = set()
    grew = True
    while grew:
        grew = False
        for stat in stats:
            if stat.parent in found and stat.process.pid not in found:
                found.add(stat.process.pid)
                below.add(stat.process)
                grew = True
    return frozenset(below)


def environment(process: ProcessId) -> Mapping[str, str]:
    """The environment that a process was started with; empty where it is gone or belongs to another user."""
    try:
        entries = (PROC / str(process.pid) / "environ").read_bytes().split(b"\0")
    except OSError:
        return {}
    pairs = (os.fsdecode(entry).partition("=") for entry in entries if b"=" in entry)
    return {name: value for name, _, value in pairs}


def marked(variable: str) -> Mapping[str, frozenset[ProcessId]]:
    """Living processes, this one left out, whose environment has `variable`, by its value."""
    found: dict[str, frozenset[ProcessId]] = {}
    for stat in all_stats():
        value = environment(stat.process).get(variable)
        if value is not None and stat.process.pid != os.getpid():
            found[value] = found.get(value, frozenset()) | {stat.process}
    return found


def carrying(variable: str, value: str) -> frozenset[ProcessId]:
    """Living processes, this one left out, whose environment has `variable=value`.

    The environment is inherited, so this finds processes that left their session and lost their parent.
    """
    wanted = os.fsencode(f"{variable}={value}")
    found: set[ProcessId] = set()
    for stat in all_stats():
        try:
            entries = (PROC / str(stat.process.pid) / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if wanted in entries and stat.process.pid != os.getpid():
            found.add(stat.process)
    return frozenset(found)


def started_at(process: ProcessId) -> float | None:
    """Unix seconds at which a process started; None where the kernel does not say when it was booted."""
    try:
        lines = (PROC / "stat").read_text().splitlines()
    except OSError:
        return None
    booted = next((int(line.split()[1]) for line in lines if line.startswith("btime ")), None)
    return None if booted is None else booted + process.start_ticks / os.sysconf("SC_CLK_TCK")


def send(process: ProcessId, signum: signal.Signals) -> bool:
    """Signal this very process; False where it is gone. A number that was given to another is never signalled.

    The descriptor pins the process before its start time is compared, which closes the gap between look and kill.
    """
    try:
        pinned = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return False
    except OSError:  # kernels before 5.3 and some sandboxes have no pidfd
        return _send_by_number(process, signum)
    try:
        if not is_alive(process):
            return False
        signal.pidfd_send_signal(pinned, signum)
    except ProcessLookupError:
        return False
    finally:
        os.close(pinned)
    return True


def _send_by_number(process: ProcessId, signum: signal.Signals) -> bool:
    if not is_alive(process):
        return False
    try:
        os.kill(process.pid, signum)
    except ProcessLookupError:
        return False
    return True


def signal_name(number: int) -> str:
    """`SIGSEGV`; the realtime signals between the first and the last have no name of their own in Python."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
