"""The part of the app that knows all runs: it renews the list, opens, replays, compares, resumes and deletes them."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import cast

from textual import on
from textual.worker import get_current_worker

from cpadvisor.rundir import command_name
from cpadvisor.tui import headless
from cpadvisor.tui.clinic import Clinic
from cpadvisor.tui.history import Compared, Entry, History, ReplayState, next_speed
from cpadvisor.tui.messages import Failed, Finished, attempt
from cpadvisor.tui.run_work import Deleted, Found, Player
from cpadvisor.tui.screens.reader import Question
from cpadvisor.tui.screens.runs import RunsScreen
from cpadvisor.tui.session import Recalled

RENEW_S = 2.0
FIRST_SPEED = 10.0
"""Of a replay, times the real one; as `watch --replay` has it."""


class Archive(Clinic):
    """What `6` shows, and what it puts on `4`."""

    _renewing = False
    _player: ReplayState | None = None
    """Speed and pause of the replay that is on, for its thread to read."""

    def on_mount(self) -> None:
        """Look for a run that lives, unless one was named, and renew the list while it is seen."""
        self.set_interval(RENEW_S, self.renew_history)
        if self._first_run is None:
            self._quietly("living", lambda: Found(directory=self._work.living_run()))

    def renew_history(self) -> None:
        """Read the list again, where it is seen and nobody reads it."""
        if not self._renewing and any(isinstance(screen, RunsScreen) for screen in self.screen_stack):
            self._renewing = True
            self.run_worker(self._read_history, thread=True, group="runs", exit_on_error=False)

    def _read_history(self) -> None:
        try:
            histories = attempt("runs", self._work.histories)
            if isinstance(histories, Failed):
                self.post_message(histories)
                return
            looks = cast(Iterator[History], histories.part)
            while not self._ended.is_set():
                message = attempt("runs", lambda: next(looks, None))
                if isinstance(message, Finished) and message.part is None:
                    return
                self.post_message(message)
        finally:
            self._renewing = False

    def _quietly(self, stage: str, work: Callable[[], object]) -> None:
        """Run a stage that nobody waits for."""
        self.run_worker(partial(self._run, stage, work), thread=True, group=stage, exit_on_error=False)

    async def take(self, part: object) -> None:
        """Histories, comparisons and recalled runs go into the session; a found run is followed."""
        if isinstance(part, History):
            self.session = replace(self.session, history=part)
        elif isinstance(part, Compared):
            self.session = replace(self.session, compared=part)
        elif isinstance(part, Recalled):
            # A frame that was on its way when its replay was left is void.
            if part.replay is None or self._player is not None:
                self.session = replace(self.session, recalled=part)
        elif isinstance(part, Found):
            if part.directory is not None and self.session.run_dir is None:
                self.follow(part.directory)
        elif isinstance(part, Deleted):
            self._take_deleted(part)
        else:
            await super().take(part)

    # Opening and replaying.

    @on(RunsScreen.Wanted)
    async def _wanted(self, event: RunsScreen.Wanted) -> None:
        entry = event.entry
        if event.what == "delete":
            self._ask_delete(entry)
        elif entry.view is None:
            self.notify(entry.problem or "", title=entry.name, severity="error", markup=False)
        elif event.what == "open":
            await self._open(entry)
        elif event.what == "replay":
            await self._replay(entry)
        else:
            self._ask_resume(entry)

    async def _open(self, entry: Entry) -> None:
        """A run that lives is followed; of one that has ended the last frame is shown."""
        self._end_replay()
        if entry.directory == self.session.run_dir:
            self.session = replace(self.session, recalled=None)
        elif entry.is_alive:
            self.note(headless.command("attach", command_name(entry.directory)))
            self.follow(entry.directory)
        else:
            command = headless.command("watch", "--once", command_name(entry.directory))
            self._start("open", partial(self._work.recall, entry.directory, 0), command)
        await self.action_stage("run")

    async def _replay(self, entry: Entry) -> None:
        if entry.is_alive:
            self.notify(self.words["lives"], title=entry.name, severity="warning", markup=False)
            return
        self._player = ReplayState(at_s=0.0, length_s=0.0, speed=FIRST_SPEED)
        self.note(headless.command("watch", "--replay", command_name(entry.directory)))
        self.run_worker(
            partial(self._play, entry.directory), thread=True, exclusive=True, group="replay", exit_on_error=False
        )
        await self.action_stage("run")

    def _play(self, run_dir: Path) -> None:
        """Show frame after frame until the last one; the steps of time are those of the looks."""
        worker = get_current_worker()
        opened = attempt("replay", partial(self._work.player, run_dir))
        if isinstance(opened, Failed):
            self.post_message(opened)
            return
        player, at_s, period_s = opened.part, 0.0, 1 / self.settings.looks_per_second
        assert isinstance(player, Player), f"player gave {type(player).__name__}"
        while not worker.is_cancelled and (state := self._player) is not None:
            state = replace(state, at_s=min(at_s, player.length_s), length_s=player.length_s)
            message = attempt("replay", partial(player.frame, state))
            self.post_message(message)
            if isinstance(message, Failed) or state.is_over or self._ended.wait(period_s):
                return
            now = self._player
            at_s += 0.0 if now is None or now.paused else period_s * now.speed

    def _end_replay(self) -> None:
        self._player = None
        self.workers.cancel_group(self, "replay")

    async def action_back(self) -> None:
        """From a run that was opened to the list; what is followed stands on the Run screen again."""
        if self.session.recalled is not None:
            self._end_replay()
            self.session = replace(self.session, recalled=None)
            await self.action_stage("runs")

    def recall_rank(self, recalled: Recalled, rank: int) -> None:
        """The log of another rank of a run that was opened."""
        if self._player is not None:
            self._player = replace(self._player, rank=rank)
        else:
            self._quietly("open", partial(self._work.recall, recalled.directory, rank))

    def action_speed(self, step: int) -> None:
        """A faster or a slower replay."""
        if self._player is not None:
            self._set_player(replace(self._player, speed=next_speed(self._player.speed, step)))

    def pause_replay(self) -> bool:
        """Hold a replay or let it go on; False where none is shown."""
        recalled = self.session.recalled
        if self._player is None or recalled is None or recalled.replay is None:
            return False
        self._set_player(replace(self._player, paused=not self._player.paused))
        return True

    def _set_player(self, state: ReplayState) -> None:
        """Tell the thread, and show it at once."""
        self._player = state
        recalled = self.session.recalled
        if recalled is not None and recalled.replay is not None:
            shown = replace(recalled.replay, speed=state.speed, paused=state.paused)
            self.session = replace(self.session, recalled=replace(recalled, replay=shown))

    # Comparing, resuming, deleting.

    @on(RunsScreen.CompareWanted)
    def _compare_wanted(self, event: RunsScreen.CompareWanted) -> None:
        if event.pair is None:
            self.session = replace(self.session, compared=None)
        else:
            names = map(command_name, event.pair)
            self._start(
                "compare", partial(self._work.compare, *event.pair), headless.command("runs", "compare", *names)
            )

    def _ask_resume(self, entry: Entry) -> None:
        if entry.is_alive:
            self.notify(self.words["lives"], title=entry.name, severity="warning", markup=False)
            return
        answers = (("y", "yes", self.words["resume it"]), ("esc", "stay", self.words["change nothing"]))
        step = None if entry.view is None else entry.view.checkpoint_step
        onwards = self.words["begin anew"] if step is None else f"{self.words['go on from']} {step}"
        question = Question(self.words["resume"], f"{entry.name}\n{onwards}", answers)
        self.push_screen(question, partial(self._resume_answered, entry))

    async def _resume_answered(self, entry: Entry, answer: str | None) -> None:
        if answer == "yes":
            command = headless.command("launch", "--resume", command_name(entry.directory), "--detach")
            self._start("resume", partial(self._work.resume, entry.directory), command)
            await self.action_stage("run")

    def _ask_delete(self, entry: Entry) -> None:
        if entry.is_alive:
            self.notify(self.words["lives stop first"], title=entry.name, severity="warning", markup=False)
            return
        answers = (("y", "yes", self.words["delete it"]), ("esc", "stay", self.words["change nothing"]))
        question = Question(self.words["delete"], f"{entry.name}\n{self.words['with all in it']}", answers)
        self.push_screen(question, partial(self._delete_answered, entry))

    def _delete_answered(self, entry: Entry, answer: str | None) -> None:
        if answer == "yes":
            command = headless.command("runs", "rm", command_name(entry.directory))
            self._start("delete", partial(self._work.delete, entry.directory), command)

    def _take_deleted(self, deleted: Deleted) -> None:
        self.notify(deleted.directory.name, title=self.words["deleted"], markup=False)
        self.session = self.session.without(deleted.directory)
        self.renew_history()
