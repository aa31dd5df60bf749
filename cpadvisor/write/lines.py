"""A config is a list of lines that know where they come from; this turns them into YAML text.

The text is rendered here and not by a library, because every line carries its
own comment: where the value comes from, and why.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

ORIGINS = ("model", "plan", "flag", "card", "trainer", "default")
"""What decided a line: the model, the plan, a flag, a row of the card, a rule of the trainer, our own default."""

_PLAIN = re.compile(r"(?:[A-Za-z_/]|\.{1,2}/)[A-Za-z0-9_./+-]*\Z")
_READ_AS_OTHER = {"true", "false", "yes", "no", "on", "off", "null", "y", "n"}
_COMMENT_COLUMN = 44


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigLine:
    """One top-level key of the config. `value` is a scalar, a list or a mapping as YAML has them."""

    key: str
    value: Any
    origin: str
    comment: str = ""
    """Why this value, in a few words; empty where the origin says it."""


def render(lines: Sequence[ConfigLine], header: Iterable[str] = ()) -> str:
    """YAML text: the header as comment lines, then each key with its origin behind it."""
    head = "".join(f"# {line}".rstrip() + "\n" for line in header)
    body = "".join(_render_line(line) for line in lines)
    return f"{head}\n{body}" if head else body


def _render_line(line: ConfigLine) -> str:
    comment = f"# {line.origin}: {line.comment}" if line.comment else f"# {line.origin}"
    first, *rest = entry_lines(line.key, line.value)
    return "\n".join([f"{first.ljust(_COMMENT_COLUMN - 2)}  {comment}", *rest]) + "\n"


def entry_lines(key: str, value: Any, *, indent: int = 0) -> list[str]:
    """One key with its value, a nested mapping in a block of its own; the lines have no line ends."""
    pad = " " * indent
    if isinstance(value, Mapping) and value:
        nested = [text for name, item in value.items() for text in entry_lines(str(name), item, indent=indent + 2)]
        return [f"{pad}{key}:", *nested]
    if isinstance(value, list | tuple) and any(isinstance(item, Mapping) for item in value):
        return [f"{pad}{key}:", *(text for item in value for text in _item(item, indent=indent + 2))]
    return [f"{pad}{key}: {scalar(value)}"]


def _item(value: Mapping[str, Any], *, indent: int) -> list[str]:
    first, *rest = [text for name, item in value.items() for text in entry_lines(str(name), item, indent=indent + 2)]
    return [f"{' ' * indent}- {first.strip()}", *rest]


def scalar(value: Any) -> str:
    """One value in YAML's flow style. 2e-5 becomes `2.0e-05`, which YAML 1.1 readers take for a number, too."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, float):
        return _float(value)
    if isinstance(value, str):
        is_plain = _PLAIN.match(value) is not None and value.lower() not in _READ_AS_OTHER
        return value if is_plain else json.dumps(value, ensure_ascii=False)
    if isinstance(value, list | tuple):
        return f"[{', '.join(scalar(item) for item in value)}]"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name}: {scalar(item)}" for name, item in value.items()) + "}"
    return str(value)


def _float(value: float) -> str:
    text = repr(value)
    mantissa, mark, exponent = text.partition("e")
    if mark and "." not in mantissa:
        text = f"{mantissa}.0e{exponent}"
    return text
