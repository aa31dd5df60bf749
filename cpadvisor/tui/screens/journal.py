"""The command log as a screen over another: what the app did, newest last, each as the command that does the same."""

import time
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.screen import ModalScreen

from cpadvisor import units
from cpadvisor.tui.command_log import CommandLog, Entry
from cpadvisor.tui.copying import copy_from
from cpadvisor.tui.i18n import Words
from cpadvisor.tui.screens.base import panel
from cpadvisor.tui.screens.reader import Reader
from cpadvisor.tui.widgets.table import Column, Grid, Row, RowTable, cell

RENEW_S = 0.5


class Journal(ModalScreen[None]):
    """A table of entries; enter reads one in full, y copies its command."""

    AUTO_FOCUS = "#journal"
    BINDINGS: ClassVar = [
        Binding("escape,q,at", "dismiss(None)", "Back", id="journal-back", tooltip="Back to the screen below"),
        Binding("y", "copy", "Copy", id="journal-copy", tooltip="Copy the command under the cursor"),
    ]

    def __init__(self, words: Words, log: CommandLog) -> None:
        super().__init__()
        self._words = words
        self._log = log
        self._shown: tuple[Entry, ...] = ()

    def compose(self) -> ComposeResult:
        """One table over the screen."""
        yield RowTable(id="journal")

    def on_mount(self) -> None:
        """Fill the table, begin at its end, and see what ends meanwhile."""
        panel(self.query_one(RowTable), self._words["command log"], "y · esc")
        self._renew()
        self.query_one(RowTable).cursor = len(self._shown) - 1
        self.set_interval(RENEW_S, self._renew)

    def _renew(self) -> None:
        entries = self._log.entries
        if entries != self._shown or not entries:
            self._shown = entries
            rows = tuple(entry_row(entry) for entry in entries)
            self.query_one(RowTable).grid = Grid(columns=COLUMNS, rows=rows, empty=self._words["nothing done"])

    @on(RowTable.Picked)
    def _picked(self, event: RowTable.Picked) -> None:
        event.stop()
        entry = self._shown[event.index]
        problem = () if entry.problem is None else ((("", "plain"),), ((entry.problem, "bad"),))
        self.app.push_screen(Reader(started(entry), (((entry.command, "plain"),), *problem)))

    @on(RowTable.Moved)
    def _moved(self, event: RowTable.Moved) -> None:
        event.stop()

    def action_copy(self) -> None:
        """Give the command under the cursor to the clipboard."""
        place = self.query_one(RowTable).cursor
        copy_from(self.app, self._shown[place].command if self._shown else None)


COLUMNS = (
    Column(title="at"),
    Column(title=""),
    Column(title="took", right=True, width=8),
    Column(title="command", flexible=True),
    Column(title="why", most=60),
)


def started(entry: Entry) -> str:
    """The time of day, here."""
    return time.strftime("%H:%M:%S", time.localtime(entry.started_at))


def entry_row(entry: Entry) -> Row:
    """One thing that was done, or is being done."""
    mark = ("◌", "warn") if entry.seconds is None else ("●", "ok") if entry.problem is None else ("✖", "bad")
    return (
        cell(started(entry), "muted"),
        cell(*mark),
        cell(units.format_seconds(entry.seconds), "muted"),
        cell(entry.command),
        cell(" ".join((entry.problem or "").split()), "bad"),
    )
