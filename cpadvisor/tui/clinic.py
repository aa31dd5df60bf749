"""The part of the app that examines and mends: it asks the doctor in a thread and shows a change before it is made."""

import shlex
from dataclasses import replace
from functools import partial
from typing import cast

from textual import on

from cpadvisor.rundir import command_name
from cpadvisor.tui import headless
from cpadvisor.tui.copying import copy_from
from cpadvisor.tui.exam import SUBJECTS, Exam, Mended, Remedy, Subject
from cpadvisor.tui.screens.doctor import DoctorScreen
from cpadvisor.tui.screens.picker import ChangePreview
from cpadvisor.tui.stages import Stages
from cpadvisor.tui.widgets.lines import diff_lines


class Clinic(Stages):
    """What `5` shows."""

    def subject(self) -> Subject | str:
        """What is to be examined, or why there is nothing of the chosen kind."""
        session, kind = self.session, self.session.subject
        if kind == "node":
            return Subject(kind=kind, label=self.words["this machine"])
        if kind == "run":
            if session.shown_dir is None:
                return self.words["no run to examine"]
            return Subject(kind=kind, label=session.shown_dir.name, path=session.shown_dir)
        if session.draft is None or session.draft.on_disk is None:
            return self.words["no file to examine"]
        return Subject(kind=kind, label=str(session.draft.path), path=session.draft.path)

    def action_examine(self) -> None:
        """Look at the subject, anew."""
        subject, session = self.subject(), self.session
        if isinstance(subject, str):
            self.session = session.failed("exam", subject)
            return
        node = session.machine.node if session.machine is not None else None
        view = session.shown.view if session.shown is not None and subject.kind == "run" else None
        self._start("exam", partial(self._work.examine, subject, node=node, view=view), _command(subject))

    def examine_if_new(self) -> None:
        """Look at the subject where what is known is of another one."""
        exam = self.session.exam
        if self.session.busy != "exam" and (exam is None or exam.subject != self.subject()):
            self.action_examine()

    def action_next_subject(self) -> None:
        """From this machine to the config, to the run, and round."""
        self.choose_subject(SUBJECTS[(SUBJECTS.index(self.session.subject) + 1) % len(SUBJECTS)])

    def choose_subject(self, kind: str) -> None:
        """Examine one of SUBJECTS."""
        self.session = replace(self.session.done("exam"), subject=kind, symptom=None)
        self.examine_if_new()

    async def action_doctor_run(self) -> None:
        """To the doctor, on the run that is shown."""
        self.choose_subject("run")
        await self.action_stage("doctor")

    @on(DoctorScreen.Complained)
    def _complained(self, event: DoctorScreen.Complained) -> None:
        self.session = replace(self.session, symptom=event.symptom)

    @on(DoctorScreen.MendChosen)
    def _mend_chosen(self, event: DoctorScreen.MendChosen) -> None:
        if self.session.exam is not None:
            self._start("remedy", partial(self._work.remedy, self.session.exam, event.title, event.mend))

    async def take(self, part: object) -> None:
        """An exam goes into the session, a remedy to the user, a mended file is examined again."""
        if isinstance(part, Exam):
            self._take_exam(part)
        elif isinstance(part, Remedy):
            self._show_remedy(part)
        elif isinstance(part, Mended):
            self._take_mended(part)
        else:
            await super().take(part)

    def _take_exam(self, exam: Exam) -> None:
        """Keep it; where the subject has changed meanwhile, the new one is examined."""
        if exam.subject == self.subject():
            self.session = replace(self.session, exam=exam)
        elif self.current_mode == DoctorScreen.MODE:
            self.examine_if_new()

    def _show_remedy(self, remedy: Remedy) -> None:
        words, mend = self.words, remedy.mend
        answers = [("esc", "stay", words["change nothing"])]
        if mend.command:
            answers.insert(0, ("y", "copy", words["copy the command"]))
        if remedy.diff and not self.settings.read_only:
            answers.insert(0, ("enter", "write", f"{words['write']} {cast(object, remedy.path)}"))
        head = ((mend.text, "ok"),), (("", "plain"),)
        command = (((f"$ {mend.command}", "plain"),),) if mend.command else ()
        preview = ChangePreview(remedy.title, (*head, *diff_lines(remedy.diff), *command), tuple(answers))
        self.push_screen(preview, partial(self._remedy_answered, remedy))

    def _remedy_answered(self, remedy: Remedy, answer: str | None) -> None:
        if answer == "write":
            self._start("mend", partial(self._work.mend, remedy), self._mend_command(remedy))
        elif answer == "copy" and remedy.mend.command:
            copy_from(self, remedy.mend.command)

    def _take_mended(self, mended: Mended) -> None:
        kept = f"; the old file is {mended.backup.name}" if mended.backup else ""
        self.notify(f"{mended.path}{kept}", title=self.words["saved"], markup=False)
        if self.session.draft is not None and mended.path == self.session.draft.path:
            self.reread_file()
        self.action_examine()

    def _mend_command(self, remedy: Remedy) -> str:
        """`doctor FILE --apply RULE`."""
        found = self.session.exam.found if self.session.exam is not None else ()
        rule = next((one.rule for one in found if remedy.mend in one.mends), remedy.title)
        return f"{_command(remedy.subject)} --apply {shlex.quote(rule)}"


def _command(subject: Subject) -> str:
    """The headless doctor on a subject."""
    if subject.path is None:
        return headless.command("doctor")
    return headless.command("doctor", command_name(subject.path) if subject.kind == "run" else subject.path)
