"""How the loss went: numbers throughout, no growth, and what became of it after a spike of the gradient. Row D3."""

import math
import statistics
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

from cpadvisor.doctor.calmer import calmer_mends
from cpadvisor.doctor.diagnosis import Diagnosis, Mend
from cpadvisor.doctor.run_facts import RunFacts
from cpadvisor.watch.figures import finite
from cpadvisor.watch.view import Points

SPIKE = 20.0
"""Gradient norms above so many times their median are spikes. An estimate."""
RISE = 1.2
"""The loss at the end over that of the first steps, from which it has grown. An estimate."""
AROUND = 10
"""Losses on each side of a spike whose medians are compared."""
CHANCE = 1.02
"""Medians of ten losses differ by so much from one another without a cause. An estimate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spike:
    """A step whose gradient was far above the middle, and the loss on its two sides."""

    step: int
    times: float
    """Its gradient norm over the middle one."""
    before: float | None
    """The median loss up to this step, which its update has not yet changed."""
    after: float | None
    """The median loss that follows; None where nothing does yet."""

    @property
    def is_bad(self) -> bool:
        """Whether the loss is above what it was."""
        return self.before is not None and self.after is not None and self.after > CHANCE * self.before

    @property
    def is_over(self) -> bool:
        """Whether it is known that the loss has not risen."""
        return self.before is not None and self.after is not None and not self.is_bad


def loss_rows(facts: RunFacts) -> Iterator[Diagnosis]:
    """One row, once there is a loss."""
    points = facts.view.loss
    if not points:
        return
    spikes = spikes_of(points, _norms(facts))
    trouble = _trouble(facts)
    if trouble is not None or not spikes:
        yield _steady_or_not(facts, trouble, spikes)
    else:
        yield _spiked(facts, spikes)


def spikes_of(losses: Points, norms: Points) -> tuple[Spike, ...]:
    """Every spike, in the order of the steps. A norm of 500 where the middle is 1 is 500 times it."""
    middle = _middle(norms)
    return tuple(_spike(losses, step, norm / middle) for step, norm in norms if middle and norm > SPIKE * middle)


def _spike(losses: Points, step: int, times: float) -> Spike:
    place = bisect_right(losses, step, key=lambda point: point[0])
    before, after = losses[max(0, place - AROUND) : place], losses[place : place + AROUND]
    return Spike(step=step, times=times, before=_median(finite(before)), after=_median(finite(after)))


def _norms(facts: RunFacts) -> Points:
    return tuple(point for point in facts.ranks[0].grad_norm if math.isfinite(point[1])) if facts.ranks else ()


def _middle(norms: Points) -> float | None:
    return _median([norm for _, norm in norms])


def _median(values: list[float]) -> float | None:
    return statistics.median(values) if values else None


def _trouble(facts: RunFacts) -> tuple[str, str] | None:
    """Severity and title where training is lost."""
    points, failure = facts.view.loss, facts.view.failure
    bad = next((step for step, value in points if not math.isfinite(value)), None)
    if bad is not None:
        return "error", f"the loss of step {bad} is not a number"
    if failure is not None and failure.kind == "not_a_number":
        return "error", f"after step {points[-1][0]} the loss or its gradient is not a number"
    values = finite(points)
    grows = len(values) >= 10 and statistics.mean(values[-3:]) > RISE * statistics.mean(values[:3])
    return ("warning", "the loss grows") if grows else None


def _steady_or_not(facts: RunFacts, trouble: tuple[str, str] | None, spikes: tuple[Spike, ...]) -> Diagnosis:
    failure = facts.view.failure
    is_told = failure is not None and failure.kind == "not_a_number"  # with the same mend
    severity, title = trouble or ("ok", "the loss is steady")
    return Diagnosis(
        rule="loss",
        severity=severity,
        title=title,
        evidence=_seen(facts) + (f"; {_told(facts, _largest(spikes))}" if spikes else ""),
        effect="nothing is learned from here on" if trouble else None,
        mends=_mends(facts) if trouble and not is_told else (),
        card=("D3", "C8"),
    )


def _spiked(facts: RunFacts, spikes: tuple[Spike, ...]) -> Diagnosis:
    """The loss rose after one of them, it did not, or that is not known yet; in this order."""
    one = next((spike for spike in spikes if spike.is_bad), None) or _largest(spikes)
    is_open = not one.is_bad and not all(spike.is_over for spike in spikes)
    became = "rose after it" if one.is_bad else "does not tell yet what follows" if is_open else "did not rise after it"
    return Diagnosis(
        rule="loss",
        severity="warning" if one.is_bad else "note" if is_open else "ok",
        title=f"the gradient of step {one.step} was {one.times:.0f} times the middle; the loss {became}",
        evidence="; ".join(filter(None, (_seen(facts), _others(spikes), _told(facts, one)))),
        effect=_effect(one),
        mends=_mends(facts) if one.is_bad else (),
        card=("D3", "C8"),
    )


def _effect(one: Spike) -> str | None:
    if not one.is_bad or one.before is None or one.after is None:
        return None
    return f"what was learned is partly lost: the loss went from {one.before:.4g} to {one.after:.4g}"


def _largest(spikes: tuple[Spike, ...]) -> Spike:
    return max(spikes, key=lambda spike: spike.times)


def _others(spikes: tuple[Spike, ...]) -> str:
    return f"{len(spikes)} steps had a gradient above {SPIKE:g} times the middle" if len(spikes) > 1 else ""


def _told(facts: RunFacts, one: Spike) -> str:
    """A spike with the loss on both sides, and what bounds its update."""
    sides = [f"{side:.4g} {word}" for side, word in ((one.before, "before"), (one.after, "after")) if side is not None]
    losses = f", loss {' and '.join(sides)}" if sides else ""
    return f"step {one.step}: {one.times:.0f} times the middle{losses}; {_bound(facts)}"


def _bound(facts: RunFacts) -> str:
    limit = 1.0 if facts.config is None else facts.config.number("max_grad_norm")
    if limit == 0:
        return "max_grad_norm 0 leaves its update unbounded"
    return f"clipping at max_grad_norm {1.0 if limit is None else limit:g} bounds its update"


def _seen(facts: RunFacts) -> str:
    points, norms = facts.view.loss, _norms(facts)
    values, middle = finite(points), _middle(norms)
    seen = (
        f"loss {values[0]:.4f} at first, {values[-1]:.4f} at step {points[-1][0]}" if values else "no loss was a number"
    )
    if middle is not None:
        seen += f"; gradient norm {middle:.3g} in the middle, {max(norm for _, norm in norms):.3g} at most"
    return seen


def _mends(facts: RunFacts) -> tuple[Mend, ...]:
    return () if facts.config is None else tuple(calmer_mends(facts.config))
