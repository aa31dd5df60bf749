"""Where the main thread of a rank is: the step, the phase, and when it was last seen to move.

The main thread writes, the door's thread reads. Each field is one attribute that
is replaced whole, so there is no lock to wait for.
"""

import time
from collections.abc import Callable

PHASES: tuple[str, ...] = ("build", "data", "forward", "backward", "optimizer", "save")


class Progress:
    """A rank begins with `build`; `enter` costs well under a microsecond."""

    def __init__(self) -> None:
        self.step = 0
        """The step under way, from 1; 0 until the first begins."""
        self.phase = PHASES[0]
        self.exchanges: Callable[[], int] | None = None
        """How many exchanges with other ranks this one has begun; None until it has met them."""
        self._moved = time.monotonic()

    def enter(self, phase: str, *, step: int | None = None) -> None:
        """The main thread begins a phase, of a new step where one is given."""
        if step is not None:
            self.step = step
        self.phase = phase
        self._moved = time.monotonic()

    def since_s(self) -> float:
        """Seconds since the last sign of life."""
        return time.monotonic() - self._moved
