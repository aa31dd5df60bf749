"""Changes to a config that leave its comments, its order and every other line as they are.

The smallest entry that a change touches is cut out, changed by ruamel.yaml's round trip, and put back; all other
lines are copied, so that no library's taste in blanks and quotes reaches them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from cpadvisor.errors import ConfigError
from cpadvisor.write.lines import entry_lines, scalar
from cpadvisor.yaml_reader import read_yaml

_WIDEST = 1 << 16
"""Columns from which ruamel.yaml may fold a line: never."""


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


def as_changes(values: Mapping[str, Any]) -> tuple[Change, ...]:
    """New values by dotted key, as changes."""
    return tuple(Change(key=key, value=value) for key, value in values.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    """Where one key of a block mapping stands, with its value; comments and blank lines after it are not its own."""

    first: int
    """Line, counted from 0."""
    end: int
    """The line after the last."""
    column: int


def edited(text: str, changes: Sequence[Change], *, name: str = "config") -> str:
    """The text of a YAML file with the changes applied in turn.

    A key that is set and missing is added at the end of its block, with the blocks around it; one that is to go and
    missing is no error. Raises ConfigError, which begins with `name`, for text that is no YAML or has a key twice.
    """
    read_yaml(text, name=name)
    for change in changes:
        text = _with_change(text, change, name)
    read_yaml(text, name=f"{name}, changed")  # an anchor that went with its key leaves aliases that lead nowhere
    return text


def _with_change(text: str, change: Change, name: str) -> str:
    lines = text.splitlines(keepends=True)
    root = _load(text, name)
    if root.fa.flow_style():
        return _redrawn(text, change.key.split("."), change.value, name)
    path = [change.key] if change.key in _own_keys(root) else change.key.split(".")
    block, around = root, _Entry(first=0, end=_last_content(lines, 0, len(lines), column=0), column=0)
    chain: list[_Entry] = []
    while path[0] in _own_keys(block):
        around = _entry(lines, block, path[0], around)
        chain.append(around)
        inner = block[path[0]]
        if len(path) == 1 or not _is_block(inner):
            return _with_entry(lines, chain, path, change.value, name)
        block, path = inner, path[1:]
    if change.value is REMOVE:
        return text
    column = block.lc.col if chain else 0
    return _spliced(lines, _Entry(first=around.end, end=around.end, column=column), _drawn(path, change.value))


def _with_entry(lines: list[str], chain: list[_Entry], path: list[str], value: Any, name: str) -> str:
    """The last entry of a chain of nested ones changed; `path` leads from its own key to the value."""
    entry = chain[-1]
    if value is REMOVE and len(path) == 1:
        return _spliced(lines, _with_empty_parents(chain), [])
    inside = [line[entry.column :] if line.strip() else line for line in lines[entry.first : entry.end]]
    redrawn = _redrawn("".join(inside), path, value, name).splitlines()
    return _spliced(lines, entry, redrawn)


def _with_empty_parents(chain: list[_Entry]) -> _Entry:
    """The outermost entry that has nothing left once the last of the chain has gone."""
    gone = chain[-1]
    for parent in reversed(chain[:-1]):
        if (parent.first + 1, parent.end) != (gone.first, gone.end):
            break
        gone = parent
    return gone


def _spliced(lines: list[str], entry: _Entry, fresh: Sequence[str]) -> str:
    """The text with the lines of an entry replaced by fresh ones, which are indented to its column."""
    ending = "\r\n" if lines and lines[0].endswith("\r\n") else "\n"
    before = lines[: entry.first]
    if fresh and before and not before[-1].endswith("\n"):
        before[-1] += ending
    indented = [f"{' ' * entry.column}{line}".rstrip() + ending for line in fresh]
    return "".join([*before, *indented, *lines[entry.end :]])


def _drawn(path: Sequence[str], value: Any) -> list[str]:
    for key in reversed(path[1:]):
        value = {key: value}
    return entry_lines(path[0], value)


def _redrawn(text: str, path: Sequence[str], value: Any, name: str) -> str:
    """A small document with one value set or removed, by ruamel.yaml's round trip."""
    from io import StringIO

    document = _load(text, name)
    block = document
    for key in path[:-1]:
        if not isinstance(block.get(key), dict):
            block[key] = _load("{}", name)
        block = block[key]
    if value is REMOVE:
        block.pop(path[-1], None)
    else:
        block[path[-1]] = _fresh(value)
    stream = StringIO()
    _round_trip().dump(document, stream)
    return stream.getvalue()


def _fresh(value: Any) -> Any:
    """A value in the form in which ruamel.yaml writes it as `write` does: lists on one line, texts quoted alike."""
    from ruamel.yaml.comments import CommentedSeq

    if isinstance(value, dict):
        return {key: _fresh(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        row = CommentedSeq(_fresh(item) for item in value)
        row.fa.set_flow_style()
        return row
    return _round_trip().load(f"value: {scalar(value)}")["value"] if isinstance(value, str) else value


def _round_trip() -> Any:
    from ruamel.yaml import YAML  # 40 ms, and only those who change a file need it
    from ruamel.yaml.representer import RoundTripRepresenter

    class Representer(RoundTripRepresenter):
        """Writes `2.0e-05`, which YAML 1.1 readers take for a number, too."""

    Representer.add_representer(
        float, lambda self, number: self.represent_scalar("tag:yaml.org,2002:float", scalar(number))
    )
    yaml = YAML()
    yaml.Representer = Representer
    yaml.preserve_quotes = True
    yaml.width = _WIDEST
    return yaml


def _load(text: str, name: str) -> Any:
    from ruamel.yaml.error import YAMLError

    try:
        return _round_trip().load(text)
    except YAMLError as error:
        what = str(error).splitlines()[0]
        raise ConfigError(f"{name}: cannot be changed without touching other lines: {what}; change it by hand") from (
            error
        )


def _is_block(value: Any) -> bool:
    """Whether a value is a mapping written over lines of its own."""
    form = getattr(value, "fa", None)
    return isinstance(value, dict) and bool(value) and form is not None and not form.flow_style()


def _own_keys(block: Any) -> dict[Any, Any]:
    """Places of the keys that a block itself has, without those that an anchor merges into it."""
    return block.lc.data or {}


def _entry(lines: list[str], block: Any, key: str, around: _Entry) -> _Entry:
    first, column = block.lc.key(key)
    end = min((row[0] for row in _own_keys(block).values() if row[0] > first), default=around.end)
    return _Entry(first=first, end=_last_content(lines, first, end, column=column), column=column)


def _last_content(lines: list[str], first: int, end: int, *, column: int) -> int:
    """The end of what stands between two lines, without trailing blank lines, comments and end marks."""
    while end > first and _is_trailing(lines[end - 1], column):
        end -= 1
    return end


def _is_trailing(line: str, column: int) -> bool:
    text = line.strip()
    indent = len(line) - len(line.lstrip())
    return not text or text == "..." or (text.startswith("#") and indent <= column)
