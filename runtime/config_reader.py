"""Typed look-ups in a mapping of config values; each wrong value adds one problem and gives the default."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runtime import keys

HIGHEST = 2**31 - 1
"""Of any count or seed; products of such numbers still fit torch's 64 bits."""


class Reader:
    """One mapping, or one block of it, with the list of problems that all blocks share."""

    def __init__(
        self, values: Mapping[str, Any], *, folder: Path, problems: list[str], warnings: list[str], prefix: str = ""
    ) -> None:
        self.values = values
        self.prefix = prefix
        self.folder = folder
        self._problems = problems
        self._warnings = warnings

    def problem(self, text: str) -> None:
        """Add a reason why the config is refused."""
        self._problems.append(text)

    def warning(self, text: str) -> None:
        """Add what has no effect."""
        self._warnings.append(text)

    def block(self, name: str, known: Mapping[str, str], *, strip: str = "") -> "Reader":
        """The mapping under `name`; its unknown keys are problems. A prefix `strip` of its keys is dropped."""
        values = self.values.get(name)
        if values is not None and not isinstance(values, Mapping):
            self.problem(f"{name} {values!r} is not a mapping of keys to values")
        plain = {
            str(key).removeprefix(strip): value
            for key, value in (values if isinstance(values, Mapping) else {}).items()
        }
        for key in plain:
            if key not in known:
                self.problem(keys.unknown(key, known, f"{name}."))
        return Reader(
            plain, folder=self.folder, problems=self._problems, warnings=self._warnings, prefix=f"{self.prefix}{name}."
        )

    def integer(self, name: str, default: int, *, low: int = 1, quiet: bool = False) -> int:
        """A whole number from `low` to 2^31 - 1. `quiet` leaves the complaint to another look at the same key."""
        value = self.values.get(name)
        if value is None:
            return default
        if type(value) is float and value.is_integer():
            value = int(value)
        if type(value) is not int or not low <= value <= HIGHEST:
            if not quiet:
                bound = (
                    f"above {HIGHEST}"
                    if type(value) is int and value > HIGHEST
                    else f"not a whole number from {low} up"
                )
                self.problem(f"{self.prefix}{name} {value!r} is {bound}; use {max(default, low)}")
            return default
        return value

    def optional_integer(self, name: str, *, low: int = 1) -> int | None:
        """A whole number, or None where the key is absent or empty."""
        return None if self.values.get(name) is None else self.integer(name, low, low=low)

    def required_integer(self, name: str) -> int:
        """A whole number from 1 up that has no default."""
        if self.values.get(name) is None:
            self.problem(f"{self.prefix}{name} is missing; write a whole number from 1 up")
        return self.integer(name, 1)

    def number(self, name: str, default: float, *, high: float = math.inf, below: bool = False) -> float:
        """A finite number from 0 to `high`, or `below` it."""
        value = self.values.get(name)
        if value is None:
            return default
        inside = type(value) in (int, float) and 0 <= value <= high and math.isfinite(value)
        if not inside or (below and value == high):
            bound = "from 0 up" if high == math.inf else f"from 0 to {'below ' * below}{high:g}"
            self.problem(f"{self.prefix}{name} {value!r} is not a number {bound}; use {default:g}")
            return default
        return float(value)

    def required_number(self, name: str) -> float:
        """A number that has no default."""
        if self.values.get(name) is None:
            self.problem(f"{self.prefix}{name} is missing; write a number such as 2e-5")
        return self.number(name, 2e-5)

    def flag(self, name: str, default: bool) -> bool:
        """True or false."""
        value = self.values.get(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            self.problem(f"{self.prefix}{name} {value!r} is neither true nor false; use {str(default).lower()}")
            return default
        return value

    def choice(self, name: str, default: str, options: tuple[str, ...], *, why: str = "") -> str:
        """One of a few words."""
        value = self.values.get(name)
        # YAML 1.1 has no word `none`, yet an empty value is None.
        if value is None:
            return default
        if value not in options:
            reason = f" ({why})" if why else ""
            self.problem(f"{self.prefix}{name} {value!r} is not one of {', '.join(options)}{reason}; use {default}")
            return default
        return str(value)

    def path(self, name: str, default: str) -> Path:
        """An absolute path; a relative one starts at the config's folder."""
        value = self.values.get(name) or default
        if not isinstance(value, str):
            self.problem(f"{self.prefix}{name} {value!r} is not a path")
            value = default
        return (self.folder / Path(value).expanduser()).resolve()
