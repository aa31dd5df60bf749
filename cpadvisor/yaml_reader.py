"""YAML as `yaml.safe_load` reads it, with two mends: `2e-5` is a number, a duplicate key is an error.

PyYAML follows YAML 1.1, where a float needs a dot, and keeps the last of two
like keys without a word. Both have ruined training runs.
"""

import re
from collections.abc import Iterator
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from cpadvisor.errors import ConfigError

_MERGE_TAG = "tag:yaml.org,2002:merge"
_FLOAT_TAG = "tag:yaml.org,2002:float"
_EXPONENT = re.compile(r"[-+]?(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9][0-9_]*)[eE][-+]?[0-9]+\Z")


class DuplicateKeyError(ConfigError):
    """One key twice in one mapping, as in the card's scenarios 1A and 1B (row C3)."""


class _Loader(yaml.SafeLoader):
    """SafeLoader that also takes a number with an exponent and no dot for a float."""


_Loader.add_implicit_resolver(_FLOAT_TAG, _EXPONENT, list("-+.0123456789"))


def read_yaml(text: str, *, name: str) -> tuple[dict[str, Any], dict[str, int]]:
    """The mapping that `text` holds, and the line of each top-level key, counted from 1.

    Raises ConfigError with `name` and the line for text that is no YAML, no mapping, or has a key twice at any depth.
    """
    try:
        return _read(text, name)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{name}:{mark.line + 1}" if mark else name
        raise ConfigError(f"{place}: not YAML: {error.problem or error.context}; mend this line") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{name}: not YAML: {error}; write plain text in UTF-8") from error
    # What SafeLoader's constructors let through: a thirteenth month, `!!bool maybe`, nesting without end.
    except (ValueError, LookupError, AttributeError, RecursionError) as error:
        raise ConfigError(f"{name}: holds a value that YAML cannot read: {error}; put it in quotes") from error


def _read(text: str, name: str) -> tuple[dict[str, Any], dict[str, int]]:
    loader = _Loader(text)
    try:
        root = _require_mapping(loader.get_single_node(), name)
        _require_unique_keys(root, name)
        values: dict[str, Any] = loader.construct_document(root)
    finally:
        loader.dispose()
    strange = [key for key in values if not isinstance(key, str)]
    if strange:
        raise ConfigError(f"{name}: the key {strange[0]!r} is no text; put it in quotes or give it its name")
    return values, _lines(root)


def _require_mapping(root: Node | None, name: str) -> MappingNode:
    if root is None:
        raise ConfigError(f"{name}: is empty; write keys and values, at least base_model")
    if not isinstance(root, MappingNode):
        kind = "a list" if isinstance(root, SequenceNode) else "one value"
        raise ConfigError(
            f"{name}:{root.start_mark.line + 1}: holds {kind}, not keys and values; write `key: value` lines"
        )
    return root


def _lines(root: MappingNode) -> dict[str, int]:
    return {key.value: key.start_mark.line + 1 for key, _ in root.value if isinstance(key, ScalarNode)}


def _require_unique_keys(root: MappingNode, name: str) -> None:
    duplicates = list(_duplicates(root, "", set()))
    if duplicates:
        found = "; ".join(
            f"key {key!r} on line {again} stands on line {first} already" for key, first, again in duplicates
        )
        raise DuplicateKeyError(
            f"{name}:{duplicates[0][2]}: {found}; YAML would keep the last one in silence: keep one"
        )


def _duplicates(node: Node, path: str, seen: set[int]) -> Iterator[tuple[str, int, int]]:
    """Dotted key, its first line and the line of its repetition; aliases are walked once."""
    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, SequenceNode):
        for item in node.value:
            yield from _duplicates(item, path, seen)
    if isinstance(node, MappingNode):
        first_lines: dict[str, int] = {}
        for key, value in node.value:
            if isinstance(key, ScalarNode) and key.tag != _MERGE_TAG:
                line = key.start_mark.line + 1
                if key.value in first_lines:
                    yield f"{path}{key.value}", first_lines[key.value], line
                first_lines.setdefault(key.value, line)
                yield from _duplicates(value, f"{path}{key.value}.", seen)
            else:
                yield from _duplicates(value, path, seen)
