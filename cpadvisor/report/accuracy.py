"""How far a run was from what was predicted: a share of the prediction, positive where more was measured."""

from cpadvisor.watch.figures import measured, relative_error
from cpadvisor.watch.view import RunView

__all__ = ["memory_error", "relative_error", "step_error"]


def memory_error(view: RunView) -> float | None:
    """Of the largest peak over the ranks, as the trainer's allocator counts it."""
    return measured(view).peak_error


def step_error(view: RunView) -> float | None:
    """Of the median step time, without the steps that warm up."""
    return measured(view).step_error
