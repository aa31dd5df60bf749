"""What a config says of saving: the model at the end, and the training state on the way, with axolotl's meaning.

save_steps alone means save_strategy: steps; a number below 1 is a share of all steps;
with save_strategy: steps alone it is every 500 steps, as in transformers.
"""

from typing import Any

from runtime.config_reader import HIGHEST, Reader
from runtime.settings import Checkpoints

DEFAULT_EVERY = 500
DEFAULT_KEEP = 2
STRATEGIES = ("end", "epoch", "steps", "best")


def saves_model(reader: Reader) -> bool:
    """Whether the model is written at the end; what is wrong with the key becomes a problem."""
    strategy = _strategy(reader)
    if strategy in ("epoch", "best"):
        reader.warning(f"save_strategy {strategy} has no effect here: the model is written once, at the end")
    return strategy != "no"


def checkpoints(reader: Reader) -> Checkpoints | None:
    """When the training state is written; None where nothing asks for it."""
    strategy = reader.values.get("save_strategy")
    every = reader.values.get("save_steps")
    if every is not None and strategy not in (None, "steps"):
        written = "`no`" if strategy is False else strategy
        reader.problem(
            f"save_strategy {written} and save_steps {every} do not go together; "
            "write save_strategy: steps, or remove save_steps"
        )
    if every is not None and reader.values.get("saves_per_epoch") is not None:
        reader.problem("save_steps and saves_per_epoch are both given; remove one of them")
    if every is None and strategy != "steps":
        if reader.values.get("save_total_limit") is not None:
            reader.warning("save_total_limit has no effect here: without save_steps no training state is written")
        return None
    return Checkpoints(every=_every(reader, every), keep=reader.integer("save_total_limit", DEFAULT_KEEP))


def _strategy(reader: Reader) -> str:
    # YAML 1.1 reads a bare `no` as false; an empty value asks for nothing.
    strategy = reader.values.get("save_strategy", "end")
    if strategy in (False, "no"):
        return "no"
    if strategy is not None and strategy not in STRATEGIES:
        reader.problem(f"save_strategy {strategy!r} is not known; write `no`, or remove it")
    return str(strategy)


def _every(reader: Reader, value: Any) -> float:
    if value is None:
        return DEFAULT_EVERY
    is_number = type(value) in (int, float) and 0 < value <= HIGHEST
    if not is_number or (value > 1 and value != int(value)):
        reader.problem(
            f"save_steps {value!r} is neither a whole number from 1 up nor a share of all steps below 1; "
            f"use {DEFAULT_EVERY}"
        )
        return DEFAULT_EVERY
    return float(value)
