"""Rows of text, never read as markup: they scroll both ways, and a change redraws only the rows that it changes."""

from typing import ClassVar

from rich.cells import cell_len
from textual import events
from textual.binding import Binding
from textual.geometry import Region, Size
from textual.reactive import var
from textual.scroll_view import ScrollView
from textual.strip import Strip

from cpadvisor.tui.widgets.tones import TONE_CLASSES, Run, Toned

Line = tuple[Run, ...]


class Rows(ScrollView, Toned, can_focus=True):
    """What is drawn: one line a row. What derives from it says how its content becomes rows."""

    COMPONENT_CLASSES: ClassVar = set(TONE_CLASSES)

    BINDINGS: ClassVar = [
        Binding("up,k", "scroll_up", "Up", id="lines-up", tooltip="A line up", show=False),
        Binding("down,j", "scroll_down", "Down", id="lines-down", tooltip="A line down", show=False),
        Binding("left,h", "aside(-8)", "Left", id="lines-left", tooltip="Text to the left", show=False),
        Binding("right,l", "aside(8)", "Right", id="lines-right", tooltip="Text to the right", show=False),
        Binding("end,G", "scroll_end", "End", id="lines-end", tooltip="To the last line", show=False),
        Binding("home,g", "scroll_home", "Start", id="lines-home", tooltip="To the first line", show=False),
    ]

    rows: var[tuple[Line, ...]] = var(())

    def __init__(self, *, id: str, follow: bool = False) -> None:
        super().__init__(id=id, classes="panel")
        self._follow = follow
        self._is_at_end = True
        """Where the reader was last: neither more rows nor a smaller panel move him."""

    def watch_rows(self, old: tuple[Line, ...], new: tuple[Line, ...]) -> None:
        """Take the new size; a reader at the end stays at the end."""
        self.virtual_size = Size(max(map(_width, new), default=0) + 1, len(new))
        self._stay_at_end()
        # A layout of the screen costs more than all its lines: only a panel that grows with its lines needs one.
        if self.styles.is_auto_height and len(old) != len(new):
            self.refresh(layout=True)
        else:
            self._refresh_changed(old, new)

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Remember whether the last row is in sight."""
        super().watch_scroll_y(old_value, new_value)
        self._is_at_end = new_value >= self.max_scroll_y - 1

    def on_resize(self, event: events.Resize) -> None:
        """A smaller panel shows the last rows, not the first ones, to a reader at the end."""
        self._stay_at_end()

    def _stay_at_end(self) -> None:
        if self._follow and self._is_at_end:
            # By force: the scrollbar without which textual does not scroll comes only with the next layout.
            self.scroll_end(animate=False, force=True, x_axis=False)

    def _refresh_changed(self, old: tuple[Line, ...], new: tuple[Line, ...]) -> None:
        top, (width, height) = self.scroll_offset.y, self.size
        seen = range(top, top + height)
        changed = [place for place in seen if old[place : place + 1] != new[place : place + 1]]
        if changed:
            self.refresh(*(Region(0, place - top, width, 1) for place in changed))

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """A row a line, at least one."""
        return max(len(self.rows), 1)

    def action_aside(self, cells: int) -> None:
        """Scroll sideways, where a line is longer than the panel."""
        self.scroll_relative(x=cells, animate=False)

    def render_line(self, y: int) -> Strip:
        """One line, cropped to what is scrolled to."""
        left, top = self.scroll_offset
        width = self.content_size.width
        index = y + top
        runs = list(self.rows[index]) if index < len(self.rows) else []
        return self.strip(runs, max(self.virtual_size.width, width)).crop_extend(left, left + width, self.tone("plain"))


class Lines(Rows):
    """Lines as they are: a log, a diff. `follow` keeps the last one in sight until the reader scrolls up."""

    lines: var[tuple[Line, ...]] = var(())

    def watch_lines(self) -> None:
        """Each line is a row."""
        self.rows = self.lines


def _width(line: Line) -> int:
    return sum(len(text) if text.isascii() else cell_len(text) for text, _ in line)


def diff_lines(diff: str) -> tuple[Line, ...]:
    """A unified diff, coloured by its first character."""
    tones = {"+": "ok", "-": "bad", "@": "accent"}
    return tuple(((line, tones.get(line[:1], "muted")),) for line in diff.splitlines())
