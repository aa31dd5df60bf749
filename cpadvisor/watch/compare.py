"""Two runs side by side: the keys of their configs that differ, and what each of them measured."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from cpadvisor.errors import ConfigError
from cpadvisor.watch.figures import Measured, measured
from cpadvisor.watch.view import RunView
from cpadvisor.write.lines import scalar
from cpadvisor.yaml_reader import read_yaml

_FIGURES = ("cpadvisor.prediction",)
"""Parts of a config that say nothing of the training; they stand beside what was measured."""
_MISSING = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One key of two configs that is not the same in both; None where a config lacks it."""

    key: str
    """With the keys that it stands under: `fsdp_config.reshard_after_forward`."""
    first: str | None
    second: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two runs."""

    first: RunView
    second: RunView
    first_figures: Measured
    second_figures: Measured
    differences: tuple[Difference, ...]
    notes: tuple[str, ...] = ()
    """Configs that cannot be read."""


def compare_runs(first: RunView, second: RunView, first_config: str | None, second_config: str | None) -> Comparison:
    """The figures of both, and the keys in which the texts of their configs differ; None is a config that is gone."""
    notes: list[str] = []
    values = [_values(text, view, notes) for view, text in ((first, first_config), (second, second_config))]
    return Comparison(
        first=first,
        second=second,
        first_figures=measured(first),
        second_figures=measured(second),
        differences=() if notes else config_differences(*values),
        notes=tuple(notes),
    )


def _values(text: str | None, view: RunView, notes: list[str]) -> dict[str, Any]:
    if text is None:
        notes.append(f"{view.run} has no config any more, so what differs cannot be said")
        return {}
    try:
        return read_yaml(text, name=f"the config of {view.run}")[0]
    except ConfigError as error:
        notes.append(str(error))
        return {}


def config_differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> tuple[Difference, ...]:
    """Keys whose values differ, in the order of the first config, then those that only the second has.

    A size that a config leaves out is told as missing, not as its default.
    """
    flat = [dict(_flatten(values)) for values in (first, second)]
    return tuple(
        Difference(key=key, first=_text(flat[0].get(key, _MISSING)), second=_text(flat[1].get(key, _MISSING)))
        for key in dict.fromkeys((*flat[0], *flat[1]))
        if _differ(flat[0].get(key, _MISSING), flat[1].get(key, _MISSING)) and not key.startswith(_FIGURES)
    )


def _differ(first: object, second: object) -> bool:
    """1 and 1.0 are the same value, 1 and true are not."""
    return first != second or isinstance(first, bool) != isinstance(second, bool)


def _flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every key with its path; lists count as one value."""
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _text(value: object) -> str | None:
    return None if value is _MISSING else scalar(value)
