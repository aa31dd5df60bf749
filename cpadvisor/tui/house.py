"""The part of the app that is about the terminal and the user's taste, not about training.

Signals, job control, threads, themes, memory; what it needs to know it was given as a `Home`.
"""

import asyncio
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, cast

from textual.app import App, SystemCommand
from textual.binding import Binding
from textual.filter import LineFilter
from textual.screen import Screen

from cpadvisor.threads import LooseThreads
from cpadvisor.tui.copying import cautions
from cpadvisor.tui.keys import APP_KEYS, CHANGING, action_name, help_lines, in_language, own_keys
from cpadvisor.tui.messages import Finished
from cpadvisor.tui.plain import Ascii, Colourless
from cpadvisor.tui.screens.reader import Reader
from cpadvisor.tui.stages import Stages
from cpadvisor.tui.terminal import end_on_signals, follow_job_control, has_shell, stop_group
from cpadvisor.tui.theme import ANSI_DEFAULTS, FIRST_THEME, VARIABLE_DEFAULTS, shipped_themes
from cpadvisor.tui.user_themes import UserThemes, for_terminal, look, read_user_themes

LOOK_AT_THEMES_S = 1.0


def terminal_input() -> int:
    """The descriptor of the terminal from which the app reads."""
    return 0 if sys.__stdin__ is None else sys.__stdin__.fileno()


class House(Stages):
    """Lives in a terminal: leaves it whole, however it ends."""

    def get_theme_variable_defaults(self) -> dict[str, str]:
        """Colours of our own for themes that lack them."""
        return {**VARIABLE_DEFAULTS, **ANSI_DEFAULTS}

    def get_line_filters(self) -> Sequence[LineFilter]:
        """What changes each line before it is drawn: under NO_COLOR, where textual would draw greys, no colour."""
        colours = [Colourless()] if self.no_color else super().get_line_filters()
        return [*colours, Ascii(strict=not self.home.utf8)] if self.home.ascii else colours

    def on_load(self) -> None:
        """Before anything is drawn: themes, and threads that the end does not wait for."""
        asyncio.get_running_loop().set_default_executor(LooseThreads())
        for theme in (*shipped_themes(), *self.home.themes.themes):
            self.register_theme(theme)
        self.theme = self.home.theme
        self.set_keymap(self.settings.keys)

    def on_mount(self) -> None:
        """Listen to signals, take what the terminal can show, tell what is odd, watch the user's themes."""
        end_on_signals(lambda code: self.exit(return_code=code))
        follow_job_control(stop=self.action_suspend_process, go_on=self._take_terminal_anew)
        self.theme = for_terminal(self.current_theme, self.colour_system)
        for note in self.home.notes:
            self._tell(note)
        if self.home.themes.stamp is not None:
            self.run_worker(self._watch_folder, thread=True, group="themes", exit_on_error=False)

    @property
    def colour_system(self) -> str | None:
        """What the terminal can show: `standard` are sixteen colours; None where nothing is shown."""
        return None if self.is_headless else self.console.color_system

    def _tell(self, note: str) -> None:
        self.notify(note, severity="warning", markup=False, timeout=15)

    # Themes.

    def action_next_theme(self) -> None:
        """The next of the themes that are the app's or the user's own, among those that this terminal can show."""
        themes = [*shipped_themes(), *self.home.themes.themes]
        few = self.colour_system == "standard"
        names = [theme.name for theme in themes if theme.ansi == few]
        place = names.index(self.theme) + 1 if self.theme in names else 0
        self.choose_theme(names[place % len(names)])

    def choose_theme(self, name: str) -> None:
        """Take a theme and remember it; what only stands in for few colours is not remembered."""
        self.theme = name
        if self.colour_system != "standard":
            self.home = replace(self.home, remembered=replace(self.home.remembered, theme=name))

    def _watch_folder(self) -> None:
        """Look at the user's themes once a second, as long as their folder is there."""
        folder, known = self.home.themes_folder, self.home.themes.stamp
        while folder is not None and not self._ended.wait(LOOK_AT_THEMES_S):
            stamp = look(folder)
            if stamp is None:
                return
            if stamp != known:
                themes = read_user_themes(folder)
                known = themes.stamp
                self.post_message(Finished("themes", themes))

    async def take(self, part: object) -> None:
        """Themes that have changed are used at once."""
        if isinstance(part, UserThemes):
            self._take_themes(part)
        else:
            await super().take(part)

    def _take_themes(self, new: UserThemes) -> None:
        old = self.home.themes
        self.home = replace(self.home, themes=new)
        names = {theme.name for theme in new.themes}
        for theme in old.themes:
            if theme.name not in names and theme.name != self.theme:
                self.unregister_theme(theme.name)
        for theme in new.themes:
            self.register_theme(theme)
        for problem in new.problems:
            if problem not in old.problems:
                self._tell(problem)
        if self.theme in names:
            # Textual draws anew where the name changes; both settings are over before it does.
            name, self.theme = self.theme, FIRST_THEME
            self.theme = name

    # Keys.

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """None, which dims a key, for what changes something in a read-only app."""
        return None if action in CHANGING and self.settings.read_only else True

    def copy(self, text: str | None) -> None:
        """Give a text to the terminal's clipboard, by OSC 52; whether it takes it, it does not say."""
        words = self.words
        if not text:
            self.notify(words["nothing to copy"], markup=False)
            return
        self.copy_to_clipboard(text)
        notes = [words[caution] for caution in cautions(text, in_tmux="TMUX" in os.environ)]
        self.notify("; ".join([f"{words['copied']}: {len(text)} {words['characters']}", *notes]), markup=False)

    def action_help(self) -> None:
        """All keys of this screen and of all screens."""
        lines = help_lines(self.screen, self.words, keymap=self.settings.keys, read_only=self.settings.read_only)
        self.push_screen(Reader(self.words["help"], lines))

    def action_zoom(self) -> None:
        """The focused panel alone."""
        if self.screen.maximized is not None:
            self.screen.minimize()
        elif self.screen.focused is not None:
            self.screen.maximize(self.screen.focused)

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        """The palette: every key's action by name, and every theme."""
        for binding in [*APP_KEYS, *own_keys(screen)]:
            target = self if binding in APP_KEYS else screen
            if binding.action != "command_palette" and self._is_enabled(binding, target):
                named = in_language(binding, self.words)
                yield SystemCommand(named.description, named.tooltip, partial(self._do, binding.action, target))
        for name in sorted(self.available_themes):
            yield SystemCommand(f"{self.words['theme']} {name}", "", partial(self.choose_theme, name))

    def _is_enabled(self, binding: Binding, target: "App[int] | Screen[Any]") -> bool:
        node = self if binding.action.startswith("app.") else target
        return bool(node.check_action(action_name(binding), ()))

    async def _do(self, action: str, target: "App[int] | Screen[Any]") -> None:
        await self.run_action(action, default_namespace=cast(Any, target))

    # Terminal.

    def action_suspend_process(self) -> None:
        """Stop the app and its group; the shell's `fg` brings it back. Runs of training go on."""
        if not has_shell():
            self.notify(self.words["no shell"], severity="warning", markup=False)
            return
        with self.suspend():
            stop_group(terminal_input())

    def _take_terminal_anew(self) -> None:
        """Set the terminal again after a stop that could not be seen coming, such as SIGSTOP."""
        with self.suspend():
            pass

    def _handle_exception(self, error: Exception) -> None:
        # What fails while the app is ending is no news: its screens have gone (Textualize/textual issue 5325).
        if not self._exit:
            super()._handle_exception(error)
