"""Screens that lie over another: a text to read, a question to answer."""

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Static

from cpadvisor.tui.screens.base import NARROW, panel
from cpadvisor.tui.widgets.lines import Line
from cpadvisor.tui.widgets.prose import Prose, content


def reader_width(columns: int) -> int:
    """Cells of a line in a reader on a terminal of so many columns, as app.tcss lays it out: 74 of 80."""
    return min(columns if columns < NARROW else columns * 4 // 5, 100) - 6


class Reader(ModalScreen[None]):
    """A text in full; any of escape, q and enter goes back."""

    BINDINGS: ClassVar = [
        Binding("escape,q,enter,question_mark", "dismiss", "Back", id="reader-back", tooltip="Back to the screen below")
    ]

    def __init__(self, title: str, lines: tuple[Line, ...]) -> None:
        super().__init__()
        self._title = title
        self._lines = lines

    def compose(self) -> ComposeResult:
        """One panel over the screen."""
        prose = Prose(id="reader")
        prose.lines = self._lines
        panel(prose, self._title, "esc")
        yield prose


class Question(ModalScreen[str]):
    """A question with one key an answer; escape gives the answer `stay`."""

    BINDINGS: ClassVar = [
        Binding("escape,q,n", "choose('stay')", "Stay", id="question-stay", tooltip="Change nothing"),
        Binding("x,X,y", "choose('yes')", "Yes", id="question-yes", tooltip="Do it"),
        Binding("d,l", "choose('leave')", "Leave it", id="question-leave", tooltip="Quit and leave the run alone"),
        Binding("w", "choose('write')", "Write", id="question-write", tooltip="Write the plan's file"),
        Binding("e", "choose('edit')", "Edit", id="question-edit", tooltip="Open the file as it is on disk"),
    ]

    def __init__(self, title: str, text: str, answers: tuple[tuple[str, str, str], ...]) -> None:
        super().__init__()
        self._title = title
        self._text = text
        self._answers = answers

    def compose(self) -> ComposeResult:
        """The question and its answers."""
        with Vertical(id="question") as box:
            panel(box, self._title)
            yield Static(content((((self._text, "plain"),),)), markup=False)
            lines = tuple(((f" {key} ", "accent"), (text, "muted")) for key, _, text in self._answers)
            yield Static(content(((("", ""),), *lines)), markup=False)

    def action_choose(self, answer: str) -> None:
        """Give the answer, if it is one of this question's."""
        if answer == "stay" or answer in (name for _, name, _ in self._answers):
            self.dismiss(answer)
