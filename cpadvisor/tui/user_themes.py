"""Themes of the user's own: YAML files in the settings folder, read at the start and again when one changes.

A file with a mistake is named and left out; the others serve. None may take
the name of a theme that is there already.
"""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from textual.theme import BUILTIN_THEMES, Theme

from cpadvisor.errors import ConfigError, WriteError
from cpadvisor.rundir import read_existing
from cpadvisor.settings import Settings
from cpadvisor.tui.theme import FIRST_THEME, parse_theme, shipped_themes

Stamp = tuple[tuple[str, int, int], ...]
"""Name, time of change and size of each file."""

FEW_COLOURS = {True: "sixteen", False: "sixteen-light"}
"""What stands in for a dark and for a light theme where the terminal has sixteen colours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UserThemes:
    """What the folder held at one look."""

    themes: tuple[Theme, ...] = ()
    problems: tuple[str, ...] = ()
    """One text a file that is left out, the file first."""
    stamp: Stamp | None = None
    """None without the folder."""


def look(folder: Path) -> Stamp | None:
    """What changes when a theme does; None where there is no folder."""
    try:
        files = sorted(path for path in folder.iterdir() if path.suffix == ".yaml")
        return tuple((path.name, (stat := path.stat()).st_mtime_ns, stat.st_size) for path in files)
    except FileNotFoundError:
        return None if not folder.is_dir() else ()  # a file went between two looks; the next one sees
    except OSError:
        return None


def read_user_themes(folder: Path) -> UserThemes:
    """Every theme of the folder that can be used, and what is wrong with the others."""
    stamp = look(folder)
    taken = {theme.name: "of the app" for theme in shipped_themes()} | dict.fromkeys(BUILTIN_THEMES, "of textual")
    themes: list[Theme] = []
    problems: list[str] = []
    for name, _, _ in stamp or ():
        try:
            theme = parse_theme(read_existing(folder / name) or "", source=str(folder / name))
            if theme.name in taken:
                raise ConfigError(f"theme {folder / name}: {_taken(theme.name, taken)}")
        except (ConfigError, WriteError) as error:
            problems.append(str(error))
        else:
            themes.append(theme)
            taken[theme.name] = f"in {name}"
    return UserThemes(themes=tuple(themes), problems=tuple(problems), stamp=stamp)


def _taken(name: str, taken: dict[str, str]) -> str:
    return f"the name {name!r} is that of a theme {taken[name]}; call yours for example 'my-{name}'"


def choose(settings: Settings, user: UserThemes) -> tuple[str, str | None]:
    """The theme to begin with, and a note where it is not the one that is set.

    Raises ConfigError for a name that nothing has. A name from the app's memory, or of a file with a mistake,
    gives the first theme: the app opens.
    """
    known = (*(theme.name for theme in shipped_themes()), *(theme.name for theme in user.themes), *BUILTIN_THEMES)
    name = settings.theme
    if name in known:
        return name, None
    source = settings.source("theme")
    broken = any(Path(problem.split(":")[0]).stem == name for problem in user.problems)
    if source == "remembered" or broken:
        return FIRST_THEME, f"the theme {name} cannot be used; {FIRST_THEME} is shown"
    raise ConfigError(f"{source}: no theme {name!r}{_nearest(name, known)}")


def _nearest(name: str, known: Iterable[str]) -> str:
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1)
    return f", did you mean {near[0]!r}?" if near else f"; there are {', '.join(names)}"


def for_terminal(theme: Theme, colour_system: str | None) -> str:
    """The theme that this terminal can show: one of few colours where there are sixteen."""
    return FEW_COLOURS[theme.dark] if colour_system == "standard" and not theme.ansi else theme.name
