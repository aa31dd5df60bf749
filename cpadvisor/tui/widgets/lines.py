"""Lines of text as they are, never read as markup: a log, a diff. Scrolls both ways and can follow the end."""

from typing import ClassVar

from rich.cells import cell_len
from textual.binding import Binding
from textual.geometry import Size
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.strip import Strip

from cpadvisor.tui.widgets.tones import TONE_CLASSES, Run, Toned

Line = tuple[Run, ...]


class Lines(ScrollView, Toned, can_focus=True):
    """What was given, one line a row; `follow` keeps the last line in sight until the reader scrolls up."""

    COMPONENT_CLASSES: ClassVar = set(TONE_CLASSES)

    BINDINGS: ClassVar = [
        Binding("up,k", "scroll_up", "Up", id="lines-up", tooltip="A line up", show=False),
        Binding("down,j", "scroll_down", "Down", id="lines-down", tooltip="A line down", show=False),
        Binding("left,h", "aside(-8)", "Left", id="lines-left", tooltip="Text to the left", show=False),
        Binding("right,l", "aside(8)", "Right", id="lines-right", tooltip="Text to the right", show=False),
        Binding("end,G", "scroll_end", "End", id="lines-end", tooltip="To the last line", show=False),
        Binding("home,g", "scroll_home", "Start", id="lines-home", tooltip="To the first line", show=False),
    ]

    lines: reactive[tuple[Line, ...]] = reactive(())

    def __init__(self, *, id: str, follow: bool = False) -> None:
        super().__init__(id=id, classes="panel")
        self._follow = follow

    def watch_lines(self, old: tuple[Line, ...], new: tuple[Line, ...]) -> None:
        """Take the new size; a reader at the end stays at the end."""
        at_end = self.scroll_offset.y >= self.max_scroll_y - 1
        width = max((sum(cell_len(text) for text, _ in line) for line in self.lines), default=0)
        self.virtual_size = Size(width + 1, len(self.lines))
        if self._follow and at_end:
            self.scroll_end(animate=False)
        # A layout of the screen costs more than all its lines: only a panel that grows with its lines needs one.
        self.refresh(layout=self.styles.is_auto_height and len(old) != len(new))

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """A row a line, at least one."""
        return max(len(self.lines), 1)

    def action_aside(self, cells: int) -> None:
        """Scroll sideways, where a line is longer than the panel."""
        self.scroll_relative(x=cells, animate=False)

    def render_line(self, y: int) -> Strip:
        """One line, cropped to what is scrolled to."""
        left, top = self.scroll_offset
        width = self.content_size.width
        index = y + top
        runs = list(self.lines[index]) if index < len(self.lines) else []
        return self.strip(runs, max(self.virtual_size.width, width)).crop_extend(left, left + width, self.tone("plain"))


def diff_lines(diff: str) -> tuple[Line, ...]:
    """A unified diff, coloured by its first character."""
    tones = {"+": "ok", "-": "bad", "@": "accent"}
    return tuple(((line, tones.get(line[:1], "muted")),) for line in diff.splitlines())
