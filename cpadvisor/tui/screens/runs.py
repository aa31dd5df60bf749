"""Runs: what was trained, newest first, each figure beside its prediction; two runs laid over each other."""

from datetime import datetime
from pathlib import Path
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal
from textual.message import Message

from cpadvisor import units
from cpadvisor.tui.history import Entry, History, matching
from cpadvisor.tui.screens.base import NARROW, StageScreen, panel
from cpadvisor.tui.screens.run import loss_scale
from cpadvisor.tui.screens.run_rows import difference_facts, entry_facts, legend, run_columns, run_row
from cpadvisor.tui.session import Session
from cpadvisor.tui.widgets.chart import Chart, Curve
from cpadvisor.tui.widgets.facts import Facts
from cpadvisor.tui.widgets.filter_line import FilterLine
from cpadvisor.tui.widgets.lines import Line
from cpadvisor.tui.widgets.table import Grid, RowTable
from cpadvisor.watch.view import RunView

VIEWS = ("about", "loss", "tokens")
"""What a narrow terminal shows one at a time below the list, in the order of `v`."""


class RunsScreen(StageScreen):
    """The list above; curves and the run under the cursor, or two that are compared, below."""

    MODE = "runs"
    AUTO_FOCUS = "#history"
    QUIET = frozenset({"launch", "stop"})
    BINDINGS: ClassVar = [
        Binding("p", "replay", "Replay", id="runs-replay", tooltip="Show the run again, from its events"),
        Binding("space", "mark", "Mark", id="runs-mark", tooltip="Mark this run; two marked ones can be compared"),
        Binding("c", "compare", "Compare", id="runs-compare", tooltip="The two marked runs: curves and configs"),
        Binding("d", "delete", "Delete", id="runs-delete", tooltip="Delete an ended run, after a question"),
        Binding("R", "resume", "Resume", id="runs-resume", tooltip="Go on with an ended run, after a question"),
        Binding("slash", "filter", "Filter", id="runs-filter", tooltip="Only the runs that hold these words"),
        Binding("v", "view", "View", id="runs-view", tooltip="The next panel, where one is shown", show=False),
        Binding("escape", "unmark", "Unmark", id="runs-unmark", tooltip="Mark none, compare none", show=False),
    ]

    class Wanted(Message):
        """Something is to be done with a run: `open`, `replay`, `delete` or `resume`."""

        def __init__(self, what: str, entry: Entry) -> None:
            super().__init__()
            self.what = what
            self.entry = entry

    class CompareWanted(Message):
        """Two runs are to be laid side by side; None ends that."""

        def __init__(self, pair: tuple[Path, Path] | None) -> None:
            super().__init__()
            self.pair = pair

    def __init__(self) -> None:
        super().__init__()
        self._listed: tuple[Entry, ...] = ()
        self._chosen: Path | None = None
        self._marked: tuple[Path, ...] = ()

    def body(self) -> ComposeResult:
        """The list, then what belongs to the run under the cursor."""
        yield RowTable(id="history")
        yield FilterLine(id="history-filter")
        with Horizontal(id="overlay"):
            yield Chart(scale=loss_scale, tone="series-1", id="overlay-loss")
            yield Chart(scale=units.format_count, tone="series-1", id="overlay-tokens")
            yield Facts(id="about")

    def on_mount(self) -> None:
        """One panel at a time begins with the words."""
        self.add_class(f"-view-{VIEWS[0]}")
        super().on_mount()

    def on_resize(self) -> None:
        """Other columns fit."""
        super().on_resize()
        self.show(self.session)

    def show(self, session: Session) -> None:
        """Hand the history to the widgets."""
        words, history = self.words, session.history
        entries = () if history is None else history.entries
        self._listed = matching(entries, self.query_one(FilterLine).text)
        self._marked = tuple(path for path in self._marked if any(entry.directory == path for entry in entries))
        now = seen_at(history)
        wide = self.size.width >= NARROW
        table = self.query_one("#history", RowTable)
        rows = tuple(
            run_row(each, words, now=now, marked=each.directory in self._marked, wide=wide) for each in self._listed
        )
        empty = session.problems.get("runs") or words["reading" if history is None else "no runs"]
        table.grid = Grid(columns=run_columns(words, wide=wide), rows=rows, empty=empty)
        self._keep_cursor(table)
        panel(table, words["runs"], self._subtitle(entries))
        self._show_chosen(session, now)

    def _keep_cursor(self, table: RowTable) -> None:
        """Stay on the run that was chosen, wherever it stands now."""
        paths = [entry.directory for entry in self._listed]
        with self.prevent(RowTable.Moved):
            table.cursor = paths.index(self._chosen) if self._chosen in paths else 0

    def _subtitle(self, entries: tuple[Entry, ...]) -> Line:
        words, alive = self.words, sum(entry.is_alive for entry in entries)
        count = words["one run"] if len(entries) == 1 else f"{len(entries)} {words['runs count']}"
        runs: list[tuple[str, str]] = [(count, "muted")]
        if alive:
            runs.append((f" · ● {alive} {words['alive']}", "ok"))
        if self._marked:
            runs.append((f" · ✓ {len(self._marked)} {words['marked']}", "accent"))
        return tuple(runs)

    def _show_chosen(self, session: Session, now: datetime) -> None:
        words, compared, entry = self.words, session.compared, self._entry
        about = self.query_one("#about", Facts)
        if compared is not None:
            comparison = compared.comparison
            pair = (comparison.first, comparison.second)
            about.facts = difference_facts(comparison, words)
            panel(about, self._titled("compared"), f"{words['differences']} {len(comparison.differences)}")
        else:
            pair = (entry.view if entry is not None else None, None)
            about.facts = () if entry is None else entry_facts(entry, words)
            panel(about, self._titled("about"), "" if entry is None else entry.name)
        self._show_curves(pair, now)

    def _show_curves(self, pair: tuple[RunView | None, RunView | None], now: datetime) -> None:
        first, second = pair
        told = legend(first, second, now=now)
        for name, title, key in (("loss", "loss", "first_loss"), ("tokens", "tokens", "tokens_per_s_per_gpu")):
            series = "loss" if name == "loss" else "tokens_per_s_per_gpu"
            predicted = (first.prediction or {}).get(key) if first is not None and second is None else None
            self.query_one(f"#overlay-{name}", Chart).curve = Curve(
                points=getattr(first, series) if first is not None else (),
                second=getattr(second, series) if second is not None else (),
                predicted=predicted,
                empty=self.words["no steps"],
            )
            panel(self.query_one(f"#overlay-{name}"), self._titled(title), told)

    def _titled(self, word: str) -> Line:
        """A title; where one panel is shown at a time, with the key that goes on to the next."""
        return ((self.words[word], ""), ("  v", "accent") if self.size.width < NARROW else ("", ""))

    @property
    def _entry(self) -> Entry | None:
        place = self.query_one("#history", RowTable).cursor
        return self._listed[place] if place < len(self._listed) else None

    @on(RowTable.Moved, "#history")
    def _moved(self, event: RowTable.Moved) -> None:
        event.stop()
        self._chosen = self._entry.directory if self._entry is not None else None
        self._show_chosen(self.session, seen_at(self.session.history))

    @on(RowTable.Picked, "#history")
    def _picked(self, event: RowTable.Picked) -> None:
        event.stop()
        self._want("open")

    def action_replay(self) -> None:
        """Show an ended run again."""
        self._want("replay")

    def action_delete(self) -> None:
        """Delete the run under the cursor."""
        self._want("delete")

    def action_resume(self) -> None:
        """Go on with the run under the cursor."""
        self._want("resume")

    def _want(self, what: str) -> None:
        if self._entry is not None:
            self.post_message(self.Wanted(what, self._entry))

    def action_mark(self) -> None:
        """Mark or unmark the run under the cursor, and go down; of three marked ones the first is dropped."""
        entry = self._entry
        if entry is None:
            return
        path = entry.directory
        kept = tuple(each for each in self._marked if each != path)
        self._marked = kept if path in self._marked else (*kept, path)[-2:]
        self.show(self.session)
        self.query_one("#history", RowTable).action_cursor(1)

    def action_unmark(self) -> None:
        """Mark none, and show the run under the cursor again."""
        self._marked = ()
        self.post_message(self.CompareWanted(None))
        self.show(self.session)

    def action_compare(self) -> None:
        """Lay the two marked runs side by side."""
        if len(self._marked) != 2:
            self.app.notify(self.words["mark two"], severity="warning", markup=False)
            return
        first, second = sorted(self._marked, key=lambda path: path.name)
        self.post_message(self.CompareWanted((first, second)))

    def action_filter(self) -> None:
        """Type what the runs have to hold."""
        self.query_one(FilterLine).open()

    def action_view(self) -> None:
        """Show the next panel below, where one is shown at a time."""
        shown = next(place for place, name in enumerate(VIEWS) if self.has_class(f"-view-{name}"))
        self.remove_class(f"-view-{VIEWS[shown]}")
        self.add_class(f"-view-{VIEWS[(shown + 1) % len(VIEWS)]}")

    @on(FilterLine.Changed)
    def _filtered(self) -> None:
        self.show(self.session)

    @on(FilterLine.Left)
    def _filter_left(self) -> None:
        self.query_one("#history").focus()


def seen_at(history: History | None) -> datetime:
    """When the list was read, by the clock on the wall."""
    return datetime.fromtimestamp(history.seen_at if history else 0.0).astimezone()
