"""Any run again from its events: what a monitor would have shown at each instant, and at last what it shows now.

The judge is the monitor itself; only its sources are others: a clock of the replay's own, events up to that clock,
and processes that count as alive from their first event to their end. Past the last event the sources are the
world's again, so the last frame is the same each time.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cpadvisor.processes import ProcessId
from cpadvisor.rundir import EXIT_FILE, STOP_FILE
from cpadvisor.runrecord import RunRecord
from cpadvisor.watch.clues import Clues
from cpadvisor.watch.door import Answer
from cpadvisor.watch.events import EventFile, Events, number
from cpadvisor.watch.monitor import Monitor
from cpadvisor.watch.sources import Sources
from cpadvisor.watch.view import RunView
from runtime.telemetry import events_path

INTERVAL_S = 0.5
TICK_S = 0.1
_RUNS = "R"


class Replay:
    """One run directory, whose events are read once. Raises LaunchError where it holds no run."""

    def __init__(self, run_dir: Path) -> None:
        self._run_dir = run_dir
        world = Sources(run_dir)
        record = world.record
        self._tapes = tuple(_Tape(run_dir, rank) for rank in range(record.world))
        times = [t for tape in self._tapes for event in tape.events if (t := number(event, "t")) is not None]
        told = [world.told(name, "t") for name in (STOP_FILE, EXIT_FILE)]
        # A resume moves the start in the record, and a record of another version may have none.
        is_first = record.attempt == 1 and record.started > 0
        self._began = record.started if is_first else min(times, default=record.started)
        self._ended = max([*times, *(t for t in told if t is not None)], default=self._began)
        self._sources: _Recorded | None = None
        self._monitor: Monitor | None = None

    @property
    def duration_s(self) -> float:
        """From the launch to the last that was told."""
        return max(0.0, self._ended - self._began)

    def at(self, t: float) -> RunView:
        """The run as it stood so many seconds after its launch; from `duration_s` on as it stands now.

        Forward in time costs what came since the last frame, backward begins anew.
        """
        clock = self._began + t if t < self.duration_s else None
        if self._monitor is None or self._sources is None or not self._sources.leads_to(clock):
            self._sources = _Recorded(self._run_dir, self._tapes, began=self._began)
            self._monitor = Monitor(self._run_dir, sources=self._sources)
        self._sources.clock = clock
        return self._monitor.poll()

    def frames(self, interval_s: float = INTERVAL_S) -> Iterator[RunView]:
        """Every frame in order, the last one at the end of the run."""
        count = 0
        while count * interval_s < self.duration_s:
            yield self.at(count * interval_s)
            count += 1
        yield self.at(self.duration_s)

    def play(
        self, speed: float, *, tick_s: float = TICK_S, sleep: Callable[[float], None] = time.sleep
    ) -> Iterator[RunView]:
        """The frames, ten a second, each `speed` times as far from the one before as it is shown later."""
        for count, view in enumerate(self.frames(tick_s * speed)):
            if count:
                sleep(tick_s)
            yield view


class _Tape:
    """All events of one rank."""

    def __init__(self, run_dir: Path, rank: int) -> None:
        self.file = EventFile(events_path(run_dir, rank))
        self.events = self.file.poll()


class _Recorded(Sources):
    """The world as it was at `clock`, as far as events tell; as it is now where that is None."""

    def __init__(self, run_dir: Path, tapes: Sequence[_Tape], *, began: float) -> None:
        super().__init__(run_dir)
        self._readers = tuple(_Reader(self, tape) for tape in tapes)
        self._began = began
        self.clock: float | None = began

    def leads_to(self, clock: float | None) -> bool:
        """Whether that instant does not lie behind."""
        return clock is None or (self.clock is not None and self.clock <= clock)

    @property
    def record(self) -> RunRecord:
        """Of a run that was resumed, the earlier attempts are one that began with the first event."""
        record = super().record
        if self.clock is None or record.attempt == 1 or self.clock >= record.started:
            return record
        return replace(record, started=self._began, attempt=1)

    def now(self) -> float:
        return super().now() if self.clock is None else self.clock

    def events(self, rank: int) -> Events:
        return self._readers[rank]

    def log_times(self) -> Mapping[int | None, float]:
        """When a log was written before its last line is not known, so none counts as silent."""
        return super().log_times() if self.clock is None else dict.fromkeys(super().log_times(), self.clock)

    def checkpoint_step(self, told: int | None) -> int | None:
        """What was told up to the clock."""
        return super().checkpoint_step(told) if self.clock is None else told

    def is_foreign(self) -> bool:
        return self.clock is None and super().is_foreign()

    def is_of_this_boot(self) -> bool:
        return self.clock is not None or super().is_of_this_boot()

    def agent_state(self) -> str | None:
        """Alive to the last event; in an attempt before a resume as long as a rank is."""
        if self.clock is None:
            return super().agent_state()
        ends = self.record.attempt != super().record.attempt and not any(each.is_alive for each in self._readers)
        return None if ends else _RUNS

    def rank_state(self, rank: int, process: ProcessId | None) -> str | None:
        """Alive from its first event to its end."""
        if self.clock is None:
            return super().rank_state(rank, process)
        return _RUNS if self._readers[rank].is_alive else None

    def told(self, name: str, key: str) -> float | None:
        """Nothing that was told later."""
        if self.clock is not None and (super().told(name, "t") or 0.0) > self.clock:
            return None
        return super().told(name, key)

    def clues(self) -> Clues:
        return super().clues() if self.clock is None else Clues()

    def ask(self, doors: Mapping[int, str]) -> Mapping[int, Answer] | None:
        """Nobody is left who could answer for then."""
        return super().ask(doors) if self.clock is None else None


class _Reader:
    """The events of one rank that were written up to the clock of the replay."""

    def __init__(self, sources: _Recorded, tape: _Tape) -> None:
        self._sources = sources
        self._tape = tape
        self._next = 0
        self.is_alive = False

    @property
    def versions(self) -> set[str]:
        return self._tape.file.versions

    @property
    def unread(self) -> int:
        return self._tape.file.unread

    def poll(self) -> list[dict[str, Any]]:
        """What was written between the last clock and this one."""
        clock, first, events = self._sources.clock, self._next, self._tape.events
        if clock is None:
            events += self._tape.file.poll()  # the run may live
        while self._next < len(events) and (clock is None or (number(events[self._next], "t") or 0.0) <= clock):
            self._next += 1
        if self._next > first:
            self.is_alive = events[self._next - 1]["kind"] != "end"
        return events[first : self._next]
