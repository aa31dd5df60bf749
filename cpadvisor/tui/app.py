"""The app: it holds the session, runs each stage in a thread, and hands the session to the screen that is seen."""

import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any, ClassVar, cast

from textual import on
from textual.app import App, SystemCommand
from textual.binding import Binding
from textual.reactive import var
from textual.screen import Screen
from textual.worker import get_current_worker

from cpadvisor.errors import CpadvisorError
from cpadvisor.job import Request
from cpadvisor.tui.i18n import Words
from cpadvisor.tui.keys import APP_KEYS, help_lines
from cpadvisor.tui.messages import Failed, Finished
from cpadvisor.tui.screens.base import StageScreen
from cpadvisor.tui.screens.config import ConfigScreen
from cpadvisor.tui.screens.node import NodeScreen
from cpadvisor.tui.screens.plan import PlanScreen
from cpadvisor.tui.screens.reader import Question, Reader
from cpadvisor.tui.screens.run import RunScreen
from cpadvisor.tui.session import CPU_NODE, CPU_REQUEST, GPU_REQUEST, Answer, Draft, Live, Machine, Session
from cpadvisor.tui.terminal import accept_any_bytes, end_on_signals, require_screen
from cpadvisor.tui.theme import FIRST_THEME, VARIABLE_DEFAULTS, shipped_themes
from cpadvisor.tui.widgets.job_form import JobForm
from cpadvisor.tui.widgets.strip import Tab
from cpadvisor.tui.widgets.table import RowTable
from cpadvisor.tui.work import Saved, Work

LOOKS_PER_S = 2.0
PLANNING = ("machine", "plan", "draft")
"""The stages that lead to a file, in their order; each starts the next."""


class CpadvisorApp(App[int]):
    """Four stages on keys 1 to 4."""

    TITLE = "cpadvisor"
    CSS_PATH = "app.tcss"
    MODES: ClassVar[dict[str, Any]] = {
        "node": NodeScreen,
        "plan": PlanScreen,
        "config": ConfigScreen,
        "run": RunScreen,
    }
    DEFAULT_MODE = "node"
    HORIZONTAL_BREAKPOINTS: ClassVar = [(0, "-narrow"), (110, "-wide")]
    VERTICAL_BREAKPOINTS: ClassVar = [(0, "-short"), (32, "-tall")]
    ENABLE_COMMAND_PALETTE = True
    BINDINGS: ClassVar[list[Any]] = [*APP_KEYS]

    session: var[Session] = var(Session)

    def __init__(self, work: Work, *, request: Request = GPU_REQUEST, lang: str = "en") -> None:
        super().__init__()
        self.words = Words(lang)
        self._work = work
        self._first_request = request
        self._ended = Event()
        self._log_rank = 0
        self._launch_next = False
        self._unseen: Live | None = None
        self.set_reactive(CpadvisorApp.session, Session(request=request))

    def get_theme_variable_defaults(self) -> dict[str, str]:
        """Colours of our own for themes that lack them."""
        return dict(VARIABLE_DEFAULTS)

    def on_mount(self) -> None:
        """Take the theme, listen to signals, begin to look at the machine."""
        for theme in shipped_themes():
            self.register_theme(theme)
        self.theme = FIRST_THEME
        end_on_signals(lambda code: self.exit(return_code=code))
        self._start("machine", partial(self._work.machine, self._first_request))

    def on_unmount(self) -> None:
        """Let the sampler end."""
        self._ended.set()

    # Session: attributes down.

    def watch_session(self, session: Session) -> None:
        """Hand the session to the screen that is seen, also below a modal one."""
        for screen in self.screen_stack if self._running else ():
            if isinstance(screen, StageScreen):
                screen.session = session

    async def action_stage(self, mode: str) -> None:
        """Go to a screen, with the session as it is now."""
        await self.switch_mode(mode)
        self.watch_session(self.session)

    @on(Tab.Chosen)
    async def _tab_chosen(self, event: Tab.Chosen) -> None:
        await self.action_stage(event.mode)

    # Workers: messages up.

    def _start(self, stage: str, work: Callable[[], object]) -> None:
        """Run a stage in a thread; a newer call of the same stage makes an older one's answer void."""
        self.session = replace(self.session, busy=stage)
        self.run_worker(partial(self._run, stage, work), thread=True, exclusive=True, group=stage, exit_on_error=False)

    def _run(self, stage: str, work: Callable[[], object]) -> None:
        worker = get_current_worker()
        message = attempt(stage, work)
        if not worker.is_cancelled:
            self.post_message(message)

    @on(Failed)
    def _stage_failed(self, event: Failed) -> None:
        self.session = self.session.failed(event.stage, event.reason)
        self._launch_next = False
        if event.stage in ("write", "launch", "stop", "run"):
            self.notify(event.reason, title=event.stage, severity="error", markup=False, timeout=10)

    @on(Finished)
    async def _stage_finished(self, event: Finished) -> None:
        self.session = self.session.done(event.stage)
        part = event.part
        if isinstance(part, Machine):
            self._take_machine(part)
        elif isinstance(part, Answer):
            self.session = replace(self.session, answer=part, chosen=0)
            self._start_draft()
        elif isinstance(part, Draft):
            await self._take_draft(part)
        elif isinstance(part, Saved):
            self._take_saved(part)
        elif isinstance(part, Path):
            self._follow(part)
        elif isinstance(part, Live):
            self._take_live(part)

    def _take_machine(self, machine: Machine) -> None:
        self.session = replace(self.session, machine=machine, answer=None, draft=None, chosen=0)
        self._start("plan", partial(self._work.answer, machine, self.session.request))

    def _start_draft(self) -> None:
        answer, plan = self.session.answer, self.session.plan
        if answer is None or plan is None:
            self._launch_next = False
            self.session = replace(self.session, draft=None)
            return
        self._start("draft", partial(self._work.draft, answer, plan))

    async def _take_draft(self, draft: Draft) -> None:
        self.session = replace(self.session, draft=draft)
        if self._launch_next:
            self._launch_next = False
            await self.action_launch()

    def _take_saved(self, saved: Saved) -> None:
        kept = f"; the old file is {saved.backup.name}" if saved.backup else ""
        self.notify(f"{saved.path}{kept}", title=self.words["saved"], markup=False)
        self._start_draft()

    def _follow(self, run_dir: Path) -> None:
        self._log_rank = 0
        self.session = replace(self.session, run_dir=run_dir, live=None, paused=False)
        sampler = partial(self._sample, run_dir)
        self.run_worker(sampler, thread=True, exclusive=True, group="run", exit_on_error=False)

    def _sample(self, run_dir: Path) -> None:
        """Look at the run twice a second until it has ended; one record a look."""
        worker = get_current_worker()
        try:
            watcher = self._work.watcher(run_dir)
            while not worker.is_cancelled:
                live = watcher.look(self._log_rank)
                self.post_message(Finished("run", live))
                if live.view.is_final or self._ended.wait(1 / LOOKS_PER_S):
                    return
        except CpadvisorError as error:
            self.post_message(Failed("run", str(error)))

    def _take_live(self, live: Live) -> None:
        if self.session.paused and not live.view.is_final:
            self._unseen = live
        else:
            self.session = replace(self.session, live=live)

    # What the user does.

    @on(JobForm.Submitted)
    def _job_submitted(self, event: JobForm.Submitted) -> None:
        self.session = replace(self.session, request=event.request)
        if self.session.machine is not None:
            self._start("plan", partial(self._work.answer, self.session.machine, event.request))

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
        self._start("machine", partial(self._work.machine, wanted))

    def _back_from_cpu(self) -> Request:
        first = self._first_request
        return GPU_REQUEST if first.node == CPU_NODE else first

    def action_write(self) -> None:
        """Write the file that is shown."""
        if self.session.draft is not None:
            self._start("write", partial(self._work.save, self.session.draft))

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
        self._start("launch", partial(self._work.launch, session.draft))
        await self.action_stage("run")

    def action_stop(self) -> None:
        """Ask, then stop the run."""
        if not self.session.is_running or self.session.run_dir is None:
            self.notify(self.words["no run"], markup=False)
            return
        answers = (("X", "stop", "stop it"), ("esc", "stay", "let it run"))
        question = Question(self.words["run"], f"Stop {self.session.run_dir.name}?", answers)
        self.push_screen(question, self._stop_answered)

    def _stop_answered(self, answer: str | None) -> None:
        if answer == "stop" and self.session.run_dir is not None:
            self._start("stop", partial(self._work.stop, self.session.run_dir))

    def action_pause(self) -> None:
        """Hold the picture, or let it go on with the newest look."""
        live = self._unseen if self.session.paused and self._unseen else self.session.live
        self._unseen = None
        self.session = replace(self.session, paused=not self.session.paused, live=live)

    def action_next_rank(self) -> None:
        """Follow the log of the next rank."""
        live = self.session.live
        if live is not None and self.session.run_dir is not None:
            self._log_rank = (self._log_rank + 1) % max(live.view.world, 1)
            if live.view.is_final:
                rank = self._log_rank
                watcher = self._work.watcher(self.session.run_dir)
                self.session = replace(self.session, live=watcher.look(rank))

    def action_zoom(self) -> None:
        """The focused panel alone."""
        if self.screen.maximized is not None:
            self.screen.minimize()
        elif self.screen.focused is not None:
            self.screen.maximize(self.screen.focused)

    def action_next_theme(self) -> None:
        """The next of the shipped themes."""
        names = [theme.name for theme in shipped_themes()]
        place = names.index(self.theme) + 1 if self.theme in names else 0
        self.theme = names[place % len(names)]

    def action_help(self) -> None:
        """All keys of this screen and of all screens."""
        screen = self.screen
        groups = [(self.words["help"], APP_KEYS)]
        own = [each for each in type(screen).__dict__.get("BINDINGS", []) if isinstance(each, Binding)]
        if own:
            groups.insert(0, (type(screen).__name__.removesuffix("Screen"), own))
        focused = screen.focused
        if focused is not None and "BINDINGS" in type(focused).__dict__:
            groups.append(("Panel", [each for each in type(focused).BINDINGS if isinstance(each, Binding)]))
        self.push_screen(Reader(self.words["help"], help_lines(groups)))

    def action_leave(self) -> None:
        """Quit; ask first where a run is alive."""
        if not self.session.is_running:
            self.exit(return_code=0)
            return
        answers = (
            ("d", "leave", "quit and leave it running: `cpadvisor watch` finds it again"),
            ("x", "stop", "stop it, then quit"),
            ("esc", "stay", "stay here"),
        )
        self.push_screen(Question(self.words["run"], "A run is alive.", answers), self._leave_answered)

    def _leave_answered(self, answer: str | None) -> None:
        if answer == "leave":
            self.exit(return_code=0)
        elif answer == "stop" and self.session.run_dir is not None:
            run_dir = self.session.run_dir
            self.notify("stopping", markup=False)
            self.run_worker(partial(self._stop_and_quit, run_dir), thread=True, group="stop", exit_on_error=False)

    def _stop_and_quit(self, run_dir: Path) -> None:
        message = attempt("stop", partial(self._work.stop, run_dir))
        if isinstance(message, Failed):
            self.post_message(message)
        else:
            self.call_from_thread(self.exit, return_code=0)

    def get_system_commands(self, screen: Screen) -> Iterable[SystemCommand]:
        """The palette: every key's action by name, and every theme."""
        own = [each for each in type(screen).__dict__.get("BINDINGS", []) if isinstance(each, Binding)]
        for binding in [*APP_KEYS, *own]:
            if binding.action != "command_palette":
                target = self if binding in APP_KEYS or binding.action.startswith("app.") else screen
                yield SystemCommand(binding.description, binding.tooltip, partial(self._do, binding.action, target))
        for name in sorted(self.available_themes):
            yield SystemCommand(f"Theme {name}", "Colours of the app", partial(setattr, self, "theme", name))

    async def _do(self, action: str, target: "App[int] | Screen[Any]") -> None:
        await self.run_action(action, default_namespace=cast(Any, target))


def attempt(stage: str, work: Callable[[], object]) -> Finished | Failed:
    """Do the work of a stage; what goes wrong becomes a message, so that no error ends the app."""
    try:
        return Finished(stage, work())
    except CpadvisorError as error:
        return Failed(stage, str(error))
    except Exception as error:
        return Failed(stage, f"{stage} met an error of its own ({type(error).__name__}: {error}); please report it")


def why_not_launch(session: Session) -> str | None:
    """Why the chosen plan cannot start here and now, None where it can."""
    machine = session.machine
    if session.is_running or session.busy == "launch":
        return "a run is alive; X stops it"
    if machine is not None and not machine.is_here:
        return f"{machine.node.name} is not this machine ({machine.node.source}); c takes this machine's CPU"
    if session.answer is not None and session.answer.job.workload.engine != "cpadvisor":
        engine = session.answer.job.workload.engine
        return f"the file is for {engine}: w writes it and {engine} starts it; engine cpadvisor launches here"
    if session.draft is None:
        return session.problems.get("plan") or session.problems.get("draft") or "there is no plan to launch"
    errors = [finding for finding in session.draft.findings if finding.severity == "error"]
    return f"the file would not start: {errors[0].message}" if errors else None


def run_app(
    *,
    node_name: str | None = None,
    topo_text: str | None = None,
    gpu: str | None = None,
    lang: str = "en",
    model: str | None = None,
    sequence_len: str | None = None,
    config: Path | None = None,
    runs: Path | None = None,
) -> int:
    """Open the app and give the exit status. Raises MissingError on a terminal that shows no screens."""
    require_screen(os.environ)
    accept_any_bytes()
    base = CPU_REQUEST if node_name == CPU_NODE else GPU_REQUEST
    request = replace(
        base,
        node=node_name,
        topo_text=topo_text,
        gpu=gpu,
        model=model or base.model,
        sequence_len=sequence_len or base.sequence_len,
    )
    app = CpadvisorApp(Work(config=config or Path.cwd() / "cpadvisor.yaml", runs=runs), request=request, lang=lang)
    app.run()
    if app.session.is_running and app.session.run_dir is not None:
        name = app.session.run_dir.name
        print(f"run {name} goes on; `cpadvisor watch {name}` follows it, `cpadvisor stop {name}` ends it", file=sys.stderr)
    return app.return_code or 0
