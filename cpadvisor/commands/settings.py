"""`settings`: every setting with its value and where it comes from, and the files that the app reads and writes."""

import argparse
from collections.abc import Iterable
from typing import Any

from cpadvisor.commands.front import app_flags
from cpadvisor.commands.output import print_json, say
from cpadvisor.errors import EXIT_DONE, EXIT_USAGE, ConfigError
from cpadvisor.report.table import table
from cpadvisor.rundir import state_root
from cpadvisor.settings import RULES, Settings, config_path, default_text, notes, resolve, shipped_theme_files
from cpadvisor.settings import themes_folder as user_themes_folder
from cpadvisor.tui.command_log import log_path
from cpadvisor.tui.remembered import recall, state_path


def run(args: argparse.Namespace) -> int:
    """Show the settings, or a file to start from; exit status 2 where the app would refuse them."""
    if args.default:
        print(default_text(_bindings()), end="")
        return EXIT_DONE
    remembered, forgotten = recall(state_path())
    flags = app_flags(args)
    settings, mistakes = resolve(flags, remembered={"theme": remembered.theme} if remembered.theme else {})
    theme_mistakes, theme_notes = _about_themes(settings)
    problems = (*mistakes, *theme_mistakes, *_about_keys(settings))
    told = tuple(note for note in (forgotten, *theme_notes, *notes()) if note)
    if args.json:
        print_json({**settings_json(settings), "files": _files(), "problems": [*problems], "notes": [*told]})
    else:
        print(settings_text(settings))
        say(*(f"error: {problem}" for problem in problems), *(f"note: {note}" for note in told))
    return EXIT_USAGE if problems else EXIT_DONE


def settings_json(settings: Settings) -> dict[str, Any]:
    """The settings for other programs."""
    default = Settings()
    return {
        "schema": 1,
        "settings": [
            {
                "key": rule.key,
                "value": getattr(settings, rule.key),
                "default": getattr(default, rule.key),
                "source": settings.source(rule.key),
            }
            for rule in RULES
        ],
    }


def settings_text(settings: Settings) -> str:
    """One line a setting, then one a file."""
    rows = [[rule.key, _shown(getattr(settings, rule.key)), settings.source(rule.key)] for rule in RULES]
    files = [[name.replace("_", " "), path] for name, path in _files().items()]
    return table(["setting", "value", "from"], rows) + "\n\n" + table(["file", "path"], files)


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}: {keys}" for name, keys in value.items()) or "none"
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)


def _files() -> dict[str, str]:
    """What the app reads and writes, by what it is."""
    return {
        "config": str(config_path()),
        "themes": str(user_themes_folder()),
        "memory": str(state_path()),
        "command_log": str(log_path()),
        "crash_report": str(state_root() / "crash.txt"),
    }


def _about_themes(settings: Settings) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Whether the theme is there, and files of the user's that are left out; textual is asked where it must be."""
    folder_is_there = user_themes_folder().is_dir()
    if settings.theme in dict(shipped_theme_files()) and not folder_is_there:
        return (), ()
    from cpadvisor.tui.user_themes import choose, read_user_themes

    themes = read_user_themes(user_themes_folder())
    try:
        _, instead = choose(settings, themes)
    except ConfigError as error:
        return (str(error),), themes.problems
    return (), (*themes.problems, *([instead] if instead else []))


def _bindings() -> Iterable[tuple[str, str, str]]:
    """Id, keys and meaning of every key of the app."""
    from cpadvisor.tui.keymap import all_bindings

    return ((name, binding.key, binding.tooltip) for name, binding in all_bindings().items())


def _about_keys(settings: Settings) -> tuple[str, ...]:
    """What is wrong with keys of the user's own; the app is asked only where there are some."""
    if not settings.keys:
        return ()
    from cpadvisor.tui.keymap import mistakes

    return tuple(f"{settings.source('keys')}: keys: {mistake}" for mistake in mistakes(settings.keys))
