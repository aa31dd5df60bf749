"""How a run of the history reads: its row in the list, what there is to say of it, what sets two of them apart."""

from collections.abc import Mapping
from datetime import datetime

from cpadvisor import units
from cpadvisor.report.compare import figure_rows
from cpadvisor.report.run import comparison_rows, loss_label, progress_label
from cpadvisor.tui.history import Entry
from cpadvisor.tui.i18n import Words
from cpadvisor.tui.screens.base import state_mark
from cpadvisor.tui.screens.failure import failure_facts
from cpadvisor.tui.widgets.facts import Fact
from cpadvisor.tui.widgets.lines import Line
from cpadvisor.tui.widgets.table import Cell, Column, Row, cell
from cpadvisor.watch.compare import Comparison
from cpadvisor.watch.figures import Measured, measured
from cpadvisor.watch.view import RunView

WIDE = (
    *("marked", "mark", "when", "model", "layout", "length", "state", "steps", "loss", "tokens", "peak"),
    *("memory error", "step error", "note"),
)
NARROW = ("marked", "mark", "when", "model", "layout", "steps", "loss", "tokens", "peak", "memory error")
"""What fits 80 columns; the rest stands below the list."""
_RIGHT = frozenset({"length", "steps", "loss", "tokens", "peak", "memory error", "step error"})
NEAR = 0.15
"""A prediction within this share of what was measured is called near."""


def run_columns(words: Words, *, wide: bool) -> tuple[Column, ...]:
    """The columns of the list."""
    untitled = {"marked": "", "mark": "", "note": "", "tokens": "tok/s/GPU" if wide else "tok/s"}
    most = {"model": 20 if wide else 11, "note": 1}
    return tuple(
        Column(
            title=untitled[name] if name in untitled else words[name].lower(),
            width=1 if name == "marked" else None,
            right=name in _RIGHT,
            most=most.get(name),
            flexible=name == "note",
        )
        for name in (WIDE if wide else NARROW)
    )


def run_row(entry: Entry, words: Words, *, now: datetime, marked: bool, wide: bool) -> Row:
    """One run; of one that cannot be read only its name and why."""
    cells = {"marked": cell("✓" if marked else "", "accent")}
    if entry.view is None or entry.figures is None:
        cells |= {"mark": cell("✖", "bad"), "model": cell(entry.name, "muted"), "note": cell(entry.problem or "")}
    else:
        cells |= _cells(entry.view, entry.figures, words, now, wide=wide)
    return tuple(cells.get(name, cell("")) for name in (WIDE if wide else NARROW))


def _cells(view: RunView, figures: Measured, words: Words, now: datetime, *, wide: bool) -> Mapping[str, Cell]:
    mark, tone = state_mark(view.state)
    then = datetime.fromtimestamp(view.started, tz=now.tzinfo)
    note = view.failure.headline if view.failure else view.reason or ""
    return {
        "mark": cell(mark, tone),
        "when": cell(when_label(then, now, short=not wide), "muted"),
        "model": cell(view.model or units.DASH),
        "layout": cell(view.layout_label, "accent"),
        "length": cell(units.format_tokens(view.sequence_len), "muted"),
        "state": cell(words.state(view.state), tone),
        "steps": cell(progress_label(view), "muted"),
        "loss": cell(loss_label(view)),
        "tokens": cell(units.format_count(figures.tokens_per_s_per_gpu)),
        "peak": cell(units.format_bytes(view.peak_bytes)),
        "memory error": error_cell(figures.peak_error),
        "step error": error_cell(figures.step_error),
        "note": cell(note, "muted"),
    }


def error_cell(error: float | None) -> Cell:
    """`+2 %`, in a tone that tells near from far."""
    tone = "muted" if error is None else "predicted" if abs(error) <= NEAR else "warn"
    return cell(units.format_change(error), tone)


def when_label(then: datetime, now: datetime, *, short: bool) -> str:
    """`12:04` of this day, `11-20 12:04` of this year, else `2025-11-20`; short, `12:04`, `11-20` and `2025`."""
    if then.date() == now.date():
        return f"{then:%H:%M}"
    if then.year != now.year:
        return f"{then:%Y}" if short else f"{then:%Y-%m-%d}"
    return f"{then:%m-%d}" if short else f"{then:%m-%d %H:%M}"


def entry_facts(entry: Entry, words: Words) -> tuple[Fact, ...]:
    """What happened to a run and how near its prediction was."""
    view = entry.view
    if view is None:
        return (Fact(lines=(((entry.problem or "", "bad"),),)),)
    mark, tone = state_mark(view.state)
    state: Line = ((f"{mark} {words.state(view.state)}", tone), (f"  {units.format_seconds(view.elapsed_s)}", "muted"))
    facts = [Fact(name=words["model"], lines=(_job_line(view),)), Fact(name=words["state"], lines=(state,))]
    if view.failure is not None:
        facts.extend(failure_facts(view.failure, words, evidence=False))
    elif view.reason:
        facts.append(Fact(name=words["reason"], lines=(((view.reason, "plain"),),)))
    facts.extend(_compared(view, words))
    facts.extend(Fact(name=words["note"], lines=(((note, "warn"),),)) for note in view.notes)
    facts.append(Fact(name=words["folder"], lines=(((str(entry.directory), "faint"),),)))
    return tuple(facts)


def _job_line(view: RunView) -> Line:
    about = (view.model or units.DASH, units.format_tokens(view.sequence_len), view.layout_label)
    return ((" · ".join(about), "plain"),)


def _compared(view: RunView, words: Words) -> list[Fact]:
    """Each figure beside its prediction, and how far they are apart."""
    figures = measured(view)
    errors = {"peak memory": figures.peak_error, "step": figures.step_error}
    return [
        Fact(
            name=words.figure(name),
            lines=(
                (
                    (value, "plain"),
                    (f" / {predicted}", "predicted"),
                    (f"  {units.format_change(errors[name])}" if errors.get(name) is not None else "", "muted"),
                ),
            ),
        )
        for name, value, predicted in comparison_rows(view)
    ]


def difference_facts(comparison: Comparison, words: Words) -> tuple[Fact, ...]:
    """The keys that differ, then the figures of both runs; the older run before the newer one."""
    facts = [Fact(lines=((("○ ", "muted"), (note, "warn")),)) for note in comparison.notes]
    facts.extend(Fact(name=each.key, lines=(_pair(each.first, each.second),)) for each in comparison.differences)
    if not facts:
        facts.append(Fact(lines=(((words["same config"], "muted"),),)))
    facts.append(Fact(lines=(((" ", "plain"),),)))
    states = (words.state(comparison.first.state), words.state(comparison.second.state))
    for name, first, second in figure_rows(comparison):
        pair = states if name == "state" else (first, second)
        facts.append(Fact(name=words.figure(name), lines=(_pair(*pair),)))
    return tuple(facts)


def _pair(first: str | None, second: str | None) -> Line:
    values = (units.DASH if value is None else value for value in (first, second))
    return ((next(values), "series-1"), (" → ", "faint"), (next(values), "series-3"))


def legend(first: RunView | None, second: RunView | None, *, now: datetime) -> Line:
    """Which curve is whose, by its shape and its tone; nothing where there is one curve."""
    if first is None or second is None:
        return ()
    same = first.layout_label == second.layout_label
    names = [_when(view, now) if same else view.layout_label for view in (first, second)]
    return ((f"━━━ {names[0]}", "series-1"), (f"   ━━ ━ {names[1]}", "series-3"))


def _when(view: RunView, now: datetime) -> str:
    return when_label(datetime.fromtimestamp(view.started, tz=now.tzinfo), now, short=False)
