"""The figures of a run over its steps: series, medians, errors of prediction."""

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cpadvisor.watch.events import number, numbers
from cpadvisor.watch.series import Series
from cpadvisor.watch.view import Points, RunView

RECENT_STEPS = 20
WARM_STEPS = 2
"""Steps that a median leaves out: kernels are compiled and communicators connected in them."""

_OUTSIDE_ALLOCATOR = ("context", "nccl", "messages", "allocator")


class Figures:
    """Series of one run, folded from the `step` events of the rank that reports them."""

    def __init__(self) -> None:
        self.last: Mapping[str, Any] = {}
        """The newest step event."""
        self._series = {"loss": Series(), "tokens_per_s_per_gpu": Series(), "step_s": Series()}

    def take(self, event: Mapping[str, Any]) -> None:
        """Add one step; null, which is how events write what is no number, becomes nan."""
        self.last = event
        for name, series in self._series.items():
            value = number(event, name)
            if value is not None or (name in event and event[name] is None):
                series.append(event["step"], value)

    @property
    def step(self) -> int | None:
        """The newest step."""
        return self.last.get("step")

    @property
    def split_s(self) -> dict[str, float]:
        """Parts of the newest step."""
        return numbers(self.last, "split_s")

    @property
    def grad_norm(self) -> float | None:
        """Of the newest step."""
        return number(self.last, "grad_norm")

    def points(self, name: str) -> Points:
        """One series."""
        return self._series[name].points()

    def median_step_s(self) -> float | None:
        """The median of the last 20 step times."""
        recent = finite(self.points("step_s")[-RECENT_STEPS:])
        return statistics.median(recent) if recent else None

    def eta_s(self, steps: int | None) -> float | None:
        """Steps that are left times the median of the last 20."""
        median = self.median_step_s()
        if self.step is None or steps is None or median is None:
            return None
        return max(0, steps - self.step) * median


def finite(points: Points) -> list[float]:
    """The values that are numbers."""
    return [value for _, value in points if math.isfinite(value)]


def median_tail(series: Points, *, skip: int = WARM_STEPS) -> float | None:
    """The upper median of the steps after the first `skip`, which warm up; None where there are no more."""
    values = sorted(finite(tuple(point for point in series if point[0] > skip)))
    return values[len(values) // 2] if values else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A run in the figures that a prediction has, too. Errors are shares of the prediction: 0.05 is 5 % above it."""

    final_loss: float | None
    """Of the last step; None where it was no number."""
    tokens_per_s_per_gpu: float | None
    step_s: float | None
    """Medians without the first two steps."""
    peak_bytes: int | None
    peak_error: float | None
    step_error: float | None


def measured(view: RunView) -> Measured:
    """The figures of a run so far."""
    step_s = median_tail(view.step_s)
    return Measured(
        final_loss=next(iter(finite(view.loss[-1:])), None),
        tokens_per_s_per_gpu=median_tail(view.tokens_per_s_per_gpu),
        step_s=step_s,
        peak_bytes=view.peak_bytes,
        peak_error=relative_error(view.peak_bytes, expected_peak_bytes(view.prediction)),
        step_error=relative_error(step_s, number(view.prediction or {}, "step_s")),
    )


def expected_peak_bytes(prediction: Mapping[str, Any] | None) -> float | None:
    """What the trainer's allocator was expected to report: the peak less context, NCCL's buffers and fragments.

    Predictions without terms give the whole peak. 49 GiB with 0.7, 0.5 and 0.8 GiB of these: 47 GiB.
    """
    peak = number(prediction or {}, "peak_bytes")
    if peak is None:
        return None
    terms = numbers(prediction or {}, "terms_bytes")
    return peak - sum(terms.get(name, 0) for name in _OUTSIDE_ALLOCATOR)


def relative_error(value: float | None, expected: float | None) -> float | None:
    """(measured - predicted) / predicted; 47 GiB beside 46 is 0.022. None where one of them is unknown or 0."""
    return None if value is None or not expected else (value - expected) / expected
