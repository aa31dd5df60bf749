"""A learning rate at which an unstable loss calms: the card's 1e-5 for trained weights, a third for random ones. C8."""

import math
from collections.abc import Iterator

from cpadvisor.check.subject import Config
from cpadvisor.doctor.diagnosis import Mend
from cpadvisor.write.edit import Change

CARD_LEARNING_RATE = 1e-5
"""Card row C8."""


def calmer_mends(config: Config) -> Iterator[Mend]:
    """What card row C8 asks for where the loss became NaN or grows: a lower rate, and clipping where there is none."""
    rate, lower = config.number("learning_rate"), calmer_rate(config)
    if rate is None or lower is None:
        return
    changes = [Change(key="learning_rate", value=lower)]
    text = f"write learning_rate: {lower:g} in place of {rate:g}"
    if not config.number("max_grad_norm"):
        changes.append(Change(key="max_grad_norm", value=1.0))
        text += " and max_grad_norm: 1.0"
    yield Mend(text=f"{text} ({rate_reason(config)})", changes=tuple(changes))


def calmer_rate(config: Config) -> float | None:
    """The rate to try next; None where the file has none.

    Random weights: a third, rounded down to one digit, 0.001 to 0.0003. Trained ones: 1e-5, and half of less than that.
    """
    rate = config.number("learning_rate")
    if rate is None or not 0 < rate < math.inf:
        return None
    if starts_at_random(config):
        return _rounded_down(rate / 3)
    return CARD_LEARNING_RATE if rate > CARD_LEARNING_RATE else float(f"{rate / 2:.3g}")


def rate_reason(config: Config) -> str:
    """Why that rate, in words."""
    return "at most a third, as weights start at random" if starts_at_random(config) else "card C8"


def starts_at_random(config: Config) -> bool:
    """Whether the file says that there are no weights to start from."""
    return config.block("cpadvisor").get("random_weights") is True or config.values.get("reinit_weights") is True


def _rounded_down(value: float) -> float:
    unit = 10.0 ** math.floor(math.log10(value))
    return float(f"{math.floor(value / unit) * unit:.1g}")
