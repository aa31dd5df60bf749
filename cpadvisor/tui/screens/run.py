"""Run: the live figures, each beside what was predicted, and the log of one rank."""

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal, Vertical

from cpadvisor import units
from cpadvisor.report.run import comparison_rows, first_loss, format_loss, loss_label, progress_label
from cpadvisor.tui.i18n import Words
from cpadvisor.tui.screens.base import STATE_MARKS, STATE_TONES, StageScreen, panel
from cpadvisor.tui.screens.plan import term_lines
from cpadvisor.tui.session import Live, Session
from cpadvisor.tui.widgets.bar import memory_bar
from cpadvisor.tui.widgets.chart import Chart, Curve
from cpadvisor.tui.widgets.lines import Line, Lines
from cpadvisor.tui.widgets.prose import Prose
from cpadvisor.tui.widgets.table import Cell, Column, Grid, Row, RowTable, cell
from cpadvisor.watch.report import last_value
from cpadvisor.watch.view import RankView, RunView

VIEWS = ("loss", "tokens", "ranks", "split")
"""What a narrow terminal shows one at a time, in the order of `v`."""
BAR_CELLS = 20


def loss_scale(value: float | None) -> str:
    """A loss on the scale of the chart."""
    return units.DASH if value is None else f"{value:.2f}"


class RunScreen(StageScreen):
    """Status, charts, memory of the ranks, the split of a step, the log."""

    MODE = "run"
    AUTO_FOCUS = "#log"
    BINDINGS: ClassVar = [
        Binding("v", "view", "View", id="run-view", tooltip="The next chart or table, where one is shown at a time"),
        Binding("r", "rank", "Rank", id="run-rank", tooltip="The log of the next rank"),
    ]

    def body(self) -> ComposeResult:
        """Status above, charts beside each other, tables, log below."""
        yield Prose(id="status")
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
        self.add_class(f"-view-{VIEWS[0]}")
        super().on_mount()

    def show(self, session: Session) -> None:
        """Hand the run to the widgets."""
        words, live = self.words, session.live
        problem = session.problems.get("launch") or session.problems.get("stop") or session.problems.get("run")
        trouble: tuple[Line, ...] = ((("✖ ", "bad"), (problem, "plain")),) if problem else ()
        if live is None:
            for name in (*VIEWS, "log", "status"):
                panel(self.query_one(f"#{name}"), words[name])
            said = "no run" if session.busy != "launch" else "waiting"
            self.query_one("#status", Prose).lines = (*trouble, ((words[said], "muted"),))
            return
        self._show_live(live, session.paused, trouble)

    def _show_live(self, live: Live, paused: bool, trouble: tuple[Line, ...]) -> None:
        view, words = live.view, self.words
        expected = view.prediction or {}
        panel(self.query_one("#status"), view.run, words["paused"] if paused else "")
        self.query_one("#status", Prose).lines = (*status_lines(view, words), *trouble)
        start = expected.get("first_loss")
        self.query_one("#loss", Chart).curve = Curve(points=view.loss, predicted=start, empty=words["waiting"])
        first = f"{words['first']} {format_loss(first_loss(view))}"
        panel(
            self.query_one("#loss"),
            words["loss"],
            f"{loss_label(view)} · {predicted_beside(first, format_loss(start), words)}",
        )
        tokens = expected.get("tokens_per_s_per_gpu")
        self.query_one("#tokens", Chart).curve = Curve(
            points=view.tokens_per_s_per_gpu, predicted=tokens, empty=words["waiting"]
        )
        measured = units.format_count(last_value(view.tokens_per_s_per_gpu))
        panel(
            self.query_one("#tokens"),
            words["tokens"],
            predicted_beside(measured, units.format_count(tokens), words),
        )
        rows = tuple(rank_row(rank, view) for rank in view.ranks)
        self.query_one("#ranks", RowTable).grid = Grid(columns=rank_columns(words), rows=rows)
        panel(self.query_one("#ranks"), words["ranks"], memory_beside(view, words))
        self.query_one("#split", Prose).lines = split_lines(view)
        step = units.format_seconds(last_value(view.step_s))
        panel(
            self.query_one("#split"),
            words["split"],
            predicted_beside(step, units.format_seconds(expected.get("step_s")), words),
        )
        panel(self.query_one("#log"), words["log"], f"rank {live.rank} of {view.world}")
        self.query_one("#log", Lines).lines = tuple(((line, "plain"),) for line in live.log)

    def action_view(self) -> None:
        """Show the next chart or table, where one is shown at a time."""
        shown = next(place for place, name in enumerate(VIEWS) if self.has_class(f"-view-{name}"))
        self.remove_class(f"-view-{VIEWS[shown]}")
        self.add_class(f"-view-{VIEWS[(shown + 1) % len(VIEWS)]}")

    async def action_rank(self) -> None:
        """Show the log of the next rank."""
        await self.app.run_action("next_rank")


def rank_columns(words: Words) -> tuple[Column, ...]:
    """Rank, device, process, memory now, its peak, and the peak that was predicted."""
    return (
        Column(title="rank", right=True),
        Column(title="GPU", right=True),
        Column(title="pid", right=True),
        Column(title="now", right=True, width=9),
        Column(title="peak", right=True, width=9),
        Column(title=words["predicted"], right=True, width=9),
        Column(title="", width=BAR_CELLS),
        Column(title="", flexible=True),
    )


def rank_row(rank: RankView, view: RunView) -> Row:
    """One process: its peak as a bar over the band that was predicted."""
    expected = view.prediction or {}
    high, predicted = expected.get("high_bytes"), expected.get("peak_bytes")
    far = max(filter(None, (high, predicted, view.peak_bytes)), default=0)
    bar = memory_bar(
        rank.peak_bytes, limit=None, end=far * 1.1, low=expected.get("low_bytes"), high=high, width=BAR_CELLS
    )
    return (
        cell(str(rank.rank), "muted"),
        cell(units.DASH if rank.gpu is None else str(rank.gpu), "muted"),
        cell(units.DASH if rank.pid is None else str(rank.pid), "muted"),
        cell(units.format_bytes(rank.allocated_bytes), "muted"),
        cell(units.format_bytes(rank.peak_bytes)),
        cell(units.format_bytes(predicted), "predicted"),
        Cell(runs=tuple(bar)),
        cell("● alive" if rank.alive else "○ ended", "ok" if rank.alive else "muted"),
    )


def predicted_beside(measured: str, predicted: str, words: Words) -> str:
    """`1,930 · predicted 2,040`."""
    return f"{measured} · {words['predicted']} {predicted}"


def memory_beside(view: RunView, words: Words) -> str:
    """The peak over all ranks beside its prediction and band."""
    expected = view.prediction or {}
    text = predicted_beside(units.format_bytes(view.peak_bytes), units.format_bytes(expected.get("peak_bytes")), words)
    if expected.get("low_bytes") is None or expected.get("high_bytes") is None:
        return text
    return f"{text} ({units.format_bytes(expected['low_bytes'])} to {units.format_bytes(expected['high_bytes'])})"


def status_lines(view: RunView, words: Words) -> tuple[Line, ...]:
    """State and progress, then measured beside predicted, then what is wrong."""
    tone = STATE_TONES.get(view.state, "warn")
    first: list[tuple[str, str]] = [
        (f"{STATE_MARKS.get(view.state, '●')} {view.state}", tone),
        (f"  step {progress_label(view)}", "plain"),
    ]
    first.append((f"  {units.format_seconds(view.elapsed_s)}", "muted"))
    if view.eta_s is not None:
        first.append((f"  ETA {units.format_seconds(view.eta_s)}", "muted"))
    first.append((f"  {words['loss'].lower()} {loss_label(view)}", "plain"))
    about = f"{view.model} · {units.format_tokens(view.sequence_len)} · {view.layout_label} · {view.world} ranks"
    how = " · ".join(part for part in (view.cp_method, view.kernel) if part)
    second: list[tuple[str, str]] = [(about, "muted"), (f" · {how}" if how else "", "faint")]
    third: list[tuple[str, str]] = []
    for name, measured, predicted in comparison_rows(view):
        third.extend([(f"{name} ", "muted"), (measured, "plain"), (f" / {predicted}   ", "predicted")])
    lines: list[Line] = [
        tuple(first),
        tuple(second),
        (*third, (f"{words['measured']} / ", "faint"), (words["predicted"], "predicted")),
    ]
    if view.reason:
        lines.append(((view.reason, "bad" if view.state in ("failed", "lost") else "warn"),))
    lines.extend((("▲ ", "warn"), (warning, "plain")) for warning in view.warnings)
    return tuple(lines)


def split_lines(view: RunView) -> tuple[Line, ...]:
    """Seconds of the last step by part, largest first; the gradient's norm below."""
    lines = term_lines(view.split_s, units.format_seconds, width=16)
    if view.grad_norm is None:
        return lines
    return (*lines, (("gradient norm ", "muted"), (f"{view.grad_norm:.3f}", "plain")))
