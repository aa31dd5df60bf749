"""Where a look at a run gets its facts: the clock, the files of the run, this host's processes, the ranks' doors.

A replay takes another set of the same shape, so that one monitor judges both.
"""

import json
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from cpadvisor.errors import LaunchError
from cpadvisor.processes import ProcessId, state_of
from cpadvisor.rundir import EXIT_FILE, RUN_FILE, boot_id, kept_step, stat_of
from cpadvisor.runrecord import RunRecord, read_record
from cpadvisor.watch.clues import Clues, read_clues
from cpadvisor.watch.door import Answer, Doors
from cpadvisor.watch.events import EventFile, Events, number
from cpadvisor.watch.logs import log_times
from runtime.telemetry import events_path


class Sources:
    """The world as it is now."""

    def __init__(self, run_dir: Path, *, clock: Callable[[], float] = time.time) -> None:
        """Raises LaunchError where the directory holds no run, or a record that cannot be read."""
        self.run_dir = run_dir
        self._clock = clock
        self._record = read_record(run_dir)
        self._stamp = _stamp(run_dir / RUN_FILE)
        self.problem: str | None = None
        """Why the record cannot be read now; the one that was read before then holds."""
        self._doors = Doors()

    @property
    def record(self) -> RunRecord:
        """The record as it was last read."""
        return self._record

    def refresh(self) -> bool:
        """Read the record again where it was replaced, or names no torchrun yet; False where the run has vanished."""
        stamp = _stamp(self.run_dir / RUN_FILE)
        if stamp is not None and (stamp != self._stamp or self._record.agent is None):
            try:
                self._record, self._stamp, self.problem = read_record(self.run_dir), stamp, None
            except LaunchError as error:
                self.problem = str(error)
                return stat_of(self.run_dir / RUN_FILE) is not None  # it may have gone between the two looks
        return stamp is not None

    def now(self) -> float:
        """Unix seconds."""
        return self._clock()

    def events(self, rank: int) -> Events:
        """The events of one rank, from its first."""
        return EventFile(events_path(self.run_dir, rank))

    def log_times(self) -> Mapping[int | None, float]:
        """When each rank of a run without events last printed something, and torchrun, under None."""
        return {} if self.record.writes_events else log_times(self.run_dir)

    def checkpoint_step(self, told: int | None) -> int | None:
        """The step from which a resume goes on, which the ranks `told`: on disk, as it may have been deleted since."""
        return kept_step(self.run_dir)

    def is_foreign(self) -> bool:
        """Whether its processes are on another host, where no process number can be judged."""
        host = self.record.host
        return host is not None and host != socket.gethostname()

    def is_of_this_boot(self) -> bool:
        """Whether its process numbers still mean anything."""
        return self.record.boot_id == boot_id()

    def agent_state(self) -> str | None:
        """The state letter of torchrun's process; None where it is gone or not known yet.

        While its keeper lives, torchrun has not ended as far as files tell: the exit status is still to be written.
        """
        if not self.is_of_this_boot():
            return None
        known = (process for process in (self.record.agent, self.record.keeper) if process is not None)
        return next((state for process in known if (state := state_of(process)) is not None), None)

    def rank_state(self, rank: int, process: ProcessId | None) -> str | None:
        """The state letter of a rank's process; None where it is gone or not known yet."""
        return None if process is None or not self.is_of_this_boot() else state_of(process)

    def told(self, name: str, key: str) -> float | None:
        """One number of a small JSON file of the run; None where it is missing, torn or holds something else."""
        try:
            values = json.loads((self.run_dir / name).read_text())
        except (OSError, ValueError, RecursionError):
            return None
        return number(values, key) if isinstance(values, dict) else None

    def exit_status(self) -> int | None:
        """The exit status of torchrun, negative for a signal; None where nobody saw it."""
        told = self.told(EXIT_FILE, "exit")
        return None if told is None else int(told)

    def clues(self) -> Clues:
        """What the files of an ended run say of its end."""
        return read_clues(self.run_dir, world=self.record.world)

    def ask(self, doors: Mapping[int, str]) -> Mapping[int, Answer] | None:
        """What each rank of a hung run does now, by its door; a rank that does not answer is left out.

        None where nobody can be asked: there are no doors, or they are on another host.
        """
        return self._doors.ask(doors) if doors and not self.is_foreign() else None


def _stamp(path: Path) -> tuple[int, int] | None:
    """What changes when a file is replaced; None where there is none."""
    told = stat_of(path)
    return None if told is None else (told.st_mtime_ns, told.st_size)
