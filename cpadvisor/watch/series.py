"""A figure over the steps of a run: complete to 100,000 points and thinned by halves beyond."""

import math

from cpadvisor.watch.view import Points

FULL_POINTS = 100_000


class Series:
    """Points in rising steps. A step that comes again, after a resume, replaces what followed it."""

    def __init__(self, *, limit: int = FULL_POINTS) -> None:
        self._limit = limit
        self._points: list[tuple[int, float]] = []
        self._frozen: Points = ()

    def append(self, step: int, value: float | None) -> None:
        """Add one point; None, which is how events write what is no number, becomes nan."""
        while self._points and self._points[-1][0] >= step:
            self._points.pop()
        self._points.append((step, math.nan if value is None else float(value)))
        if len(self._points) > self._limit:
            del self._points[1:-1:2]

    def points(self) -> Points:
        """All points; the same tuple again while nothing was added."""
        if len(self._frozen) != len(self._points) or (self._points and self._frozen[-1] is not self._points[-1]):
            self._frozen = tuple(self._points)
        return self._frozen
