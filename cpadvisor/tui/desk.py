"""The part of the app where the user works on a file and asks what was done: write, $EDITOR, launch, command log.

The newest file is launched. Once the user, or a mend, has changed the file on
disk, it is launched as it stands; choosing another plan or writing with `w`
makes the plan newer again. A plan that is not on disk is launched from a copy.
"""

import os
from functools import partial
from pathlib import Path

from textual.app import SuspendNotSupported

from cpadvisor.errors import CpadvisorError
from cpadvisor.tui import headless
from cpadvisor.tui.editor import edit, editor_argv
from cpadvisor.tui.house import House, terminal_input
from cpadvisor.tui.screens.journal import Journal
from cpadvisor.tui.screens.reader import Question
from cpadvisor.tui.session import Draft
from cpadvisor.tui.terminal import lent
from cpadvisor.tui.work import Saved, copy_path


class Desk(House):
    """What `w`, `e`, `L` and `@` do."""

    _edit_next = False
    """Whether the file is opened as soon as it is written."""

    def action_write(self) -> None:
        """Write the plan's file; ask first where the user has changed the one on disk."""
        draft = self.session.draft
        if draft is None:
            return
        if not draft.is_edited:
            self._write(draft)
            return
        words = self.words
        answers = (("w", "write", words["write over"]), ("esc", "stay", words["change nothing"]))
        question = Question(words["file"], f"{draft.path}\n{words['is edited']}", answers)
        self.push_screen(question, partial(self._write_answered, draft))

    def _write_answered(self, draft: Draft, answer: str | None) -> None:
        if answer == "write":
            self._write(draft)

    def _write(self, draft: Draft) -> None:
        session = self.session
        assert session.machine is not None, "a draft is of a plan on a machine"
        command = headless.write(
            session.machine, session.request, draft.plan, first=session.chosen == 0, path=draft.path
        )
        self._start("write", partial(self._work.save, draft), command)

    # The editor.

    def action_edit_file(self) -> None:
        """Open the file in the user's editor; ask first where it is not the one that is shown."""
        draft, words = self.session.draft, self.words
        if draft is None:
            self.notify(words["no file yet"], markup=False)
        elif draft.is_saved:
            self._edit(draft)
        else:
            on_disk = (("e", "edit", words["edit the old one"]),) if draft.on_disk is not None else ()
            answers = (("w", "write", words["write first"]), *on_disk, ("esc", "stay", words["change nothing"]))
            question = Question(words["file"], f"{draft.path}\n{words['not written']}", answers)
            self.push_screen(question, partial(self._edit_answered, draft))

    def _edit_answered(self, draft: Draft, answer: str | None) -> None:
        if answer == "write":
            self._edit_next = True
            self._write(draft)
        elif answer == "edit":
            self._edit(draft)

    async def take(self, part: object) -> None:
        """A file that was written to be edited is opened."""
        await super().take(part)
        if isinstance(part, Saved) and self._edit_next and self.session.draft is not None:
            self._edit_next = False
            self._edit(self.session.draft)

    def _edit(self, draft: Draft) -> None:
        problem: str | None = None
        try:
            argv = editor_argv(os.environ)
        except CpadvisorError as error:
            self._say_edit(str(error))
            return
        number = self.command_log.begin(headless.shell(*argv, draft.path))
        try:
            with self.suspend(), lent():
                status = edit(argv, draft.path, terminal=terminal_input())
            problem = f"{argv[0]}: exit status {status}" if status else None
        except (OSError, SuspendNotSupported) as error:
            problem = str(error)
        self.command_log.end(number, problem)
        if problem is not None:
            self._say_edit(problem)
        self.reread_file()

    def _say_edit(self, problem: str) -> None:
        self.notify(problem, title=self.words["edit"], severity="error", markup=False, timeout=10)

    # Launching.

    def launch_command(self, draft: Draft) -> str:
        """What starts the same file: the user's, or the copy of the plan's."""
        path = draft.path if draft.is_saved else copy_path(draft)
        return headless.command("launch", path, "--detach")

    def say_what_is_launched(self, draft: Draft) -> None:
        """Say which file it is, where it may not be the one that the user thinks of."""
        if draft.is_edited:
            self._say_launched(draft.path, "launched edited")
        elif not draft.is_saved and draft.on_disk is not None:
            self._say_launched(draft.path, "launched copy")

    def _say_launched(self, path: Path, what: str) -> None:
        self.notify(f"{path}: {self.words[what]}", title=self.words["run"], markup=False)

    # The log.

    def action_commands(self) -> None:
        """What the app did."""
        self.push_screen(Journal(self.words, self.command_log))
