"""The runs that there are, newest first; two of them side by side; where the replay of one stands."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cpadvisor.watch.view import RunView

if TYPE_CHECKING:
    from cpadvisor.watch.compare import Comparison
    from cpadvisor.watch.figures import Measured


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One run directory."""

    directory: Path
    view: RunView | None = None
    """None where its record cannot be read."""
    figures: "Measured | None" = None
    """Of the view: medians over all its steps, worked out where the run is read."""
    problem: str | None = None
    """Why not."""

    @property
    def name(self) -> str:
        """The name of the run."""
        return self.directory.name

    @property
    def is_alive(self) -> bool:
        """Whether a process of it may still live."""
        return self.view is not None and not self.view.is_final


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """All runs of one folder at one instant."""

    root: Path
    seen_at: float
    """Unix seconds."""
    entries: tuple[Entry, ...] = ()
    """Newest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayState:
    """Where a replay stands."""

    at_s: float
    """Seconds of the run that have been shown."""
    length_s: float
    speed: float
    """Times the real one."""
    paused: bool = False
    rank: int = 0
    """Whose log is shown."""

    @property
    def is_over(self) -> bool:
        """Whether the last frame is reached."""
        return self.at_s >= self.length_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """Two runs side by side, the older one first."""

    comparison: "Comparison"

    def involves(self, directory: Path) -> bool:
        """Whether one of the two is this run."""
        return directory in (self.comparison.first.directory, self.comparison.second.directory)


SPEEDS = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0)


def next_speed(speed: float, step: int) -> float:
    """The speed above or below in SPEEDS, the nearest end where there is none: 10 and +1 give 20."""
    if step > 0:
        return next((each for each in SPEEDS if each > speed), SPEEDS[-1])
    return next((each for each in reversed(SPEEDS) if each < speed), SPEEDS[0])


def matching(entries: Iterable[Entry], text: str) -> tuple[Entry, ...]:
    """The runs that hold every word of `text`, in any case, in name, model, layout or state."""
    words = text.lower().split()
    return tuple(entry for entry in entries if all(word in _searched(entry) for word in words))


def _searched(entry: Entry) -> str:
    view = entry.view
    about = () if view is None else (view.model or "", view.layout_label, view.state.replace("_", " "))
    return " ".join((entry.name, *about)).lower()
