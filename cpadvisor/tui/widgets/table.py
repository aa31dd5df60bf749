"""A table of rows with a cursor: it draws only the lines that are seen, and a change redraws only its row."""

from dataclasses import dataclass, field
from typing import ClassVar

from rich.cells import cell_len, set_cell_size
from textual import events
from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.geometry import Region, Size
from textual.message import Message
from textual.reactive import var
from textual.scroll_view import ScrollView
from textual.strip import Strip

from cpadvisor.tui.widgets.tones import TONE_CLASSES, Run, Toned

MAX_COLUMN = 400
"""No column is wider: a line of a foreign log may have megabytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column. A width of None takes what its content needs; the `flexible` one also takes what is left."""

    title: str
    width: int | None = None
    most: int | None = None
    """The widest that content may make it; what is longer ends in an ellipsis."""
    right: bool = False
    flexible: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One field: runs of text. Numbers stand to the right by their column."""

    runs: tuple[Run, ...]

    @property
    def width(self) -> int:
        """Cells of the terminal that the text takes; a Chinese character takes two."""
        return sum(cell_len(text) for text, _ in self.runs)


def cell(text: str, tone: str = "plain") -> Cell:
    """A field of one tone."""
    return Cell(runs=((text, tone),))


Row = tuple[Cell, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """What a table shows."""

    columns: tuple[Column, ...] = ()
    rows: tuple[Row, ...] = field(default=())
    empty: str = ""
    """Said in place of rows where there are none."""


class RowTable(ScrollView, Toned, can_focus=True):
    """Rows under a header that stays; arrow keys move the cursor, enter picks."""

    COMPONENT_CLASSES: ClassVar = set(TONE_CLASSES)

    BINDINGS: ClassVar = [
        Binding("up,k", "cursor(-1)", "Up", id="table-up", tooltip="The row above", show=False),
        Binding("down,j", "cursor(1)", "Down", id="table-down", tooltip="The row below", show=False),
        Binding("pageup", "page(-1)", "Page up", id="table-page-up", tooltip="A page of rows up", show=False),
        Binding("pagedown", "page(1)", "Page down", id="table-page-down", tooltip="A page of rows down", show=False),
        Binding("home,g", "first", "First", id="table-first", tooltip="The first row", show=False),
        Binding("end,G", "last", "Last", id="table-last", tooltip="The last row", show=False),
        Binding("left,h", "aside(-8)", "Left", id="table-left", tooltip="Columns to the left", show=False),
        Binding("right,l", "aside(8)", "Right", id="table-right", tooltip="Columns to the right", show=False),
        Binding("enter", "pick", "Pick", id="table-pick", tooltip="Take the row under the cursor", show=False),
    ]

    grid: var[Grid] = var(Grid)
    cursor: var[int] = var(0)

    class Moved(Message):
        """The cursor stands on another row."""

        def __init__(self, table: "RowTable", index: int) -> None:
            super().__init__()
            self.table = table
            self.index = index

        @property
        def control(self) -> "RowTable":
            """The table, for `@on` selectors."""
            return self.table

    class Picked(Moved):
        """Enter was pressed on a row."""

    def __init__(self, *, id: str, cursor: bool = True) -> None:
        super().__init__(id=id, classes="panel")
        self._has_cursor = cursor
        self._widths: tuple[int, ...] = ()

    def watch_grid(self, old: Grid, new: Grid) -> None:
        """Measure the columns anew and keep the cursor on a row that exists."""
        widths = self._widths
        self._measure()
        self.set_reactive(RowTable.cursor, self._clamp(self.cursor))
        # A layout of the screen costs more than all its rows: only a table that grows with its rows needs one.
        if len(old.rows) != len(new.rows) or old.columns != new.columns or widths != self._widths or not new.rows:
            self.refresh(layout=self.styles.is_auto_height and len(old.rows) != len(new.rows))
            return
        for index, row in enumerate(new.rows):
            if row != old.rows[index]:
                self._refresh_row(index)

    def validate_cursor(self, cursor: int) -> int:
        """The nearest row that exists."""
        return self._clamp(cursor)

    def watch_cursor(self, old: int, new: int) -> None:
        """Redraw the two rows, keep the new one in sight, tell the screen."""
        self._refresh_row(old)
        self._refresh_row(new)
        self._show_cursor()
        if old != new:
            self.post_message(self.Moved(self, new))

    def on_resize(self) -> None:
        """Give the flexible column what is left."""
        self._measure()

    def on_focus(self) -> None:
        """The cursor is seen where the focus is."""
        self.refresh()

    def on_blur(self) -> None:
        """The cursor pales."""
        self.refresh()

    def on_click(self, event: events.Click) -> None:
        """Put the cursor on the row under the pointer; a second click picks it."""
        offset = event.get_content_offset(self)
        if offset is None or offset.y < 1:
            return
        self.cursor = offset.y - 1 + self.scroll_offset.y
        if event.chain > 1:
            self.action_pick()

    def action_cursor(self, step: int) -> None:
        """Move by rows; without a cursor, scroll."""
        if self._has_cursor:
            self.cursor += step
        else:
            self.scroll_relative(y=step, animate=False)

    def action_page(self, pages: int) -> None:
        """Move by what is seen."""
        self.action_cursor(pages * max(self.content_size.height - 2, 1))

    def action_first(self) -> None:
        """To the first row."""
        self.action_cursor(-len(self.grid.rows))

    def action_last(self) -> None:
        """To the last row."""
        self.action_cursor(len(self.grid.rows))

    def action_aside(self, cells: int) -> None:
        """Scroll sideways, where columns are wider than the terminal."""
        self.scroll_relative(x=cells, animate=False)

    def action_pick(self) -> None:
        """Tell the screen that this row is taken."""
        if self.grid.rows:
            self.post_message(self.Picked(self, self.cursor))

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """The header and every row, or the header and the word for none."""
        return 1 + max(len(self.grid.rows), 1)

    def render_line(self, y: int) -> Strip:
        """The header at the top, then the rows that are scrolled to."""
        scroll = self.scroll_offset
        width = self.content_size.width
        if y == 0:
            runs: list[Run] = [(self._header(), "muted")]
            return self._crop(self.strip(runs, self._total), scroll.x, width)
        index = y - 1 + scroll.y
        if not self.grid.rows and y == 1:
            return self.strip([(" " + self.grid.empty, "faint")], width)
        if index >= len(self.grid.rows):
            return self.strip([], width)
        at_cursor = self._has_cursor and index == self.cursor
        strip = self.strip(self._line(index), max(self._total, width), cursor=at_cursor and self.has_focus)
        return self._crop(strip, scroll.x, width)

    @property
    def _total(self) -> int:
        return sum(self._widths) + 2 * max(len(self._widths) - 1, 0) + 2

    def _crop(self, strip: Strip, left: int, width: int) -> Strip:
        return strip.crop_extend(left, left + width, self.tone("plain"))

    def _header(self) -> str:
        cells = [
            _place(column.title, width, right=column.right)
            for column, width in zip(self.grid.columns, self._widths, strict=True)
        ]
        return " " + "  ".join(cells)

    def _line(self, index: int) -> list[Run]:
        mark = "▌" if self._has_cursor and index == self.cursor else " "
        runs: list[Run] = [(mark, "accent" if self.has_focus else "faint")]
        for position, (column, width) in enumerate(zip(self.grid.columns, self._widths, strict=True)):
            runs.extend(_fit(self.grid.rows[index][position], width, right=column.right))
            runs.append(("  ", "plain"))
        return runs

    def _measure(self) -> None:
        widths = [
            column.width
            if column.width is not None
            else min(
                max([cell_len(column.title)] + [row[position].width for row in self.grid.rows]),
                column.most or MAX_COLUMN,
            )
            for position, column in enumerate(self.grid.columns)
        ]
        room = self.scrollable_content_region.width - sum(widths) - 2 * max(len(widths) - 1, 0) - 2
        for position, column in enumerate(self.grid.columns):
            if column.flexible and room > 0:
                widths[position] += room
                room = 0
        self._widths = tuple(widths)
        self.virtual_size = Size(self._total, 1 + max(len(self.grid.rows), 1))

    def _clamp(self, cursor: int) -> int:
        return min(max(cursor, 0), max(len(self.grid.rows) - 1, 0))

    def _refresh_row(self, index: int) -> None:
        self.refresh(Region(0, index + 1 - self.scroll_offset.y, max(self.size.width, 1), 1))

    def _show_cursor(self) -> None:
        page = max(self.scrollable_content_region.height - 1, 1)
        if self.cursor < self.scroll_offset.y:
            self.scroll_to(y=self.cursor, animate=False)
        elif self.cursor >= self.scroll_offset.y + page:
            self.scroll_to(y=self.cursor - page + 1, animate=False)
        self._show_line(self.cursor + 1 - self.scroll_offset.y)

    def _show_line(self, line: int) -> None:
        """Scroll what holds the table, where the table is taller than the terminal."""
        holder = next((node for node in self.ancestors if isinstance(node, VerticalScroll)), None)
        if holder is None or not self.has_focus:
            return
        row, seen = self.content_region.y + line, holder.content_region
        if row >= seen.bottom:
            holder.scroll_relative(y=row - seen.bottom + 2, animate=False)
        elif row < seen.y + 1:
            holder.scroll_relative(y=row - seen.y - 1, animate=False)


def _place(text: str, width: int, *, right: bool) -> str:
    sized = set_cell_size(text, min(cell_len(text), width))
    blank = " " * (width - cell_len(sized))
    return blank + sized if right else sized + blank


def _fit(field_: Cell, width: int, *, right: bool) -> list[Run]:
    """The runs of a field in exactly `width` cells; what does not fit ends in an ellipsis."""
    if field_.width > width:
        return _cut(field_, width)
    blank: Run = (" " * (width - field_.width), "plain")
    return [blank, *field_.runs] if right else [*field_.runs, blank]


def _cut(field_: Cell, width: int) -> list[Run]:
    runs: list[Run] = []
    left = width - 1
    for text, tone in field_.runs:
        piece = set_cell_size(text, min(cell_len(text), left))
        left -= cell_len(piece)
        runs.append((piece, tone))
    return [*runs, ("…" + " " * left, "faint")]
