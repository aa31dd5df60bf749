"""What the Runs screen calls, in a thread: the list, one run in full, two side by side, a replay, resume, delete."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from cpadvisor.errors import LaunchError
from cpadvisor.tui.history import Compared, Entry, History, ReplayState
from cpadvisor.tui.session import Live, Recalled

if TYPE_CHECKING:
    from cpadvisor.launch.orphans import OrphanMonitor
    from cpadvisor.watch.monitor import Monitor

LOG_LINES = 400
FEW = 20
"""Runs that are read between two records, when there are many and the list is read for the first time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A run to follow from the start, None without one."""

    directory: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Deleted:
    """A run that is gone."""

    directory: Path


class RunWork:
    """The history of runs as the headless commands see it."""

    _runs: Path | None = None
    _python: str | None = None
    _reader: "RunsReader | None" = None

    def histories(self) -> Iterator[History]:
        """The list of runs; where much has to be read, first what is read so far. One thread at a time."""
        from cpadvisor.rundir import runs_root

        if self._reader is None:
            self._reader = RunsReader(runs_root(self._runs))
        return self._reader.looks()

    def living_run(self) -> Path | None:
        """The newest run that lives, None without one."""
        from cpadvisor.rundir import EXIT_FILE, list_runs, runs_root

        newest = reversed(list_runs(runs_root(self._runs)))
        unended = (directory for directory in newest if not (directory / EXIT_FILE).exists())
        return next((directory for directory in islice(unended, FEW) if _lives(directory)), None)

    def look(self, run_dir: Path, rank: int) -> Live:
        """One look at a run, with the end of one rank's log."""
        from cpadvisor.launch.waiting import look, open_monitor
        from cpadvisor.watch.logs import tail

        return Live(view=look(open_monitor(run_dir)), log=tail(run_dir, rank, LOG_LINES), rank=rank)

    def recall(self, run_dir: Path, rank: int) -> Recalled:
        """A run that has ended, as it stands on disk."""
        return Recalled(directory=run_dir, live=self.look(run_dir, rank))

    def player(self, run_dir: Path) -> "Player":
        """What shows a run again."""
        return Player(run_dir)

    def compare(self, first: Path, second: Path) -> Compared:
        """Two runs and what sets their configs apart."""
        from cpadvisor.watch.compare import compare_runs
        from cpadvisor.watch.monitor import Monitor

        views = (Monitor(first).poll(), Monitor(second).poll())
        return Compared(comparison=compare_runs(*views, _config_text(first), _config_text(second)))

    def delete(self, run_dir: Path) -> Deleted:
        """Delete a run that has ended. Raises LaunchError for one that lives."""
        from cpadvisor import launch

        launch.remove(run_dir)
        return Deleted(directory=run_dir)

    def resume(self, run_dir: Path) -> Path:
        """Go on with a run that ended."""
        from cpadvisor import launch

        return launch.resume(run_dir, python=self._python)


class Player:
    """Shows a run again, at any instant of it."""

    def __init__(self, run_dir: Path) -> None:
        """Raises LaunchError where the directory holds no run."""
        from cpadvisor.watch.replay import Replay

        self._run_dir = run_dir
        self._replay = Replay(run_dir)
        self.length_s = self._replay.duration_s

    def frame(self, state: ReplayState) -> Recalled:
        """The run as it stood then; its logs, which tell no times, as they are now."""
        from cpadvisor.watch.logs import tail

        log = tail(self._run_dir, state.rank, LOG_LINES)
        live = Live(view=self._replay.at(state.at_s), log=log, rank=state.rank)
        return Recalled(directory=self._run_dir, live=live, replay=state)


@dataclass(slots=True)
class _Known:
    """One run as it was last seen."""

    monitor: "Monitor | OrphanMonitor"
    entry: Entry
    stamp: tuple[int, ...]


class RunsReader:
    """Looks at every run of a folder; a run that has ended is read again only where its files have changed."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._known: dict[Path, _Known] = {}

    def looks(self) -> Iterator[History]:
        """One or more records, the last one whole."""
        from cpadvisor.launch import find_orphans
        from cpadvisor.rundir import list_runs

        orphans = tuple(orphan.directory for orphan in find_orphans(self._root))
        directories = (*orphans, *reversed(list_runs(self._root)))
        self._known = {path: known for path, known in self._known.items() if path in directories}
        entries: list[Entry] = []
        unread = 0
        for directory in directories:
            unread += directory not in self._known
            entries.append(self._entry(directory))
            if unread == FEW:
                unread = 0
                yield History(root=self._root, seen_at=time.time(), entries=tuple(entries))
        yield History(root=self._root, seen_at=time.time(), entries=tuple(entries))

    def _entry(self, directory: Path) -> Entry:
        from cpadvisor.launch.waiting import look, open_monitor
        from cpadvisor.watch.figures import measured

        known, stamp = self._known.get(directory), _stamp(directory)
        if known is not None and known.stamp == stamp and not known.entry.is_alive:
            return known.entry
        try:
            monitor = known.monitor if known is not None else open_monitor(directory)
            view = look(monitor)
        except LaunchError as error:
            return Entry(directory=directory, problem=str(error))
        entry = Entry(directory=directory, view=view, figures=measured(view))
        self._known[directory] = _Known(monitor=monitor, entry=entry, stamp=stamp)
        return entry


def _lives(directory: Path) -> bool:
    from cpadvisor.watch.monitor import Monitor

    try:
        return not Monitor(directory).poll().is_final
    except LaunchError:
        return False


def _config_text(directory: Path) -> str | None:
    from cpadvisor.rundir import CONFIG_FILE

    try:
        return (directory / CONFIG_FILE).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None


def _stamp(directory: Path) -> tuple[int, ...]:
    """What changes when a run does: its files come, go and are replaced, or its first rank speaks."""
    from runtime.telemetry import events_path

    times: list[int] = []
    for path in (directory, events_path(directory, 0)):
        try:
            times.append(path.stat().st_mtime_ns)
        except OSError:
            times.append(0)
    return tuple(times)
