"""Run: the live figures, each beside what was predicted, why a run failed, and the log of one rank."""

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal, Vertical

from cpadvisor import units
from cpadvisor.report.run import first_loss, format_loss, loss_label
from cpadvisor.tui.keys import PAUSE_KEY
from cpadvisor.tui.screens.base import StageScreen, panel
from cpadvisor.tui.screens.failure import failure_facts
from cpadvisor.tui.screens.run_lines import (
    memory_beside,
    predicted_beside,
    rank_columns,
    rank_row,
    replay_label,
    split_lines,
    status_lines,
)
from cpadvisor.tui.session import Live, Session
from cpadvisor.tui.widgets.chart import Chart, Curve
from cpadvisor.tui.widgets.facts import Facts
from cpadvisor.tui.widgets.lines import Line, Lines
from cpadvisor.tui.widgets.prose import Prose
from cpadvisor.tui.widgets.table import Grid, RowTable
from cpadvisor.watch.report import last_value
from cpadvisor.watch.view import RunView

VIEWS = ("loss", "tokens", "ranks", "split")
"""What a narrow terminal shows one at a time, in the order of `v`; before them why the run failed, if it did."""


def loss_scale(value: float | None) -> str:
    """A loss on the scale of the chart."""
    return units.DASH if value is None else f"{value:.2f}"


class RunScreen(StageScreen):
    """Status, failure, charts, memory of the ranks, the split of a step, the log."""

    MODE = "run"
    AUTO_FOCUS = "#log"
    BINDINGS: ClassVar = [
        Binding("v", "view", "View", id="run-view", tooltip="The next chart or table, where one is shown at a time"),
        Binding("r", "rank", "Rank", id="run-rank", tooltip="The log of the next rank"),
        Binding("d", "app.doctor_run", "Doctor", id="run-doctor", tooltip="What the doctor finds on this run"),
        Binding("plus,equals_sign", "speed(1)", "Faster", id="run-faster", tooltip="A faster replay"),
        Binding("minus", "speed(-1)", "Slower", id="run-slower", tooltip="A slower replay"),
        Binding("escape", "back", "Back", id="run-back", tooltip="From an opened run back to the list"),
        PAUSE_KEY,
    ]

    def body(self) -> ComposeResult:
        """Status above, the failure below it, charts beside each other, tables, log below."""
        yield Prose(id="status")
        yield Facts(id="failure")
        with Horizontal(id="charts"):
            yield Chart(scale=loss_scale, tone="series-1", id="loss")
            yield Chart(scale=units.format_count, tone="series-2", id="tokens")
        with Horizontal(id="figures"):
            yield RowTable(id="ranks", cursor=False)
            yield Prose(id="split")
        with Vertical(id="log-part"):
            yield Lines(id="log", follow=True)

    def on_mount(self) -> None:
        """One view at a time begins with the loss."""
        self._views: tuple[str, ...] = VIEWS
        self._kind = (False, False)
        self.add_class(f"-view-{VIEWS[0]}")
        super().on_mount()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Speed is of a replay, and the way back of a run that was opened."""
        recalled = self.session.recalled
        if action == "back":
            return recalled is not None
        if action == "speed":
            return recalled is not None and recalled.replay is not None
        return super().check_action(action, parameters)

    def show(self, session: Session) -> None:
        """Hand the run to the widgets."""
        words, live = self.words, session.shown
        self._show_keys(session)
        problem = session.problems.get("launch") or session.problems.get("stop") or session.problems.get("run")
        trouble: tuple[Line, ...] = ((("✖ ", "bad"), (problem, "plain")),) if problem else ()
        if live is None:
            for name in (*VIEWS, "log", "status"):
                panel(self.query_one(f"#{name}"), words[name])
            said = "no run" if session.busy not in ("launch", "resume", "open", "replay") else "waiting"
            self.query_one("#status", Prose).lines = (*trouble, ((words[said], "muted"),))
            self._show_failure(None)
            return
        self._show_status(live, session, trouble)
        self._show_failure(live.view)
        self._show_charts(live.view)
        self._show_figures(live)

    def _show_keys(self, session: Session) -> None:
        """The keys of a replay and of an opened run stand in the footer while there is one."""
        recalled = session.recalled
        kind = (recalled is not None, recalled is not None and recalled.replay is not None)
        if kind != self._kind:
            self._kind = kind
            self.refresh_bindings()

    def _show_status(self, live: Live, session: Session, trouble: tuple[Line, ...]) -> None:
        words, recalled = self.words, session.recalled
        replay = recalled.replay if recalled is not None else None
        held = ((words["paused"], "warn"),) if session.paused and recalled is None else ""
        panel(self.query_one("#status"), live.view.run, held if replay is None else replay_label(replay, words))
        self.query_one("#status", Prose).lines = (*status_lines(live.view, words), *trouble)

    def _show_failure(self, view: RunView | None) -> None:
        facts, failure = self.query_one("#failure", Facts), None if view is None else view.failure
        self.set_class(failure is not None, "-failed")
        views = VIEWS if failure is None else ("failure", *VIEWS)
        if views != self._views:
            self._views = views
            self._show_view(views[0])
        if failure is not None:
            facts.facts = failure_facts(failure, self.words)
            panel(facts, (("✖ ", "bad"), (self.words[f"failure {failure.kind}"], "bad")), self.words["d doctor"])

    def _show_charts(self, view: RunView) -> None:
        words, expected = self.words, view.prediction or {}
        start = expected.get("first_loss")
        self.query_one("#loss", Chart).curve = Curve(points=view.loss, predicted=start, empty=words["waiting"])
        first = f"{words['first']} {format_loss(first_loss(view))}"
        beside = predicted_beside(first, format_loss(start), words)
        panel(self.query_one("#loss"), words["loss"], f"{loss_label(view)} · {beside}")
        tokens = expected.get("tokens_per_s_per_gpu")
        points = view.tokens_per_s_per_gpu
        self.query_one("#tokens", Chart).curve = Curve(points=points, predicted=tokens, empty=words["waiting"])
        measured = units.format_count(last_value(points))
        panel(self.query_one("#tokens"), words["tokens"], predicted_beside(measured, units.format_count(tokens), words))

    def _show_figures(self, live: Live) -> None:
        words, view = self.words, live.view
        expected = view.prediction or {}
        rows = tuple(rank_row(rank, view, words) for rank in view.ranks)
        self.query_one("#ranks", RowTable).grid = Grid(columns=rank_columns(words), rows=rows)
        panel(self.query_one("#ranks"), words["ranks"], memory_beside(view, words))
        self.query_one("#split", Prose).lines = split_lines(view)
        step = units.format_seconds(last_value(view.step_s))
        predicted = units.format_seconds(expected.get("step_s"))
        panel(self.query_one("#split"), words["split"], predicted_beside(step, predicted, words))
        panel(self.query_one("#log"), words["log"], f"{words['rank']} {live.rank} {words['of']} {view.world}")
        self.query_one("#log", Lines).lines = tuple(((line, "plain"),) for line in live.log)

    def action_view(self) -> None:
        """Show the next chart or table, where one is shown at a time."""
        shown = next(place for place, name in enumerate(self._views) if self.has_class(f"-view-{name}"))
        self._show_view(self._views[(shown + 1) % len(self._views)])

    def _show_view(self, name: str) -> None:
        self.remove_class(*(f"-view-{each}" for each in ("failure", *VIEWS)))
        self.add_class(f"-view-{name}")

    async def action_speed(self, step: int) -> None:
        """A faster or a slower replay."""
        await self.app.run_action(f"speed({step})")

    async def action_back(self) -> None:
        """From an opened run back to the list."""
        await self.app.run_action("back")

    async def action_rank(self) -> None:
        """Show the log of the next rank."""
        await self.app.run_action("next_rank")
