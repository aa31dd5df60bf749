"""Screens that lie over another and ask for more than a yes: a row of a table, a look at a change before it is made."""

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Static

from cpadvisor.tui.screens.base import panel
from cpadvisor.tui.widgets.lines import Line, Lines
from cpadvisor.tui.widgets.prose import content
from cpadvisor.tui.widgets.table import Grid, RowTable


class Picker(ModalScreen[int | None]):
    """A table of choices; gives the place of the row that was taken, None for none."""

    AUTO_FOCUS = "#picker"
    BINDINGS: ClassVar = [
        Binding("escape,q", "dismiss(None)", "Back", id="picker-back", tooltip="Take none"),
    ]

    def __init__(self, title: str, grid: Grid, *, cursor: int = 0) -> None:
        super().__init__()
        self._title = title
        self._grid = grid
        self._cursor = cursor

    def compose(self) -> ComposeResult:
        """One table over the screen."""
        yield RowTable(id="picker")

    def on_mount(self) -> None:
        """Fill the table."""
        table = self.query_one(RowTable)
        panel(table, self._title, "enter")
        table.grid = self._grid
        table.cursor = self._cursor

    @on(RowTable.Picked)
    def _picked(self, event: RowTable.Picked) -> None:
        event.stop()
        self.dismiss(event.index)

    @on(RowTable.Moved)
    def _moved(self, event: RowTable.Moved) -> None:
        event.stop()


class ChangePreview(ModalScreen[str]):
    """What a mend would change; gives `write`, `copy` or `stay`."""

    AUTO_FOCUS = "#change"
    BINDINGS: ClassVar = [
        Binding("escape,q,n", "dismiss('stay')", "Stay", id="change-stay", tooltip="Change nothing"),
        Binding("enter,w", "dismiss('write')", "Write", id="change-write", tooltip="Write the file, keep it as .bak"),
        Binding("y", "dismiss('copy')", "Copy", id="change-copy", tooltip="Copy the command"),
    ]

    def __init__(self, title: str, lines: tuple[Line, ...], answers: tuple[tuple[str, str, str], ...]) -> None:
        super().__init__()
        self._title = title
        self._lines = lines
        self._answers = answers

    def compose(self) -> ComposeResult:
        """The change, and below it the keys."""
        with Vertical(id="preview") as box:
            panel(box, self._title)
            diff = Lines(id="change")
            diff.lines = self._lines
            yield diff
            keys = tuple(
                run for key, _, text in self._answers for run in ((f" {key} ", "accent"), (f"{text}  ", "muted"))
            )
            yield Static(content((keys,)), markup=False)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Only the answers that there are."""
        names = {"stay", *(name for _, name, _ in self._answers)}
        return action != "dismiss" or not parameters or parameters[0] in names
