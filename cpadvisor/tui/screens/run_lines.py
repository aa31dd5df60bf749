"""What the Run screen says of a run in lines: its state, its ranks, where a step goes, how far a replay is."""

from collections.abc import Sequence

from cpadvisor import units
from cpadvisor.report.run import comparison_rows, exchange_label, loss_label, progress_label
from cpadvisor.tui.history import ReplayState
from cpadvisor.tui.i18n import Words
from cpadvisor.tui.screens.base import state_mark
from cpadvisor.tui.screens.plan import term_lines
from cpadvisor.tui.widgets.bar import fill, memory_bar
from cpadvisor.tui.widgets.lines import Line
from cpadvisor.tui.widgets.table import Cell, Column, Row, cell
from cpadvisor.tui.widgets.tones import Run
from cpadvisor.tui.widgets.wrap import GLUE
from cpadvisor.watch.figures import expected_peak_bytes
from cpadvisor.watch.view import RankView, RunView

BAR_CELLS = 16
REPLAY_CELLS = 16
PHASES = ("launching", "initialising", "warming_up", "stopping")
"""States of which a line says what is waited for."""


def rank_columns(words: Words) -> tuple[Column, ...]:
    """Rank, whether it lives, device, process, its peak, the peak that was predicted, memory now."""
    return (
        Column(title=words["rank"], right=True),
        Column(title=""),
        Column(title=words["at step"], right=True),
        Column(title="GPU", right=True),
        Column(title="pid", right=True),
        Column(title=words["peak"], right=True, width=9),
        Column(title=words["predicted"], right=True, width=9),
        Column(title="", width=BAR_CELLS),
        Column(title=words["now"], right=True, width=9),
        Column(title="", flexible=True),
    )


def rank_row(rank: RankView, view: RunView, words: Words) -> Row:
    """One process: its peak as a bar over the band that was predicted."""
    low, predicted, high = expected_band(view)
    far = max(filter(None, (high, predicted, view.peak_bytes)), default=0)
    bar = memory_bar(rank.peak_bytes, limit=None, end=far * 1.1, low=low, high=high, width=BAR_CELLS)
    return (
        cell(str(rank.rank), "muted"),
        rank_state(rank, view, words),
        cell(units.DASH if rank.step is None else str(rank.step), "muted"),
        cell(units.DASH if rank.gpu is None else str(rank.gpu), "muted"),
        cell(units.DASH if rank.pid is None else str(rank.pid), "muted"),
        cell(units.format_bytes(rank.peak_bytes)),
        cell(units.format_bytes(predicted), "predicted"),
        Cell(runs=tuple(bar)),
        cell(units.format_bytes(rank.allocated_bytes), "muted"),
        cell(""),
    )


def rank_state(rank: RankView, view: RunView, words: Words) -> Cell:
    """Whether it lives; for how long the rank is silent that the others wait for; which one failed first."""
    failure = view.failure
    if failure is not None and failure.rank == rank.rank:
        if view.is_final:
            return cell(f"✖ {words['failed first']}", "bad")
        silent = None if rank.last_event_t is None else max(0.0, view.started + view.elapsed_s - rank.last_event_t)
        return cell(f"▲ {words['others wait']} · {words['silent']} {units.format_seconds(silent)}", "bad")
    if rank.halted:
        return cell(f"▲ {words['halted']}", "bad")
    return cell(f"● {words['alive']}", "ok") if rank.alive else cell(f"○ {words['ended']}", "muted")


def predicted_beside(measured: str, predicted: str, words: Words) -> str:
    """`1,930 · predicted 2,040`."""
    return f"{measured} · {words['predicted']} {predicted}"


def memory_beside(view: RunView, words: Words) -> str:
    """The peak over all ranks beside its prediction and band."""
    low, predicted, high = expected_band(view)
    text = predicted_beside(units.format_bytes(view.peak_bytes), units.format_bytes(predicted), words)
    if low is None or high is None:
        return text
    return f"{text} ({units.format_bytes(low)} to {units.format_bytes(high)})"


def expected_band(view: RunView) -> tuple[float | None, float | None, float | None]:
    """Low, expected and high peak as the trainer's allocator counts it; the band is as wide as that of the whole."""
    expected = view.prediction or {}
    peak, counted = expected.get("peak_bytes"), expected_peak_bytes(expected)
    outside = 0.0 if peak is None or counted is None else peak - counted
    low, high = expected.get("low_bytes"), expected.get("high_bytes")
    return (None if low is None else low - outside, counted, None if high is None else high - outside)


def status_lines(view: RunView, words: Words) -> tuple[Line, ...]:
    """State and progress, then measured beside predicted, then what is wrong."""
    mark, tone = state_mark(view.state)
    first: list[tuple[str, str]] = [
        (f"{mark} {words.state(view.state)}", tone),
        (f"  {words['at step']} {progress_label(view)}", "plain"),
    ]
    first.append((f"  {units.format_seconds(view.elapsed_s)}", "muted"))
    if view.eta_s is not None:
        first.append((f"  ETA {units.format_seconds(view.eta_s)}", "muted"))
    first.append((f"  {words['loss'].lower()} {loss_label(view)}", "plain"))
    ranks = f"{view.world} {words['one process' if view.world == 1 else 'processes']}"
    about = f"{view.model} · {units.format_tokens(view.sequence_len)} · {view.layout_label} · {ranks}"
    how = " · ".join(part for part in (view.cp_method, view.kernel) if part)
    second: list[tuple[str, str]] = [(about, "muted"), (f" · {how}" if how else "", "faint")]
    third: list[tuple[str, str]] = []
    for name, measured, predicted in comparison_rows(view):
        third.extend(
            _glued([(f"{words.figure(name)} ", "muted"), (measured, "plain"), (f" / {predicted}", "predicted")])
        )
        third.append(("   ", "plain"))
    lines: list[Line] = [
        tuple(first),
        tuple(second),
        (*third, *_glued([(f"{words['measured']} / ", "faint"), (words["predicted"], "predicted")])),
    ]
    if view.state in PHASES:
        lines.append(((words[f"phase {view.state}"], "accent"),))
    if view.reason and view.failure is None:
        lines.append(((view.reason, tone),))
    lines.extend((("▲ ", "warn"), (warning, "plain")) for warning in view.warnings)
    lines.extend((("○ ", "muted"), (note, "muted")) for note in view.notes)
    return tuple(lines)


def _glued(runs: Sequence[Run]) -> list[Run]:
    """A figure with its name and its prediction stands in one row."""
    return [(text.replace(" ", GLUE), tone) for text, tone in runs]


def replay_label(replay: ReplayState, words: Words) -> Line:
    """`⟲ replay 10×  ██▌·····  0:12 of 1:23`, and whether it is held or over."""
    share = replay.at_s / replay.length_s if replay.length_s else 1.0
    place = f"{units.format_clock(replay.at_s)} {words['of']} {units.format_clock(replay.length_s)}"
    held = words["over"] if replay.is_over else words["paused"] if replay.paused else ""
    bar = fill(share, REPLAY_CELLS).replace(" ", "·")
    return (
        (f"⟲ {words['replay']} {replay.speed:g}×  ", "warn"),
        (bar, "warn"),
        (f"  {place}", "warn"),
        (f" · {held}" if held else "", "accent"),
    )


def split_lines(view: RunView) -> tuple[Line, ...]:
    """Seconds of the last step by part, largest first; below what was exchanged, and the gradient's norm."""
    exchanged: tuple[Line, ...] = tuple(((exchange_label(one), "muted"),) for one in view.exchanges)
    lines = (*term_lines(view.split_s, units.format_seconds, width=16), *exchanged)
    if view.grad_norm is None:
        return lines
    return (*lines, (("gradient norm ", "muted"), (f"{view.grad_norm:.3f}", "plain")))
