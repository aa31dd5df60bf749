"""Braille plotting: points in, rows of characters out; two columns and four rows of dots a cell.

Pure: no widget, no colour. Values that are not finite make a gap. A constant
series runs through the middle, because a range of its own would draw it at
the bottom and jitter as full swings.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

Point = tuple[float, float]

_BLANK = 0x2800
_CELLS = (" ", *(chr(_BLANK + mask) for mask in range(1, 256)))
"""The character of each set of dots."""
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""Bit of a dot by its row and column within the cell (Unicode block Braille Patterns)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """The part of the plane that the chart shows."""

    left: float
    right: float
    bottom: float
    top: float


def window(points: Sequence[Point], *, levels: Sequence[float] = ()) -> Window:
    """The window that holds all finite points and `levels`, with 5 % of air above and below.

    A constant series is centred: the window reaches half its value to each side
    (1 for a constant zero), so 97, 97, 97 gives bottom 48.5 and top 145.5. To the
    right there is up to 3 % of air, so that a series that grows keeps its place for
    some steps: from 0 to 300 the window ends at 304, and stays so until 304. Where
    every value is above zero, so is the window.
    """
    finite = [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]
    heights = [y for _, y in finite] + [level for level in levels if math.isfinite(level)]
    if not heights:
        return Window(left=0.0, right=1.0, bottom=0.0, top=1.0)
    left, right = (min(x for x, _ in finite), max(x for x, _ in finite)) if finite else (0.0, 1.0)
    bottom, top = min(heights), max(heights)
    air = 0.05 * (top - bottom) if top > bottom else abs(top) / 2 or 1.0
    floor = 0.0 if bottom > 0 else -math.inf
    return Window(left=left, right=_right(left, right), bottom=max(bottom - air, floor), top=top + air)


def _right(left: float, right: float) -> float:
    """The end of the window: the span, rounded up to a multiple of the power of two that is at most a 32nd of it."""
    span = right - left
    if span <= 0:
        return left + 1.0
    grain = 2.0 ** math.floor(math.log2(span / 32))
    return left + math.ceil(span / grain) * grain


class Canvas:
    """A grid of dots, `columns` x `rows` cells large."""

    def __init__(self, columns: int, rows: int) -> None:
        self.columns = columns
        self.rows = rows
        self._cells = [[0] * columns for _ in range(rows)]

    def dot(self, x: int, y: int) -> None:
        """Set the dot in column x (2 a cell) and row y (4 a cell, from the top); outside is ignored."""
        if 0 <= x < self.columns * 2 and 0 <= y < self.rows * 4:
            self._cells[y // 4][x // 2] |= _DOTS[y % 4][x % 2]

    def line(self, x0: int, y0: int, x1: int, y1: int) -> None:
        """Set the dots between two points, ends included."""
        steps = max(abs(x1 - x0), abs(y1 - y0), 1)
        for step in range(steps + 1):
            self.dot(round(x0 + (x1 - x0) * step / steps), round(y0 + (y1 - y0) * step / steps))

    def row(self, y: int) -> str:
        """One row of cells; an untouched cell is a space."""
        return "".join(map(_CELLS.__getitem__, self._cells[y]))


def plot(points: Sequence[Point], view: Window, *, columns: int, rows: int) -> Canvas:
    """The points joined by lines, broken where a value is not finite."""
    canvas = Canvas(columns, rows)
    last: tuple[int, int] | None = None
    for x, y in points:
        if not (math.isfinite(x) and math.isfinite(y)):
            last = None
            continue
        here = (
            round((x - view.left) / (view.right - view.left) * (columns * 2 - 1)),
            row_of(y, view, rows=rows),
        )
        canvas.line(*(last or here), *here)
        last = here
    return canvas


def row_of(y: float, view: Window, *, rows: int) -> int:
    """The dot row, from the top, at which a value is drawn; 0 is the window's top, rows x 4 - 1 its bottom."""
    return round((view.top - y) / (view.top - view.bottom) * (rows * 4 - 1))


class Thinning:
    """Thins a series that grows, at the cost of what is new: what a whole bucket keeps, it keeps.

    Of each bucket the lowest and the highest point stay, in their order, and of the series its ends. Buckets hold as
    many points as the smallest power of two that makes no more of them than was asked: 1000 points in 75 buckets are
    thinned by 16.
    """

    def __init__(self) -> None:
        self._size = 0
        self._kept: list[Point] = []
        self._done = 0
        self._last: Point | None = None

    def thin(self, points: Sequence[Point], buckets: int) -> tuple[Point, ...]:
        """At most two points a bucket and two more; few points pass unchanged."""
        if len(points) <= 2 * buckets:
            return tuple(points)
        size = 1 << (-(-len(points) // buckets) - 1).bit_length()
        if size != self._size or not self._continues(points):
            self._size, self._kept, self._done = size, [points[0]], 0
        while self._done + size <= len(points):
            self._kept.extend(_extremes(points[self._done : self._done + size]))
            self._done += size
            self._last = points[self._done - 1]
        rest = (*_extremes(points[self._done :]), points[-1])
        return tuple(dict.fromkeys((*self._kept, *rest)))

    def _continues(self, points: Sequence[Point]) -> bool:
        """Whether this is the same series, grown."""
        return self._done == 0 or (self._done <= len(points) and points[self._done - 1] is self._last)


def _extremes(part: Sequence[Point]) -> tuple[Point, ...]:
    """The lowest and the highest point, in their order."""
    if not part:
        return ()
    lowest, highest = min(part, key=_height), max(part, key=_height)
    return tuple(point for point in dict.fromkeys((lowest, highest) if lowest[0] <= highest[0] else (highest, lowest)))


def _height(point: Point) -> float:
    """The value of a point; a gap counts as lowest, so that a bucket keeps it."""
    return point[1] if math.isfinite(point[1]) else -math.inf
