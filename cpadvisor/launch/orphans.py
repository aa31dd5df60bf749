"""Runs whose directory is gone while their processes live, found by the mark that every process of a run inherits.

Nothing but the processes themselves can be asked: their environment names the
run and their rank, their start times tell how long they live.
"""

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cpadvisor.launch.jobfile import SIZE_KEYS
from cpadvisor.launch.keeper import RUN_VARIABLE
from cpadvisor.plan.layout import Layout
from cpadvisor.processes import PROC, ProcessId, environment, is_alive, marked, started_at
from cpadvisor.rundir import RUN_FILE, is_file, shell_name
from cpadvisor.watch.failure import Failure
from cpadvisor.watch.view import RankView, RunView

_NAME = re.compile(r"\d{8}T\d{6}Z-(?P<model>.+)-(?P<layout>\d+x\d+x\d+x\d+)(?:-\d+)?")
"""As `rundir.create_run` makes it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Orphan:
    """The living processes of one run that has no record any more."""

    directory: Path
    """Where the run directory stood."""
    processes: frozenset[ProcessId]
    ranks: Mapping[int, ProcessId] = field(default_factory=lambda: dict[int, ProcessId]())
    agent: ProcessId | None = None
    """torchrun's process: the oldest that has no rank. None where only ranks are left."""
    world: int = 1

    @property
    def run(self) -> str:
        """The name of the run."""
        return self.directory.name


def find_orphans(root: Path) -> tuple[Orphan, ...]:
    """Living runs that stood in this folder and whose record is gone, oldest first."""
    found = [
        _orphan(Path(value), processes)
        for value, processes in marked(RUN_VARIABLE).items()
        if Path(value).parent == root and _has_vanished(Path(value), processes)
    ]
    return tuple(sorted(found, key=lambda orphan: orphan.run))


def orphan_at(directory: Path) -> Orphan | None:
    """What lives of the run of this directory, whose record is gone or cannot be read; None where nothing does."""
    processes = marked(RUN_VARIABLE).get(str(directory))
    return None if processes is None else _orphan(directory, processes)


def find_orphan(root: Path, name: str) -> Orphan | None:
    """The one whose name is, or alone begins with, `name`, or whose directory stood at that path."""
    if "/" in name:
        directory = Path(name).expanduser().absolute()
        return next((orphan for orphan in find_orphans(directory.parent) if orphan.directory == directory), None)
    orphans = find_orphans(root)
    exact = [orphan for orphan in orphans if orphan.run == name]
    matches = exact or [orphan for orphan in orphans if name and orphan.run.startswith(name)]
    return matches[0] if len(matches) == 1 else None


def orphan_view(orphan: Orphan, *, stopped: bool = False) -> RunView:
    """What can be told of it: running while a process lives; afterwards stopped where that was asked, else lost."""
    living = frozenset(process for process in orphan.processes if is_alive(process))
    failure = _failure(orphan, living)
    named = _NAME.fullmatch(orphan.run)
    layout = dict(zip(SIZE_KEYS, map(int, named["layout"].split("x")), strict=True)) if named else {}
    started = min(filter(None, map(started_at, orphan.processes)), default=time.time())
    return RunView(
        run=orphan.run,
        directory=orphan.directory,
        state="running" if living else "stopped" if stopped else "lost",
        reason=failure.headline,
        failure=failure,
        model=named["model"] if named else None,
        layout=layout,
        layout_label=Layout(**layout).label,
        world=orphan.world,
        started=started,
        elapsed_s=max(0.0, time.time() - started),
        ranks=tuple(
            RankView(rank=rank, pid=process.pid, alive=process in living)
            for rank, process in sorted(orphan.ranks.items())
        ),
    )


class OrphanMonitor:
    """Follows one orphan, in the shape of `watch.monitor.Monitor`."""

    def __init__(self, orphan: Orphan) -> None:
        self._orphan = orphan

    def poll(self) -> RunView:
        """It as it is now."""
        return orphan_view(self._orphan)


def _has_vanished(directory: Path, processes: frozenset[ProcessId]) -> bool:
    """Whether the record is neither where it was written nor where one of the processes works.

    A directory that was moved, or lies in a container of its own, is still a process's working directory.
    """
    places = (directory, *(PROC / str(process.pid) / "cwd" for process in processes))
    return not any(is_file(place / RUN_FILE) for place in places)


def _orphan(directory: Path, processes: frozenset[ProcessId]) -> Orphan:
    ranks: dict[int, ProcessId] = {}
    agent: ProcessId | None = None
    world = 1
    for process in sorted(processes, key=lambda process: process.start_ticks):
        told = environment(process)
        if told.get("RANK", "").isdecimal():
            ranks.setdefault(int(told["RANK"]), process)  # what a rank started is younger than the rank
            world = int(told["WORLD_SIZE"]) if told.get("WORLD_SIZE", "").isdecimal() else world
        elif agent is None:
            agent = process
    return Orphan(directory=directory, processes=processes, ranks=ranks, agent=agent, world=max(world, len(ranks)))


def _failure(orphan: Orphan, living: frozenset[ProcessId]) -> Failure:
    is_there = is_file(orphan.directory / RUN_FILE)
    what = f"its record {RUN_FILE} cannot be read" if is_there else "the run directory has vanished"
    where = f"{'it is' if is_there else 'it stood'} at {orphan.directory}"
    kind = "unreadable" if is_there else "vanished"
    if not living:
        return Failure(kind=kind, headline=what, evidence=(where,))
    pids = ", ".join(str(process.pid) for process in sorted(living))
    kept = (
        "its events, logs and checkpoints are still there"
        if is_there
        else "its figures, logs and checkpoints have gone with the directory"
    )
    return Failure(
        kind=kind,
        headline=f"{what} while the processes of the run go on",
        evidence=(where, f"processes {pids} carry its name"),
        mend=f"{'end it, or mend the file' if is_there else 'end it'}: {kept}",
        command=f"cpadvisor stop {shell_name(orphan.directory)}",
    )
