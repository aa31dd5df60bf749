"""The job as four fields; enter in any of them plans, and a wrong value stays where it was typed."""

from dataclasses import replace
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Container, Horizontal
from textual.message import Message
from textual.suggester import SuggestFromList
from textual.widgets import Input, Static

from cpadvisor.job import Request
from cpadvisor.plan.workload import ENGINES
from cpadvisor.tui.i18n import Words

FIELDS = ("model", "length", "engine", "lock")
_PLACEHOLDERS = {"model": "name or folder", "length": "32k", "engine": ENGINES[0], "lock": "none, or cp=2"}


class JobForm(Container):
    """Model, length, engine, lock."""

    BINDINGS: ClassVar = [
        Binding("escape", "leave", "Back", id="job-leave", tooltip="Leave the job and keep what was typed", show=False)
    ]

    class Submitted(Message):
        """Enter was pressed: this job is to be planned."""

        def __init__(self, request: Request) -> None:
            super().__init__()
            self.request = request

    class Left(Message):
        """Escape was pressed in a field."""

    def __init__(self, words: Words, *, id: str) -> None:
        super().__init__(id=id, classes="panel")
        self._words = words
        self._request = Request()

    def compose(self) -> ComposeResult:
        """A label and an input a field, and a line for what is wrong."""
        for name in FIELDS:
            with Horizontal(classes="field"):
                yield Static(self._words[name], classes="label", markup=False)
                yield Input(
                    placeholder=_PLACEHOLDERS[name],
                    compact=True,
                    id=f"job-{name}",
                    select_on_focus=True,
                    suggester=SuggestFromList(ENGINES) if name == "engine" else None,
                )
        yield Static(id="job-problem", markup=False)

    def show(self, request: Request, problem: str | None) -> None:
        """Fill the fields with a request that is not the one shown; tell a problem."""
        if request != self._request:
            self._request = request
            for name, text in zip(FIELDS, texts(request), strict=True):
                self.query_one(f"#job-{name}", Input).value = text
        line = self.query_one("#job-problem", Static)
        line.update(problem or "")
        line.display = bool(problem)
        self.set_class(bool(problem), "-wrong")

    def suggest_models(self, names: tuple[str, ...]) -> None:
        """Complete model names from the catalogue."""
        self.query_one("#job-model", Input).suggester = SuggestFromList(names, case_sensitive=False)

    def edit(self) -> None:
        """Put the cursor into the first field."""
        self.query_one("#job-model", Input).focus()

    @on(Input.Submitted)
    def _submit(self, event: Input.Submitted) -> None:
        event.stop()
        model, length, engine, lock = (self.query_one(f"#job-{name}", Input).value.strip() for name in FIELDS)
        request = replace(self._request, model=model, sequence_len=length, engine=engine, lock=lock)
        self._request = request
        self.post_message(self.Submitted(request))

    def action_leave(self) -> None:
        """Give the focus back."""
        self.post_message(self.Left())


def texts(request: Request) -> tuple[str, str, str, str]:
    """The four fields of a request as they are typed."""
    return request.model or "", request.sequence_len or "", request.engine, request.lock or ""
