"""A theme is one YAML file: the fields of textual's Theme, and the application's own colours under `variables`.

A field that is unknown, missing or no colour is an error that names the file,
the key and the nearest key that works.
"""

import difflib
from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from typing import Any, cast

import yaml
from textual.color import Color, ColorParseError
from textual.theme import Theme

from cpadvisor.errors import ConfigError
from cpadvisor.settings import shipped_theme_files
from cpadvisor.yaml_reader import read_yaml

FIRST_THEME = "dark"
_ORDER = (FIRST_THEME, "light", "high-contrast")

VARIABLE_DEFAULTS: Mapping[str, str] = {
    "muted": "#8d97a8",
    "faint": "#6a7486",
    "border-quiet": "#4a5568",
    "cursor-row": "#2a3f5a",
    "predicted": "#b3a1e6",
    "link-nvlink": "#5fd0b5",
    "link-pix": "#7fbdf0",
    "link-pxb": "#9db0f2",
    "link-phb": "#e6bd6a",
    "link-node": "#e69a5f",
    "link-sys": "#f07b84",
    "series-1": "#6cb6ff",
    "series-2": "#7fcf9f",
    "series-3": "#e6bd6a",
    "series-4": "#d19be8",
}
"""The application's own colours. A theme that lacks one, such as textual's own themes, takes the value given here."""

ANSI_DEFAULTS: Mapping[str, str] = {"ansi-background": "ansi_black", "ansi-foreground": "ansi_white"}
"""What textual's styles of sixteen colours ask for and its own themes alone define."""

_SAFE_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml's where PyYAML was built with it: the shipped themes take 2 ms in place of 20, before the first frame."""

_PLAIN_FIELDS = {"name": str, "dark": bool, "ansi": bool, "luminosity_spread": float, "text_alpha": float}
"""Fields of Theme that are no colour, with their type."""

_FIELDS = tuple(field.name for field in fields(Theme))


@cache
def shipped_themes() -> tuple[Theme, ...]:
    """The themes of the package: those of most terminals in the order of `t`, then those of sixteen colours."""
    themes = {name: parse_theme(text, source=f"{name}.yaml") for name, text in shipped_theme_files()}
    return tuple(themes[name] for name in (*_ORDER, *(name for name in themes if name not in _ORDER)))


def parse_theme(text: str, *, source: str) -> Theme:
    """One YAML text as a Theme. Raises ConfigError with every mistake of the file at once."""
    try:
        loaded: Any = yaml.load(text, Loader=_SAFE_LOADER)  # noqa: S506 - both loaders are safe ones
    except yaml.YAMLError as error:
        read_yaml(text, name=f"theme {source}")  # which names the line, and raises ConfigError
        raise ConfigError(f"theme {source}: not YAML: {error}") from error
    if not isinstance(loaded, dict):
        raise ConfigError(f"theme {source} holds {type(loaded).__name__}; write keys and values, first `name: mine`")
    values = {str(key): value for key, value in cast(dict[Any, Any], loaded).items()}
    mistakes = _mistakes(values)
    if mistakes:
        raise ConfigError(f"theme {source}: " + "; ".join(mistakes))
    return Theme(**values)


def _mistakes(values: Mapping[str, Any]) -> list[str]:
    found = [f"{key!r} is missing" for key in ("name", "primary") if key not in values]
    for key, value in values.items():
        if key not in _FIELDS:
            found.append(f"unknown key {key!r}{_nearest(key, _FIELDS)}")
        elif key == "variables":
            found.extend(_variable_mistakes(value))
        elif key in _PLAIN_FIELDS:
            found.extend(_plain_mistakes(key, value))
        else:
            found.extend(_colour_mistakes(key, value))
    return found


def _variable_mistakes(variables: object) -> list[str]:
    if not isinstance(variables, dict):
        return [f"variables is {variables!r}; write names and colours under it"]
    found: list[str] = []
    for name, value in cast(dict[Any, Any], variables).items():
        if str(name) in VARIABLE_DEFAULTS:
            found.extend(_colour_mistakes(str(name), value))
        elif str(name) not in _textual_variables():
            found.append(f"unknown variable {str(name)!r}{_nearest(str(name), tuple(VARIABLE_DEFAULTS))}")
        elif not isinstance(value, str):
            found.append(f"{name}: {value!r} is not text; quote it")
    return found


@cache
def _textual_variables() -> frozenset[str]:
    probes = (Theme(name="probe", primary="#000000"), Theme(name="probe", primary="ansi_black", ansi=True))
    return frozenset(name for theme in probes for name in theme.to_color_system().generate()) | set(ANSI_DEFAULTS)


def _plain_mistakes(key: str, value: object) -> list[str]:
    wanted = _PLAIN_FIELDS[key]
    accepted = (int, float) if wanted is float else (wanted,)
    if isinstance(value, accepted) and (wanted is bool or not isinstance(value, bool)):
        return []
    return [f"{key}: {value!r} is not a {'number' if wanted is float else wanted.__name__}"]


def _colour_mistakes(key: str, value: object) -> list[str]:
    return [] if _is_colour(value) else [f'{key}: {value!r} is not a colour; write for example "#6cb6ff", in quotes']


def _is_colour(value: object) -> bool:
    if not isinstance(value, str):
        return False
    try:
        Color.parse(value)
    except ColorParseError:
        return False
    return True


def _nearest(key: str, known: tuple[str, ...]) -> str:
    near = difflib.get_close_matches(key, known, n=1)
    return f", did you mean {near[0]!r}?" if near else f"; known are {', '.join(known)}"
