"""What a user can mend in a training run is a TrainerError; its message names the value, the rule and the mend."""

from collections.abc import Mapping
from types import MappingProxyType


class TrainerError(Exception):
    """The run cannot go on, for a reason that its user can act on."""

    facts: Mapping[str, object] = MappingProxyType({})
    """What the `end` event tells beside the reason."""
    exit_code = 1
    kind = "exception"
    """What the `end` event names as the cause."""
    alike = True
    """Whether every rank fails with the same words, so that one of each machine may say them."""


class ConfigError(TrainerError):
    """The config file, or a file that it names, holds what this trainer cannot run. Lists every reason at once."""

    exit_code = 2
    kind = "config"

    def __init__(self, where: str, problems: list[str]) -> None:
        self.problems = tuple(problems)
        lines = "".join(f"\n  - {problem}" for problem in problems)
        super().__init__(f"{where}: {problems[0]}" if len(problems) == 1 else f"{where}: {len(problems)} errors{lines}")


class NotANumberError(TrainerError):
    """A loss or gradient that is NaN or infinite; `ranks` are those whose own part of the loss was."""

    kind = "not_a_number"

    def __init__(self, message: str, *, ranks: tuple[int, ...]) -> None:
        super().__init__(message)
        self.facts = {"ranks": list(ranks)}


class DiskFullError(TrainerError):
    """An event, a log line, a model or a training state that found no space."""

    kind = "disk_full"
    alike = False


class VanishedError(TrainerError):
    """The run directory was removed or moved while the run lived."""

    kind = "vanished"
    alike = False
