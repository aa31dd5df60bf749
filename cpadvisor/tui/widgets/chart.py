"""A chart is one series of points, the level that was predicted, and the band around it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from textual.reactive import reactive
from textual.strip import Strip

from cpadvisor import units
from cpadvisor.tui.widgets.braille import Canvas, Point, Window, plot, row_of, thin, window
from cpadvisor.tui.widgets.tones import Run, Toned


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """What a chart shows."""

    points: tuple[Point, ...] = ()
    predicted: float | None = None
    """Drawn as a dotted level."""
    low: float | None = None
    high: float | None = None
    """The band in which the value was expected, marked at its edges."""
    empty: str = ""
    """Said where there are no points yet."""


class Chart(Toned):
    """A braille line with a scale at the left; the prediction is a dotted level of its own tone."""

    curve: reactive[Curve] = reactive(Curve)

    def __init__(self, *, scale: Callable[[float | None], str], tone: str, id: str) -> None:
        super().__init__(id=id, classes="panel chart")
        self._scale = scale
        self._tone = tone
        self._drawn: tuple[object, list[list[Run]]] | None = None

    def render_line(self, y: int) -> Strip:
        """One line, out of a drawing that is made once a curve and a size."""
        width, height = self.content_size
        key = (self.curve, width, height)
        if self._drawn is None or self._drawn[0] != key:
            self._drawn = (key, draw(self.curve, width, height, scale=self._scale, tone=self._tone))
        lines = self._drawn[1]
        if not self.curve.points:
            return self.strip([(self.curve.empty.center(width) if y == height // 2 else "", "faint")], width)
        return self.strip(lines[y] if y < len(lines) else [], width)


def draw(curve: Curve, width: int, height: int, *, scale: Callable[[float | None], str], tone: str) -> list[list[Run]]:
    """The lines of a chart: scale, plot, and the first and last x below."""
    levels = [level for level in (curve.predicted, curve.low, curve.high) if level is not None]
    view = window(curve.points, levels=levels if curve.points else ())
    rows = max(height - 1, 1)
    labels = _labels(view, rows, scale)
    gutter = max((len(label) for label in labels), default=0) + 1
    columns = max(width - gutter, 1)
    canvas = plot(thin(curve.points, columns), view, columns=columns, rows=rows)
    marks = _marks(curve, view, rows) if curve.points else {}
    lines: list[list[Run]] = []
    for row in range(rows):
        scale_run = (labels[row].rjust(gutter - 1) + " ", "faint")
        lines.append([scale_run, *_merge(canvas, row, marks.get(row), tone)])
    lines.append([(" " * gutter, "faint"), (_axis(curve.points, columns), "faint")])
    return lines


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


def _merge(canvas: Canvas, row: int, mark: str | None, tone: str) -> list[Run]:
    """The curve over the marks: where the curve has a dot it wins."""
    text = canvas.row(row)
    if mark is None:
        return [(text, tone)]
    return [(mark, "predicted") if character == " " else (character, tone) for character in text]


def _axis(points: Sequence[Point], columns: int) -> str:
    if not points:
        return ""
    first, last = units.format_count(points[0][0]), units.format_count(points[-1][0])
    return first + last.rjust(max(columns - len(first), 0)) if last != first else first
