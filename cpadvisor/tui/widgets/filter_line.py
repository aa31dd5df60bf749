"""A filter: one line under a table, open while it is typed in or holds a text."""

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal
from textual.message import Message
from textual.widgets import Input, Static


class FilterLine(Horizontal):
    """`/` and what was typed after it. Enter keeps it, escape clears it; both give the focus back."""

    BINDINGS: ClassVar = [
        Binding("escape", "clear", "Clear", id="filter-clear", tooltip="Show all rows again", show=False),
    ]

    class Changed(Message):
        """Another text is to be looked for."""

        def __init__(self, text: str) -> None:
            super().__init__()
            self.text = text

    class Left(Message):
        """The focus is to go back to the table."""

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id, classes="filter")
        self.display = False

    @property
    def text(self) -> str:
        """What rows have to hold."""
        return self.query_one(Input).value if self.is_mounted else ""

    def compose(self) -> ComposeResult:
        """The slash and the field."""
        yield Static("/", classes="label", markup=False)
        yield Input(compact=True, select_on_focus=False)

    def open(self) -> None:
        """Put the cursor into it."""
        self.display = True
        self.query_one(Input).focus()

    def action_clear(self) -> None:
        """Look for nothing and close."""
        self.query_one(Input).value = ""
        self._leave()

    @on(Input.Changed)
    def _changed(self, event: Input.Changed) -> None:
        event.stop()
        self.post_message(self.Changed(event.value))

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self._leave()

    def _leave(self) -> None:
        self.display = bool(self.query_one(Input).value)
        self.post_message(self.Left())
