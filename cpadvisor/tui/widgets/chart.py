"""A chart is a series of points, the level that was predicted, the band around it, and perhaps a second series."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from textual.reactive import reactive
from textual.strip import Strip

from cpadvisor import units
from cpadvisor.tui.widgets.braille import Point, Window, plot, row_of, thin, window
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

    curve: reactive[Curve] = reactive(Curve)

    def __init__(
        self, *, scale: Callable[[float | None], str], tone: str, id: str, second_tone: str = "series-3"
    ) -> None:
        super().__init__(id=id, classes="panel chart")
        self._scale = scale
        self._tones = (tone, second_tone)
        self._drawn: tuple[object, list[list[Run]]] | None = None

    def render_line(self, y: int) -> Strip:
        """One line, out of a drawing that is made once a curve and a size."""
        width, height = self.content_size
        key = (self.curve, width, height)
        if self._drawn is None or self._drawn[0] != key:
            self._drawn = (key, draw(self.curve, width, height, scale=self._scale, tones=self._tones))
        lines = self._drawn[1]
        if not (self.curve.points or self.curve.second):
            return self.strip([(self.curve.empty.center(width) if y == height // 2 else "", "faint")], width)
        return self.strip(lines[y] if y < len(lines) else [], width)


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
    canvas, second = (
        plot(thin(series, columns), view, columns=columns, rows=rows) for series in (curve.points, curve.second)
    )
    marks = _marks(curve, view, rows) if points else {}
    lines: list[list[Run]] = []
    for row in range(rows):
        scale_run = (labels[row].rjust(gutter - 1) + " ", "faint")
        layers = ((canvas.row(row), tones[0]), (_dashed(second.row(row)), tones[1]), (marks.get(row, ""), "predicted"))
        lines.append([scale_run, *_merge(layers, columns)])
    lines.append([(" " * gutter, "faint"), (_axis(points, columns), "faint")])
    return lines


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


def _axis(points: Sequence[Point], columns: int) -> str:
    """The first x at the left, the last at the right."""
    if not points:
        return ""
    places = [x for x, _ in points]
    first, last = units.format_count(min(places)), units.format_count(max(places))
    return first + last.rjust(max(columns - len(first), 0)) if last != first else first
