"""A figure over the steps of a run: complete to 100,000 points, thinned by halves beyond, and cut down for a chart."""

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


def downsample(points: Points, limit: int) -> Points:
    """At most `limit` points that keep the outline: the lowest and the highest of each equal stretch.

    limit // 2 stretches give two points each, in the order of their steps; a stretch of nan gives its first.
    8 points rising from 0 to 7 at limit 4: (0, 3, 4, 7).
    """
    if limit < 2:
        raise ValueError(f"limit is {limit}; an outline needs at least 2 points")
    if len(points) <= limit:
        return points
    stretches = limit // 2
    kept: list[tuple[int, float]] = []
    for number in range(stretches):
        stretch = points[number * len(points) // stretches : (number + 1) * len(points) // stretches]
        numbers = [point for point in stretch if not math.isnan(point[1])]
        if not numbers:
            kept.append(stretch[0])
            continue
        low, high = min(numbers, key=_value), max(numbers, key=_value)
        kept.extend(sorted({low, high}))
    return tuple(kept)


def _value(point: tuple[int, float]) -> float:
    return point[1]
