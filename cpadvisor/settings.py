"""A setting comes from a flag, the environment, the settings file, the app's memory, or its default, in this order.

The file is `$XDG_CONFIG_HOME/cpadvisor/config.yaml`. A mistake names where it
stands, the rule and the nearest that works; all mistakes are told at once.
"""

import difflib
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, cast

from cpadvisor.errors import ConfigError, WriteError
from cpadvisor.rundir import read_existing
from cpadvisor.yaml_reader import read_yaml

LANGUAGES = ("en", "zh")
FEWEST_LOOKS, MOST_LOOKS = 0.2, 5.0
"""Looks per second: NVML itself measures over a sixth of a second at best, so more would show nothing new."""

_TRUE = ("true", "yes", "on", "1")
_FALSE = ("false", "no", "off", "0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the app is set to, and where each value comes from."""

    theme: str = "dark"
    lang: str = "en"
    mouse: bool = True
    read_only: bool = False
    looks_per_second: float = 2.0
    ascii: str = "auto"
    keys: Mapping[str, str] = field(default_factory=lambda: dict[str, str]())
    sources: Mapping[str, str] = field(default_factory=lambda: dict[str, str]())
    """Where each value that is not the default comes from: `--theme`, `$CPADVISOR_THEME`, `…/config.yaml:3`."""

    def source(self, key: str) -> str:
        """Where a value comes from."""
        return self.sources.get(key, "default")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One setting: what it means and which values it takes."""

    key: str
    accept: Callable[[object], object]
    """The value as the app takes it. Raises ValueError with the rule and the nearest value that works."""
    about: str
    variable: bool = True
    """Whether the environment can set it, as CPADVISOR_ and its key in capitals."""


def config_root(environ: Mapping[str, str] = os.environ) -> Path:
    """Where the user keeps settings and themes: $XDG_CONFIG_HOME/cpadvisor; a relative one is ignored."""
    config = Path(environ.get("XDG_CONFIG_HOME", ""))
    if not config.is_absolute():
        config = Path.home() / ".config"
    return config / "cpadvisor"


def config_path(environ: Mapping[str, str] = os.environ) -> Path:
    """The settings file."""
    return config_root(environ) / "config.yaml"


def themes_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Where the user's own themes are."""
    return config_root(environ) / "themes"


def shipped_theme_files() -> tuple[tuple[str, str], ...]:
    """Name and text of each theme of the package; a file has the name of its theme."""
    folder = resources.files("themes")
    files = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".yaml"))
    return tuple((name.removesuffix(".yaml"), folder.joinpath(name).read_text(encoding="utf-8")) for name in files)


def load(
    flags: Mapping[str, object],
    environ: Mapping[str, str] = os.environ,
    *,
    remembered: Mapping[str, object] | None = None,
) -> Settings:
    """The settings, flags of None being those left out. Raises ConfigError with every mistake."""
    settings, mistakes = resolve(flags, environ, remembered=remembered)
    if mistakes:
        raise ConfigError("; ".join(mistakes))
    return settings


def resolve(
    flags: Mapping[str, object],
    environ: Mapping[str, str] = os.environ,
    *,
    remembered: Mapping[str, object] | None = None,
) -> tuple[Settings, tuple[str, ...]]:
    """The settings where each wrong value is left out, and what is wrong."""
    in_file, mistakes = _read_file(config_path(environ))
    found: dict[str, tuple[str, object]] = {key: ("remembered", value) for key, value in (remembered or {}).items()}
    found |= in_file
    found |= {
        rule.key: (f"${variable_of(rule.key)}", text)
        for rule in RULES
        if rule.variable and (text := environ.get(variable_of(rule.key)))
    }
    found |= {key: (_flag_of(key), value) for key, value in flags.items() if value is not None}
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for rule in RULES:
        if rule.key in found:
            source, raw = found[rule.key]
            try:
                values[rule.key], sources[rule.key] = rule.accept(raw), source
            except ValueError as error:
                mistakes.append(f"{source}: {rule.key} {error}")
    return Settings(**values, sources=sources), tuple(mistakes)


def notes(environ: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """Variables that look like a setting and are none."""
    known = [variable_of(rule.key) for rule in RULES if rule.variable]
    strange = [name for name in environ if name.startswith("CPADVISOR_") and name not in known]
    near = {name: difflib.get_close_matches(name, known, n=1, cutoff=0.8) for name in strange}
    return tuple(f"${name} is no setting; did you mean ${close[0]}?" for name, close in near.items() if close)


def variable_of(key: str) -> str:
    """`CPADVISOR_THEME` for `theme`."""
    return f"CPADVISOR_{key.upper()}"


def _flag_of(key: str) -> str:
    return {"mouse": "--no-mouse", "read_only": "--read-only"}.get(key, f"--{key}")


def _read_file(path: Path) -> tuple[dict[str, tuple[str, object]], list[str]]:
    """Value and place of each known key of the settings file, and what is wrong with the others."""
    try:
        text = read_existing(path)
    except WriteError as error:
        return {}, [str(error)]
    if text is None or all(not line.strip() or line.lstrip().startswith("#") for line in text.splitlines()):
        return {}, []
    try:
        values, lines = read_yaml(text, name=str(path))
    except ConfigError as error:
        return {}, [str(error)]
    known = [rule.key for rule in RULES]
    found = {key: (f"{path}:{lines[key]}", value) for key, value in values.items() if key in known}
    unknown = [f"{path}:{lines[key]}: unknown key {key!r}{nearest(key, known)}" for key in values if key not in known]
    return {key: pair for key, pair in found.items() if pair[1] is not None}, unknown


def nearest(word: str, known: Iterable[str]) -> str:
    """`, did you mean 'theme'?`, or all that is known where nothing is near."""
    names = list(known)
    near = difflib.get_close_matches(word, names, n=1)
    return f", did you mean {near[0]!r}?" if near else f"; known are {', '.join(names)}"


def _text(value: object) -> str:
    if isinstance(value, str) and value.strip():
        return value.strip()
    raise ValueError(f"{value!r} is not text; write a name, in quotes where it looks like a number")


def _one_of(*choices: str) -> Callable[[object], str]:
    def accept(value: object) -> str:
        # YAML 1.1 reads on and off as true and false.
        switched = {True: "on", False: "off"}.get(value, value) if isinstance(value, bool) else value
        text = str(switched)
        if text not in choices:
            near = difflib.get_close_matches(text, choices, n=1)
            raise ValueError(f"{text!r} is none of {', '.join(choices)}; use {(near or choices)[0]}")
        return text

    return accept


def _switch(value: object) -> bool:
    if isinstance(value, bool):
        return value
    text = str(value).strip().lower()
    if text not in _TRUE + _FALSE:
        raise ValueError(f"{value!r} is neither true nor false; use one of them")
    return text in _TRUE


def _looks(value: object) -> float:
    try:
        number = float(cast(Any, value)) if not isinstance(value, bool) else float("nan")
    except (TypeError, ValueError):
        number = float("nan")
    if number != number:
        raise ValueError(f"{value!r} is not a number; use 2")
    if not FEWEST_LOOKS <= number <= MOST_LOOKS:
        bound = FEWEST_LOOKS if number < FEWEST_LOOKS else MOST_LOOKS
        raise ValueError(f"{number:g} is not between {FEWEST_LOOKS:g} and {MOST_LOOKS:g}; use {bound:g}")
    return number


def _keys(value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        raise ValueError(f"holds {value!r}; write an id and its keys a line, such as `launch: ctrl+l`")
    wrong = [name for name, keys in cast(dict[Any, Any], value).items() if not (isinstance(keys, str) and keys.strip())]
    if wrong:
        raise ValueError(f"gives {wrong[0]} no key as text; write such as `{wrong[0]}: ctrl+l`, digits in quotes")
    return {str(name): ",".join(part.strip() for part in keys.split(",")) for name, keys in value.items()}


RULES = (
    Rule(
        key="theme",
        accept=_text,
        about="colours: dark, light, high-contrast or one of your own; without this line the app remembers the last",
    ),
    Rule(
        key="lang",
        accept=_one_of(*LANGUAGES),
        about="language of labels, keys and card, en or zh; reasons are English",
    ),
    Rule(key="mouse", accept=_switch, about="false leaves the mouse to the terminal"),
    Rule(key="read_only", accept=_switch, about="true shows everything and changes nothing"),
    Rule(
        key="looks_per_second",
        accept=_looks,
        about=f"how often a live run is looked at, {FEWEST_LOOKS:g} to {MOST_LOOKS:g}",
    ),
    Rule(
        key="ascii",
        accept=_one_of("auto", "on", "off"),
        about="letters in place of lines, dots and blocks: auto (where the terminal shows no others), on or off",
    ),
    Rule(
        key="keys",
        accept=_keys,
        about="keys of your own, by id",
        variable=False,
    ),
)


def default_text(keys: Iterable[tuple[str, str, str]] = ()) -> str:
    """A settings file with every default and what it means; `keys` gives id, keys and description of each binding."""
    defaults = Settings()
    lines = ["# Settings of cpadvisor. A flag wins over the environment, the environment over this file."]
    for rule in RULES:
        lines.extend(["", f"# {rule.about[0].upper()}{rule.about[1:]}."])
        if rule.variable:
            lines.append(f"# {variable_of(rule.key)} in the environment.")
        lines.append(f"{rule.key}:{_yaml_scalar(getattr(defaults, rule.key))}")
    lines.extend(f'#  {name}: "{pressed}"  # {about}' for name, pressed, about in keys)
    return "\n".join(lines) + "\n"


def _yaml_scalar(value: object) -> str:
    if isinstance(value, Mapping):
        return ""
    if isinstance(value, bool):
        return f" {str(value).lower()}"
    return f" {value:g}" if isinstance(value, float) else f" {value}"
