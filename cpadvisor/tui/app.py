"""The app: its screens, its keys, and what each key does to the session."""

import os
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from textual import on

from cpadvisor.job import Request
from cpadvisor.rundir import command_name
from cpadvisor.tui import headless
from cpadvisor.tui.archive import Archive
from cpadvisor.tui.desk import Desk
from cpadvisor.tui.guard import Guard
from cpadvisor.tui.home import come_home
from cpadvisor.tui.keys import APP_KEYS
from cpadvisor.tui.living import live
from cpadvisor.tui.screens.base import NARROW
from cpadvisor.tui.screens.config import ConfigScreen
from cpadvisor.tui.screens.doctor import DoctorScreen
from cpadvisor.tui.screens.node import NodeScreen
from cpadvisor.tui.screens.plan import PlanScreen
from cpadvisor.tui.screens.reader import Question, Reader, reader_width
from cpadvisor.tui.screens.run import RunScreen
from cpadvisor.tui.screens.runs import RunsScreen
from cpadvisor.tui.session import (
    CPU_NODE,
    CPU_REQUEST,
    GPU_REQUEST,
    why_not_launch,
)
from cpadvisor.tui.stages import PLANNING
from cpadvisor.tui.terminal import know_more_terminals, require_screen
from cpadvisor.tui.widgets.job_form import JobForm
from cpadvisor.tui.widgets.strip import Tab
from cpadvisor.tui.widgets.table import RowTable
from cpadvisor.tui.work import Work


class CpadvisorApp(Archive, Desk):
    """Six screens on keys 1 to 6."""

    TITLE = "cpadvisor"
    CSS_PATH = "app.tcss"
    MODES: ClassVar[dict[str, Any]] = {
        "node": NodeScreen,
        "plan": PlanScreen,
        "config": ConfigScreen,
        "run": RunScreen,
        "doctor": DoctorScreen,
        "runs": RunsScreen,
    }
    DEFAULT_MODE = "node"
    HORIZONTAL_BREAKPOINTS: ClassVar = [(0, "-narrow"), (NARROW, "-wide")]
    VERTICAL_BREAKPOINTS: ClassVar = [(0, "-short"), (32, "-tall")]
    ENABLE_COMMAND_PALETTE = True
    BINDINGS: ClassVar[list[Any]] = [*APP_KEYS]

    def on_mount(self) -> None:
        """Begin to look at the machine, and at the run that was asked for."""
        self._look_at(self._first_request)
        if self._first_run is not None:
            self.follow(self._first_run)
        self.call_after_refresh(self._arrive)

    def _look_at(self, request: Request) -> None:
        """Look at the machine that is asked for; planning follows."""
        self._start("machine", partial(self._work.machine, request), headless.inspect(request))

    # What the user does.

    async def action_stage(self, mode: str) -> None:
        """Go to a screen, with the session as it is now."""
        await self.switch_mode(mode)
        self._arrive()

    def _arrive(self) -> None:
        """Show the session on the screen that is seen now, and begin what this screen shows."""
        self.watch_session(self.session)
        if self.current_mode == "doctor":
            self.examine_if_new()
        elif self.current_mode == "runs":
            self.renew_history()

    @on(Tab.Chosen)
    async def _tab_chosen(self, event: Tab.Chosen) -> None:
        await self.action_stage(event.mode)

    @on(JobForm.Submitted)
    def _job_submitted(self, event: JobForm.Submitted) -> None:
        self.session = replace(self.session, request=event.request)
        if self.session.machine is not None:
            self.start_planning(self.session.machine)

    @on(RowTable.Moved, "#candidates")
    def _plan_chosen(self, event: RowTable.Moved) -> None:
        self.session = replace(self.session, chosen=event.index)
        self._start_draft()

    @on(RowTable.Picked, "#candidates")
    async def _plan_picked(self) -> None:
        await self.action_stage("config")

    def action_cpu(self) -> None:
        """To the CPU of this machine, and back to the node before."""
        machine = self.session.machine
        on_cpu = machine is not None and machine.node.name == CPU_NODE
        request = self._back_from_cpu() if on_cpu else CPU_REQUEST
        self.session = replace(self.session, request=request, answer=None, draft=None, problems={})
        wanted = request if on_cpu else replace(request, node=CPU_NODE)
        self._look_at(wanted)

    def _back_from_cpu(self) -> Request:
        first = self._first_request
        return GPU_REQUEST if first.node == CPU_NODE else first

    async def action_launch(self) -> None:
        """Start the chosen plan, as soon as its file is ready, and show the run."""
        session = self.session
        if session.busy in PLANNING:
            self._launch_next = True
            return
        refusal = why_not_launch(session)
        if refusal is not None:
            self.notify(refusal, title=self.words["run"], severity="warning", markup=False)
            return
        assert session.draft is not None, "why_not_launch refuses a session without a draft"
        self._start("launch", partial(self._work.launch, session.draft), self.launch_command(session.draft))
        await self.action_stage("run")
        self.say_what_is_launched(session.draft)

    def action_stop(self) -> None:
        """Ask, then stop the run."""
        if not self.session.is_running or self.session.run_dir is None:
            self.notify(self.words["no run"], markup=False)
            return
        words, name = self.words, self.session.run_dir.name
        answers = (("X", "yes", words["stop it"]), ("esc", "stay", words["change nothing"]))
        self.push_screen(Question(words["run"], f"{name}\n{words['stop run']}", answers), self._stop_answered)

    def _stop_answered(self, answer: str | None) -> None:
        if answer == "yes" and self.session.run_dir is not None:
            self._stop(self.session.run_dir)

    def _stop(self, run_dir: Path) -> None:
        self._start("stop", partial(self._work.stop, run_dir), headless.command("stop", command_name(run_dir)))

    def action_pause(self) -> None:
        """Hold the replay or the picture, or let it go on with the newest look."""
        if self.pause_replay():
            return
        live = self._unseen if self.session.paused and self._unseen else self.session.live
        self._unseen = None
        self.session = replace(self.session, paused=not self.session.paused, live=live)

    def action_next_rank(self) -> None:
        """Follow the log of the next rank."""
        live, recalled = self.session.shown, self.session.recalled
        if live is None:
            return
        rank = (live.rank + 1) % max(live.view.world, 1)
        if recalled is not None:
            self.recall_rank(recalled, rank)
            return
        self._log_rank = rank
        if live.view.is_final and self.session.run_dir is not None:
            self._quietly("run", partial(self._work.look, self.session.run_dir, rank))

    def action_card(self) -> None:
        """The quick reference card, whose figures take the planner a moment."""
        self.note(headless.command("card", "--lang", self.words.language))
        self.run_worker(self._read_card, thread=True, exclusive=True, group="card", exit_on_error=False)

    def _read_card(self) -> None:
        from cpadvisor.tui.reference import card_lines

        lines = card_lines(self.words.language, reader_width(self.size.width))
        self.call_from_thread(self.push_screen, Reader(self.words["reference"], lines))

    def action_leave(self) -> None:
        """Quit; ask first where a run is alive."""
        if not self.session.is_running:
            self.exit(return_code=0)
            return
        words = self.words
        answers = (
            ("d", "leave", words["leave it"]),
            *(() if self.settings.read_only else (("x", "yes", words["stop and quit"]),)),
            ("esc", "stay", words["stay here"]),
        )
        self.push_screen(Question(words["run"], words["run lives"], answers), self._leave_answered)

    def _leave_answered(self, answer: str | None) -> None:
        if answer == "leave":
            self.exit(return_code=0)
        elif answer == "yes" and self.session.run_dir is not None:
            run_dir = self.session.run_dir
            self.notify(self.words["stopping"], markup=False)
            self._quits_once_stopped = True
            self._stop(run_dir)


def run_app(
    *,
    node_name: str | None = None,
    topo_text: str | None = None,
    gpu: str | None = None,
    model: str | None = None,
    sequence_len: str | None = None,
    config: Path | None = None,
    runs: Path | None = None,
    run: Path | None = None,
    theme: str | None = None,
    lang: str | None = None,
    mouse: bool | None = None,
    read_only: bool | None = None,
    watch: Guard | None = None,
) -> int:
    """Open the app, on a run where one is given, and give the exit status.

    Theme, language, mouse and read-only are flags: None leaves them to the
    settings. `watch` is the guard of the terminal where the caller has forked
    it, and ends it. Raises MissingError on a terminal that shows no screens,
    ConfigError on settings that are wrong.
    """
    require_screen(os.environ)
    know_more_terminals(os.environ)
    flags = {"theme": theme, "lang": lang, "mouse": mouse, "read_only": read_only}
    home = come_home(flags, screens=tuple(CpadvisorApp.MODES))
    base = CPU_REQUEST if node_name == CPU_NODE else GPU_REQUEST
    request = replace(
        base,
        node=node_name,
        topo_text=topo_text,
        gpu=gpu,
        model=model or base.model,
        sequence_len=sequence_len or base.sequence_len,
    )
    work = Work(config=config or Path.cwd() / "cpadvisor.yaml", runs=runs)
    app = CpadvisorApp(work, request=request, home=home, run=run)
    return live(app, watch)
