"""The part of the app that works: it runs stages in threads and puts what they give into the session.

Machine, plan and draft follow each other; each ends in one message with one
frozen part. The session goes down to the screen that is seen.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Event, Thread, current_thread

from textual import on
from textual.app import App
from textual.reactive import var
from textual.worker import get_current_worker

from cpadvisor.job import Request
from cpadvisor.tui import headless
from cpadvisor.tui.command_log import CommandLog
from cpadvisor.tui.home import NOWHERE, Home
from cpadvisor.tui.i18n import Words
from cpadvisor.tui.messages import Failed, Finished, attempt
from cpadvisor.tui.screens.base import StageScreen
from cpadvisor.tui.session import GPU_REQUEST, Answer, Draft, Live, Machine, Session
from cpadvisor.tui.work import Saved, Work, looks

PLANNING = ("machine", "plan", "draft")
"""The stages that lead to a file, in their order; each starts the next."""
TOLD = ("write", "launch", "stop", "run", "remedy", "mend", "open", "replay", "compare", "resume", "delete")
"""What the user asked for: its failure is told at once, wherever the user is by then."""


CHANGES = ("write", "launch", "stop", "mend", "resume", "delete")
"""The stages that change something outside the app."""


class Stages(App[int]):
    """Holds the session and the work that changes it."""

    session: var[Session] = var(Session)

    def __init__(
        self,
        work: Work,
        *,
        request: Request = GPU_REQUEST,
        home: Home = NOWHERE,
        run: Path | None = None,
    ) -> None:
        # Before textual reads it: the screen that is mounted first.
        self.DEFAULT_MODE = "run" if run is not None else home.screen  # pyright: ignore[reportAttributeAccessIssue]
        super().__init__()
        self.home = home
        self.settings = home.settings
        self.words = Words(home.settings.lang)
        self.command_log = CommandLog(home.log)
        self._work = work
        self._first_request = request
        self._first_run = run
        self._ended = Event()
        self._log_rank = 0
        self._launch_next = False
        self._quits_once_stopped = False
        self._unseen: Live | None = None
        self.changing: list[Thread] = []
        """Threads of stages that change something: the end waits for them."""
        self.late: list[Finished | Failed] = []
        """What such stages gave after the app had ended."""
        self.set_reactive(Stages.session, Session(request=request))

    def on_unmount(self) -> None:
        """Let the sampler end."""
        self._ended.set()

    # Session: attributes down.

    def watch_session(self, session: Session) -> None:
        """Hand the session to the screen that is seen, also below a modal one."""
        for screen in self.screen_stack if self._running else ():
            if isinstance(screen, StageScreen):
                screen.session = session

    # Workers: messages up.

    def _start(self, stage: str, work: Callable[[], object], command: str | None = None) -> None:
        """Run a stage in a thread; a newer call of the same stage makes an older one's answer void.

        The log tells it as the headless command that does the same. A read-only app starts none that changes
        something, whichever way it was asked.
        """
        if self.settings.read_only and stage in CHANGES:
            self.notify(self.words["read-only help"], severity="warning", markup=False)
            return
        self.session = replace(self.session, busy=stage)
        done = partial(self._run, stage, work, command)
        self.run_worker(done, thread=True, exclusive=True, group=stage, exit_on_error=False)

    def note(self, command: str) -> None:
        """Put into the log what is done at once."""
        self.command_log.end(self.command_log.begin(command))

    def _run(self, stage: str, work: Callable[[], object], command: str | None = None) -> None:
        worker = get_current_worker()
        if stage in CHANGES:
            self.changing.append(current_thread())
        number = None if command is None else self.command_log.begin(command)
        message = attempt(stage, work)
        if number is not None:
            self.command_log.end(number, message.reason if isinstance(message, Failed) else None)
        if not worker.is_cancelled:
            self.post_message(message)
        elif stage in CHANGES:
            self.late.append(message)

    @on(Failed)
    def _stage_failed(self, event: Failed) -> None:
        self.session = self.session.failed(event.stage, event.reason)
        self._launch_next = self._quits_once_stopped = False
        if event.stage in TOLD:
            self.notify(event.reason, title=event.stage, severity="error", markup=False, timeout=10)

    @on(Finished)
    async def _stage_finished(self, event: Finished) -> None:
        self.session = self.session.done(event.stage)
        await self.take(event.part)
        if event.stage == "stop" and self._quits_once_stopped:
            self.exit(return_code=0)

    async def take(self, part: object) -> None:
        """Put what a worker gave into the session; the parts of the app that derive from this one take more."""
        if isinstance(part, Machine):
            self._take_machine(part)
        elif isinstance(part, Answer):
            self._take_answer(part)
        elif isinstance(part, Draft):
            await self._take_draft(part)
        elif isinstance(part, Saved):
            self._take_saved(part)
        elif isinstance(part, Path):
            self.follow(part)
        elif isinstance(part, Live):
            self._take_live(part)

    def _take_machine(self, machine: Machine) -> None:
        self.session = replace(self.session, machine=machine, answer=None, draft=None, chosen=0)
        self.start_planning(machine)

    def start_planning(self, machine: Machine) -> None:
        """Plan the job that is asked for on this machine."""
        request = self.session.request
        self._start("plan", partial(self._work.answer, machine, request), headless.plan(machine, request))

    def _take_answer(self, answer: Answer) -> None:
        # An answer that was on its way when the job changed is void.
        if answer.request == self.session.request:
            self.session = replace(self.session, answer=answer, chosen=0)
            self._start_draft()

    def _start_draft(self) -> None:
        answer, plan = self.session.answer, self.session.plan
        if answer is None or plan is None:
            self._launch_next = False
            self.session = replace(self.session, draft=None)
            return
        self._start("draft", partial(self._work.draft, answer, plan))

    async def _take_draft(self, draft: Draft) -> None:
        if draft.plan is not self.session.plan:
            return
        self.session = replace(self.session, draft=draft)
        if self._launch_next:
            self._launch_next = False
            await self.action_launch()

    def reread_file(self) -> None:
        """Read the file again that the user or a mend has changed: from now on it is the one that is launched."""
        if self.session.draft is not None:
            draft = self.session.draft
            self._start("draft", partial(self._work.edited, draft), headless.command("check", draft.path))

    def _take_saved(self, saved: Saved) -> None:
        kept = f"; the old file is {saved.backup.name}" if saved.backup else ""
        self.notify(f"{saved.path}{kept}", title=self.words["saved"], markup=False)
        self._start_draft()

    def follow(self, run_dir: Path) -> None:
        """Look at a run from now on."""
        self._log_rank = 0
        self.session = replace(self.session, run_dir=run_dir, live=None, recalled=None, paused=False)
        sampler = partial(self._sample, run_dir)
        self.run_worker(sampler, thread=True, exclusive=True, group="run", exit_on_error=False)

    def _sample(self, run_dir: Path) -> None:
        """Look at the run, as often as the settings say, until it has ended; one record a look."""
        worker = get_current_worker()
        for message in looks(self._work, run_dir, rank=lambda: self._log_rank):
            if worker.is_cancelled:
                return
            if message is not None:
                self.post_message(message)
            if self._ended.wait(1 / self.settings.looks_per_second):
                return

    def _take_live(self, live: Live) -> None:
        if self.session.paused and not live.view.is_final:
            self._unseen = live
        else:
            self.session = replace(self.session, live=live)

    async def action_stage(self, mode: str) -> None:
        """Go to a screen; the app says how."""

    async def action_launch(self) -> None:
        """Start the chosen plan; the app says how."""
