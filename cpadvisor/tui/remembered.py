"""What the app remembers from one time to the next: the theme and the last screen, in `state.json`.

The file is the app's own: one that cannot be read is ignored with a note and
written anew. Whether the app may change things is never remembered.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from cpadvisor.errors import WriteError
from cpadvisor.rundir import read_existing, state_root, write_atomically

VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Remembered:
    """The last choices."""

    theme: str | None = None
    screen: str | None = None


def state_path() -> Path:
    """Where it is kept."""
    return state_root() / "state.json"


def recall(path: Path) -> tuple[Remembered, str | None]:
    """What was remembered, and a note where the file could not be read."""
    try:
        text = read_existing(path)
        data: Any = {} if text is None else json.loads(text)
        if not isinstance(data, dict):
            raise ValueError(f"it holds {type(data).__name__}")
    except (WriteError, ValueError, RecursionError) as error:
        return Remembered(), f"{path} is ignored, the app's memory of theme and screen: {error}"
    values = cast(dict[str, Any], data)
    known = {name: value for name in ("theme", "screen") if isinstance(value := values.get(name), str)}
    return Remembered(**known), None


def remember(path: Path, choices: Remembered) -> None:
    """Keep the choices. Raises WriteError; what was there then stays."""
    data = {"v": VERSION, "theme": choices.theme, "screen": choices.screen}
    write_atomically(path, json.dumps(data) + "\n")
