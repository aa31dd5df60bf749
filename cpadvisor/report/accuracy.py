"""How far a run was from what was predicted: a share of the prediction, positive where more was measured."""

from cpadvisor.report.run import median_tail
from cpadvisor.watch.view import RunView


def relative_error(measured: float | None, predicted: float | None) -> float | None:
    """(measured - predicted) / predicted; 47 GiB beside 46 is 0.022. None where one of them is unknown."""
    return None if measured is None or not predicted else (measured - predicted) / predicted


def memory_error(view: RunView) -> float | None:
    """Of the largest peak over the ranks."""
    return relative_error(view.peak_bytes, (view.prediction or {}).get("peak_bytes"))


def step_error(view: RunView) -> float | None:
    """Of the median step time, without the steps that warm up."""
    return relative_error(median_tail(view.step_s), (view.prediction or {}).get("step_s"))
