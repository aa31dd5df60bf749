"""A chart is a series of points, the level that was predicted, the band around it, and perhaps a second series."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from textual.geometry import Region
from textual.reactive import var
from textual.strip import Strip

from cpadvisor import units
from cpadvisor.tui.widgets.braille import Point, Thinning, Window, plot, row_of, window
from cpadvisor.tui.widgets.tones import Run, Toned


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """What a chart shows."""

    points: tuple[Point, ...] = ()
    second: tuple[Point, ...] = ()
    """Drawn in dashes and in a tone of its own, so that the two are told apart without colour too."""
    predicted: float | None = None
    """Drawn as a dotted level."""
    low: float | None = None
    high: float | None = None
    """The band in which the value was expected, marked at its edges."""
    empty: str = ""
    """Said where there are no points yet."""


class Chart(Toned):
    """A braille line with a scale at the left; the prediction is a dotted level of its own tone."""

    curve: var[Curve] = var(Curve)

    def __init__(
        self, *, scale: Callable[[float | None], str], tone: str, id: str, second_tone: str = "series-3"
    ) -> None:
        super().__init__(id=id, classes="panel chart")
        self._scale = scale
        self._tones = (tone, second_tone)
        self._drawn: tuple[list[Run], ...] = ()
        self._thinnings = (Thinning(), Thinning())

    def watch_curve(self) -> None:
        """Draw the new curve, and redraw the lines that it changes."""
        old, self._drawn = self._drawn, self._draw()
        if len(old) != len(self._drawn):
            self.refresh()
            return
        width = self.content_size.width
        changed = [y for y, line in enumerate(self._drawn) if line != old[y]]
        if changed:
            self.refresh(*(Region(0, y, width, 1) for y in changed))

    def on_resize(self) -> None:
        """Draw for the new size."""
        self._drawn = self._draw()
        self.refresh()

    def _draw(self) -> tuple[list[Run], ...]:
        width, height = self.content_size
        if not width or not height:
            return ()
        if not (self.curve.points or self.curve.second):
            return tuple([(self.curve.empty.center(width) if y == height // 2 else "", "faint")] for y in range(height))
        series = (self.curve.points, self.curve.second)
        first, second = (each.thin(points, width) for each, points in zip(self._thinnings, series, strict=True))
        thinned = replace(self.curve, points=first, second=second)
        return tuple(draw(thinned, width, height, scale=self._scale, tones=self._tones))

    def render_line(self, y: int) -> Strip:
        """One line of the drawing."""
        return self.strip(self._drawn[y] if y < len(self._drawn) else [], self.content_size.width)


def draw(
    curve: Curve, width: int, height: int, *, scale: Callable[[float | None], str], tones: tuple[str, str]
) -> list[list[Run]]:
    """The lines of a chart: scale, plot, and the first and last x below."""
    points = (*curve.points, *curve.second)
    levels = [level for level in (curve.predicted, curve.low, curve.high) if level is not None]
    view = window(points, levels=levels if points else ())
    rows = max(height - 1, 1)
    labels = _labels(view, rows, scale)
    gutter = max((len(label) for label in labels), default=0) + 1
    columns = max(width - gutter, 1)
    plots = _plots(curve, view, tones, columns=columns, rows=rows)
    marks = _marks(curve, view, rows) if points else {}
    lines: list[list[Run]] = []
    for row in range(rows):
        scale_run = (labels[row].rjust(gutter - 1) + " ", "faint")
        layers = (*((texts[row], tone) for texts, tone in plots), (marks.get(row, ""), "predicted"))
        lines.append([scale_run, *_merge(layers, columns)])
    lines.append([(" " * gutter, "faint"), (_axis(points, view, columns), "faint")])
    return lines


def _plots(
    curve: Curve, view: Window, tones: tuple[str, str], *, columns: int, rows: int
) -> list[tuple[list[str], str]]:
    """The rows of each series that there is, with its tone; the second one in dashes."""
    found: list[tuple[list[str], str]] = []
    for series, tone, form in ((curve.points, tones[0], str), (curve.second, tones[1], _dashed)):
        if series:
            canvas = plot(series, view, columns=columns, rows=rows)
            found.append(([form(canvas.row(row)) for row in range(rows)], tone))
    return found


def _dashed(text: str) -> str:
    """Every third cell left out: `⣀⣀ ⣀⣀`."""
    return "".join(" " if place % 3 == 2 else character for place, character in enumerate(text))


def _labels(view: Window, rows: int, scale: Callable[[float | None], str]) -> list[str]:
    """Values at the top, the middle and the bottom row; between them nothing."""
    labels = [""] * rows
    for row in {0, rows // 2, rows - 1}:
        share = row / max(rows - 1, 1)
        labels[row] = scale(view.top - share * (view.top - view.bottom))
    return labels


def _marks(curve: Curve, view: Window, rows: int) -> dict[int, str]:
    """The character that marks a row: a dashed level for the prediction, dots for the edges of its band."""
    marks: dict[int, str] = {}
    for level, character in ((curve.low, "·"), (curve.high, "·"), (curve.predicted, "╌")):
        if level is not None:
            marks[min(max(row_of(level, view, rows=rows) // 4, 0), rows - 1)] = character
    return marks


def _merge(layers: Sequence[Run], columns: int) -> list[Run]:
    """In each cell the first layer that has something there; a layer of one character is a level right across."""
    full = [(text * columns if len(text) == 1 else text, tone) for text, tone in layers if text.strip()]
    if len(full) < 2:
        return full or [(" " * columns, "plain")]
    return [
        next(((text[cell], tone) for text, tone in full if text[cell] != " "), (" ", "plain"))
        for cell in range(columns)
    ]


def _axis(points: Sequence[Point], view: Window, columns: int) -> str:
    """The first x at the left, the last below the last point."""
    if not points:
        return ""
    end = max(x for x, _ in points)
    first, last = units.format_count(min(x for x, _ in points)), units.format_count(end)
    place = round((end - view.left) / (view.right - view.left) * (columns - 1)) + 1
    return first + last.rjust(max(place - len(first), 0)) if last != first else first
