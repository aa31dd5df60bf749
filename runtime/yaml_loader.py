"""Reads a config file as `yaml.safe_load` does, with two mends.

`2e-5` is a number: PyYAML follows YAML 1.1, which asks for a point, and takes it
for text. A key that stands twice in one mapping is an error that names both
lines: PyYAML keeps the last one in silence.
"""

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from runtime.errors import ConfigError


class _Loader(yaml.SafeLoader):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: dict[object, int] = {}
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge" or not isinstance(key_node, yaml.ScalarNode):
                continue
            line = key_node.start_mark.line + 1
            if key_node.value in seen:
                raise _DuplicateKeyError(key_node.value, seen[key_node.value], line)
            seen[key_node.value] = line
        return super().construct_mapping(node, deep=deep)


class _DuplicateKeyError(Exception):
    def __init__(self, key: str, first: int, second: int) -> None:
        super().__init__(f"key {key!r} stands twice, on lines {first} and {second}; keep one of them")


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(?:\d[\d_]*\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def read(path: Path) -> dict[str, Any]:
    """The values of a config file. Raises ConfigError for a file that is missing, no YAML, or no mapping."""
    try:
        values = _Loader(path.read_text(encoding="utf-8")).get_single_data()
    except FileNotFoundError:
        raise ConfigError(str(path), ["there is no such file"]) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(str(path), [f"cannot be read: {error}"]) from None
    except _DuplicateKeyError as error:
        raise ConfigError(str(path), [str(error)]) from None
    except yaml.MarkedYAMLError as error:
        line = "" if error.problem_mark is None else f"line {error.problem_mark.line + 1}: "
        raise ConfigError(str(path), [f"{line}{error.problem or error.context}"]) from None
    except yaml.YAMLError as error:
        raise ConfigError(str(path), [f"is no text in UTF-8: {error}"]) from None
    # What SafeLoader's constructors let through: a thirteenth month, `!!int word`, nesting without end.
    except (ValueError, LookupError, AttributeError, RecursionError) as error:
        raise ConfigError(str(path), [f"holds a value that YAML cannot read: {error}; put it in quotes"]) from None
    if not isinstance(values, dict):
        kind = "empty" if values is None else f"a {type(values).__name__}"
        raise ConfigError(str(path), [f"is {kind}; a config is a mapping of keys to values"])
    return {str(key): value for key, value in values.items()}
