"""What the app finds when it comes home: settings, themes of the user's own, what it remembers, and what is odd.

Everything that can be refused is refused here, before anything is drawn.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from cpadvisor.errors import ConfigError
from cpadvisor.settings import Settings, load, themes_folder
from cpadvisor.settings import notes as odd_variables
from cpadvisor.tui.command_log import log_path
from cpadvisor.tui.remembered import Remembered, recall, state_path
from cpadvisor.tui.terminal import first_environ, is_utf8, wants_ascii
from cpadvisor.tui.theme import FIRST_THEME
from cpadvisor.tui.user_themes import UserThemes, choose, read_user_themes

FIRST_SCREEN = "node"


@dataclass(frozen=True, slots=True, kw_only=True)
class Home:
    """One record for the whole life of the app. The default is nowhere: it reads and remembers nothing."""

    settings: Settings = field(default_factory=Settings)
    theme: str = FIRST_THEME
    screen: str = FIRST_SCREEN
    remembered: Remembered = field(default_factory=Remembered)
    state: Path | None = None
    """Where choices are remembered; None remembers none."""
    log: Path | None = None
    """Where the command log is kept; None keeps it in memory alone."""
    themes_folder: Path | None = None
    themes: UserThemes = field(default_factory=UserThemes)
    ascii: bool = False
    """Whether lines, dots and blocks are drawn in ASCII."""
    utf8: bool = True
    """Whether the terminal takes any other letters."""
    notes: tuple[str, ...] = ()
    """What the user is told once, when the app has opened."""


NOWHERE = Home()


def _require_keys(settings: Settings) -> None:
    """Refuse keys of the user's own that cannot be. The screens are looked at for this, and only for this."""
    from cpadvisor.tui.keymap import mistakes

    found = mistakes(settings.keys)
    if found:
        raise ConfigError(f"{settings.source('keys')}: keys: " + "; ".join(found))


def _in_letters_of(settings: Settings, *, utf8: bool) -> tuple[Settings, str | None]:
    """The settings in a language that the terminal has letters for, and a note where that is another."""
    if utf8 or settings.lang == "en":
        return settings, None
    return replace(settings, lang="en"), "the locale is not UTF-8 and shows no Chinese: English is used; set LANG"


def come_home(
    flags: Mapping[str, object], *, screens: tuple[str, ...], environ: Mapping[str, str] = os.environ
) -> Home:
    """Read all that the app is set to. Raises ConfigError on settings that are wrong."""
    state = state_path()
    remembered, forgotten = recall(state)
    settings = load(flags, environ, remembered={"theme": remembered.theme} if remembered.theme else {})
    if settings.keys:
        _require_keys(settings)
    folder = themes_folder(environ)
    themes = read_user_themes(folder)
    theme, instead = choose(settings, themes)
    given = first_environ()
    utf8 = is_utf8(given)
    settings, english = _in_letters_of(settings, utf8=utf8)
    notes = (english, forgotten, instead, *themes.problems, *odd_variables(environ))
    return Home(
        settings=settings,
        theme=theme,
        screen=remembered.screen if remembered.screen in screens else FIRST_SCREEN,
        remembered=remembered,
        state=None if settings.read_only else state,
        log=None if settings.read_only else log_path(),
        themes_folder=folder,
        themes=themes,
        ascii=settings.ascii == "on" or (settings.ascii == "auto" and wants_ascii(given)),
        utf8=utf8,
        notes=tuple(note for note in notes if note),
    )
