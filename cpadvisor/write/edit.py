"""Changes to a config that leave its comments, its order and every other line as they are."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final


class _Remove:
    """The mark of a key that is to go."""


REMOVE: Final = _Remove()


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One key to set or to remove."""

    key: str
    """Dotted for nested blocks: `fsdp_config.reshard_after_forward`."""
    value: Any
    """The new value, or REMOVE."""


def edited(text: str, changes: Sequence[Change]) -> str:
    """The text of a YAML file with the changes applied."""
    raise NotImplementedError
