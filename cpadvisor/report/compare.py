"""Two runs side by side as text and as JSON."""

from collections.abc import Callable
from typing import Any

from cpadvisor.report.run import format_loss, progress_label
from cpadvisor.report.table import table
from cpadvisor.units import DASH, format_bytes, format_change, format_count, format_seconds
from cpadvisor.watch.compare import Comparison
from cpadvisor.watch.figures import Measured
from cpadvisor.watch.view import RunView, state_label

SCHEMA = 1


def compare_text(comparison: Comparison) -> str:
    """The figures, then what differs between the configs."""
    first, second = comparison.first, comparison.second
    parts = [table(("", first.run, second.run), figure_rows(comparison), right=frozenset({1, 2}))]
    parts += [f"note: {note}" for note in comparison.notes]
    if comparison.differences:
        rows = [(each.key, each.first or DASH, each.second or DASH) for each in comparison.differences]
        parts.append("config\n" + table(("key", first.run, second.run), rows))
    elif not comparison.notes:
        parts.append("the configs are the same")
    return "\n\n".join(parts)


def figure_rows(comparison: Comparison) -> list[tuple[str, str, str]]:
    """State, loss, speed, memory and how far the predictions were off: name, first, second."""
    first, second = comparison.first, comparison.second
    return [
        ("state", state_label(first.state), state_label(second.state)),
        ("steps", progress_label(first), progress_label(second)),
        *((name, show(comparison.first_figures), show(comparison.second_figures)) for name, show in _FIGURES),
    ]


def compare_json(comparison: Comparison) -> dict[str, Any]:
    """What `runs compare` prints; errors are shares of the prediction, null what is unknown or missing."""
    return {
        "schema": SCHEMA,
        "first": _run_json(comparison.first, comparison.first_figures),
        "second": _run_json(comparison.second, comparison.second_figures),
        "differences": [
            {"key": each.key, "first": each.first, "second": each.second} for each in comparison.differences
        ],
        "notes": list(comparison.notes),
    }


def _run_json(view: RunView, figures: Measured) -> dict[str, Any]:
    return {
        "run": view.run,
        "dir": str(view.directory),
        "phase": view.state,
        "step": view.step,
        "steps": view.steps,
        "final_loss": figures.final_loss,
        "tokens_per_s_per_gpu": figures.tokens_per_s_per_gpu,
        "step_s": figures.step_s,
        "peak_bytes": figures.peak_bytes,
        "peak_error": figures.peak_error,
        "step_error": figures.step_error,
    }


_FIGURES: tuple[tuple[str, Callable[[Measured], str]], ...] = (
    ("final loss", lambda figures: format_loss(figures.final_loss)),
    ("tok/s/GPU", lambda figures: format_count(figures.tokens_per_s_per_gpu)),
    ("step", lambda figures: format_seconds(figures.step_s)),
    ("peak memory", lambda figures: format_bytes(figures.peak_bytes)),
    ("peak against prediction", lambda figures: format_change(figures.peak_error)),
    ("step against prediction", lambda figures: format_change(figures.step_error)),
)
