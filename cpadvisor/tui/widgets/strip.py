"""The line at the top of each screen: which screen this is, and what all screens are about."""

from dataclasses import dataclass

from rich.cells import cell_len
from textual import events
from textual.app import ComposeResult
from textual.containers import Container, Horizontal
from textual.message import Message
from textual.reactive import var
from textual.widgets import Static

from cpadvisor.tui.widgets.lines import Line
from cpadvisor.tui.widgets.prose import content


class Tab(Static):
    """One stage by its key and name; a click goes there."""

    class Chosen(Message):
        """The tab was clicked."""

        def __init__(self, mode: str) -> None:
            super().__init__()
            self.mode = mode

    def __init__(self, key: str, mode: str, title: str, *, active: bool) -> None:
        name_tone = "accent" if active else "plain"
        super().__init__(content((((f"{key} ", "muted"), (title, name_tone)),)), classes="tab", markup=False)
        self._mode = mode
        self.set_class(active, "-active")

    def on_click(self, event: events.Click) -> None:
        """Ask for the screen."""
        event.stop()
        self.post_message(self.Chosen(self._mode))


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A screen as the strip names it."""

    key: str
    mode: str
    title: str


class ContextStrip(Container):
    """Tabs at the left; node, model, length, layout and run state at the right, below in a narrow terminal."""

    line: var[Line] = var(())

    def __init__(self, stages: tuple[Stage, ...], *, active: str) -> None:
        super().__init__(id="strip")
        self._stages = stages
        self._active = active

    def compose(self) -> ComposeResult:
        """Tabs and the context."""
        with Horizontal(id="tabs"):
            for stage in self._stages:
                yield Tab(stage.key, stage.mode, stage.title, active=stage.mode == self._active)
        yield Static(id="context", markup=False)

    def watch_line(self) -> None:
        """Show the new context."""
        if self.is_mounted:
            context = self.query_one("#context", Static)
            context.update(content((ending(self.line, context.size.width),)), layout=False)

    def on_resize(self) -> None:
        """Show what fits now, once the new width is known."""
        self.call_after_refresh(self.watch_line)


def ending(line: Line, width: int) -> Line:
    """The end of a line that is too wide: its last part, the state of the run, is what changes."""
    left = sum(cell_len(text) for text, _ in line)
    if left <= width or not width:
        return line
    kept = list(line)
    while len(kept) > 1 and left + 1 > width:
        left -= cell_len(kept.pop(0)[0])
    return (("…", "faint"), *kept)
