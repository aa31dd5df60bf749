"""The part of the app that is about the terminal, not about training: signals, job control, threads, themes."""

import asyncio
import sys

from cpadvisor.tui.stages import Stages
from cpadvisor.tui.terminal import end_on_signals, follow_job_control, has_shell, stop_group
from cpadvisor.tui.theme import FIRST_THEME, VARIABLE_DEFAULTS, shipped_themes
from cpadvisor.tui.threads import LooseThreads


class House(Stages):
    """Lives in a terminal: leaves it whole, however it ends."""

    def get_theme_variable_defaults(self) -> dict[str, str]:
        """Colours of our own for themes that lack them."""
        return dict(VARIABLE_DEFAULTS)

    def on_load(self) -> None:
        """Before anything is drawn: the theme, and threads that the end does not wait for."""
        asyncio.get_running_loop().set_default_executor(LooseThreads())
        for theme in shipped_themes():
            self.register_theme(theme)
        self.theme = FIRST_THEME

    def on_mount(self) -> None:
        """Listen to signals."""
        end_on_signals(lambda code: self.exit(return_code=code))
        follow_job_control(stop=self.action_suspend_process, go_on=self._take_terminal_anew)

    def action_suspend_process(self) -> None:
        """Stop the app and its group; the shell's `fg` brings it back. Runs of training go on."""
        if not has_shell():
            self.notify(self.words["no shell"], severity="warning", markup=False)
            return
        with self.suspend():
            stop_group(sys.__stdin__.fileno() if sys.__stdin__ else 0)

    def _take_terminal_anew(self) -> None:
        """Set the terminal again after a stop that could not be seen coming, such as SIGSTOP."""
        with self.suspend():
            pass

    def _handle_exception(self, error: Exception) -> None:
        # What fails while the app is ending is no news: its screens have gone (Textualize/textual issue 5325).
        if not self._exit:
            super()._handle_exception(error)
