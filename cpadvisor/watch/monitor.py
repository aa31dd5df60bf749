"""Looking at a run: every poll reads what was added to its events and asks which of its processes still live."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from cpadvisor.processes import HALTED_STATES, ProcessId
from cpadvisor.rundir import CODE_FOLDER, EXIT_FILE, STOP_FILE, shell_name
from cpadvisor.watch.case import Case
from cpadvisor.watch.clues import Clues
from cpadvisor.watch.door import Answer
from cpadvisor.watch.events import number, text
from cpadvisor.watch.failure import Failure
from cpadvisor.watch.figures import Figures
from cpadvisor.watch.hang import Hang, find_hang, is_busy
from cpadvisor.watch.living import Living, find_living
from cpadvisor.watch.lost import VanishedError, lost_cause, vanished
from cpadvisor.watch.mends import again, resumes
from cpadvisor.watch.notes import notes_of
from cpadvisor.watch.ranks import RankEvents
from cpadvisor.watch.reason import root_cause
from cpadvisor.watch.sources import Sources
from cpadvisor.watch.state import SETUP_SILENCE_S, Evidence, derive, silence_limit_s
from cpadvisor.watch.view import FINAL_STATES, RankView, RunView


class Monitor:
    """Follows one run directory. A poll costs what is new, and waits for nothing but the first answers of a hang."""

    def __init__(
        self, run_dir: Path, *, clock: Callable[[], float] = time.time, sources: Sources | None = None
    ) -> None:
        """Raises LaunchError where the directory holds no run. `sources` replaces the world, for a replay."""
        self._run_dir = run_dir
        self._sources = Sources(run_dir, clock=clock) if sources is None else sources
        world = self._sources.record.world
        self._ranks = [RankEvents(run_dir, rank, self._sources.events(rank)) for rank in range(world)]
        self._figures = Figures()
        self._clues: Clues | None = None
        self._clues_of: ProcessId | None = None
        """The torchrun that left them."""
        self._judged: tuple[object, Failure] | None = None
        self._last: RunView | None = None

    def poll(self) -> RunView:
        """The run as it is now. Raises VanishedError, a LaunchError, where its directory has vanished."""
        if not self._sources.refresh():
            raise VanishedError(vanished(self._sources, self._ranks, last=self._last))
        # Events name the processes; then those are looked for; then what one wrote before it was found gone is read.
        self._read_events()
        living = find_living(self._sources, self._ranks, silence_limit_s=self._silence_limit_s())
        self._read_events()
        self._last = self._view(living)
        return self._last

    def _read_events(self) -> None:
        for rank in self._ranks:
            steps = rank.poll()
            if rank.rank == min((each.rank for each in self._ranks if each.step is not None), default=0):
                for event in steps:
                    self._figures.take(event)

    def _current(self) -> list[RankEvents]:
        """The ranks that have spoken in this attempt; what an attempt before a resume left says nothing of it."""
        record = self._sources.record
        began = record.started if record.attempt > 1 else -math.inf
        return [rank for rank in self._ranks if rank.last_t is not None and rank.last_t >= began]

    def _silence_limit_s(self) -> float:
        figures, steps = self._figures, self._steps()
        return silence_limit_s(
            step_s=figures.median_step_s(),
            expected_step_s=number(self._sources.record.prediction or {}, "step_s"),
            checkpoint_s=max((rank.checkpoint_s or 0.0 for rank in self._ranks), default=None),
            is_stepping=self._finished_steps() > 0 and (steps is None or (figures.step or 0) < steps),
        )

    def _finished_steps(self) -> int:
        """Of the rank whose figures are shown: the lowest that finishes steps."""
        return next((rank.finished_steps for rank in self._current() if rank.finished_steps), 0)

    def _steps(self) -> int | None:
        told = next((steps for rank in self._ranks if (steps := number(rank.start, "steps"))), None)
        return self._sources.record.steps if told is None else int(told)

    def _checkpoint_step(self) -> int | None:
        """The last step whose state is kept; any rank may tell of it, as one does once all have written."""
        told = max((rank.checkpoint_step for rank in self._ranks if rank.checkpoint_step is not None), default=None)
        return self._sources.checkpoint_step(told)

    def _evidence(self, living: Living) -> Evidence:
        record, now, current = self._sources.record, self._sources.now(), self._current()
        printed = self._sources.log_times()
        heard = max((rank.last_t for rank in current if rank.last_t is not None), default=0.0)
        last_sign = max(heard, record.started, *printed.values())
        return Evidence(
            world=record.world,
            agent_known=record.agent is not None,
            alive=living.any,
            halted=bool(living.halted),
            writes_events=record.writes_events,
            spoken_ranks=len(current) if record.writes_events else len(printed.keys() - {None}),
            started_ranks=sum(rank.started_t is not None for rank in current),
            finished_steps=self._finished_steps(),
            ends={rank.rank: rank.end for rank in current if rank.end is not None},
            stop_asked_t=self._sources.told(STOP_FILE, "t"),
            exit=None if living.any else self._sources.exit_status(),
            rank_failed=bool(self._read_clues(living).failures),
            age_s=now - record.started,
            silent_s=now - last_sign if last_sign else 0.0,  # a record of another version may not say when it began
            silence_limit_s=self._silence_limit_s(),
        )

    def _read_clues(self, living: Living) -> Clues:
        """The files of the run once it has ended; read once, as nobody is left who could write them."""
        if living.any:
            self._clues = None
            return Clues()
        agent = self._sources.record.agent
        if self._clues is None or agent is None or self._clues_of != agent:
            self._clues, self._clues_of = self._sources.clues(), agent
        return self._clues

    def _judge(self, living: Living, ranks: tuple[RankView, ...]) -> tuple[str, str | None, Failure | None, int | None]:
        """State, reason, failure and exit status of this instant."""
        seen, answers = self._evidence(living), None
        state = derive(seen)
        if state == "hung" and not living.halted:
            answers = self._sources.ask(self._doors(living))
            if is_busy(answers or {}):
                seen = replace(seen, silence_limit_s=max(seen.silence_limit_s, SETUP_SILENCE_S))
                state = derive(seen)
        failure = self._hang(seen, ranks, answers) if state == "hung" else self._failure(state, seen)
        if state == "failed" and failure is not None and failure.kind == "out_of_memory":
            state = "out_of_memory"
        if state == "stopped":
            return state, _stop_reason(seen), None, seen.exit
        return state, failure.headline if failure else None, failure, seen.exit

    def _view(self, living: Living) -> RunView:
        ranks = tuple(self._rank_view(rank, living) for rank in self._ranks)
        state, reason, failure, status = self._judge(living, ranks)
        record, figures = self._sources.record, self._figures
        start = next((rank.start for rank in self._ranks if rank.start), {})
        steps = self._steps()
        return RunView(
            run=record.run,
            directory=self._run_dir,
            state=state,
            reason=reason,
            failure=failure,
            exit=status,
            engine=record.engine,
            model=record.model,
            layout=record.layout,
            layout_label=record.layout_label,
            sequence_len=record.sequence_len,
            world=record.world,
            cp_method=text(start, "cp_method"),
            kernel=text(start, "kernel"),
            step=figures.step,
            steps=steps,
            checkpoint_step=self._checkpoint_step(),
            started=record.started,
            elapsed_s=self._elapsed_s(state),
            eta_s=figures.eta_s(steps) if state == "running" else None,
            loss=figures.points("loss"),
            tokens_per_s_per_gpu=figures.points("tokens_per_s_per_gpu"),
            step_s=figures.points("step_s"),
            split_s=figures.split_s,
            grad_norm=figures.grad_norm,
            exchanges=next((tuple(rank.exchanges.values()) for rank in self._ranks if rank.exchanges), ()),
            ranks=ranks,
            peak_bytes=max((rank.peak_bytes for rank in ranks if rank.peak_bytes is not None), default=None),
            prediction=record.prediction,
            warnings=self._warnings(state, living),
            notes=notes_of(record, self._ranks, self._sources.problem),
        )

    def _failure(self, state: str, seen: Evidence) -> Failure | None:
        if state not in ("failed", "lost"):
            return None
        # An ended run is judged once; only what its starter writes down may still be on its way.
        key = (state, seen.exit, self._sources.told(EXIT_FILE, "oom_kills"), self._sources.record.attempt)
        if self._judged is None or self._judged[0] != key:
            self._judged = (key, self._cause(state, seen))
        return self._judged[1]

    def _cause(self, state: str, seen: Evidence) -> Failure:
        record, name = self._sources.record, shell_name(self._run_dir)
        if state == "lost":
            return lost_cause(
                self._sources, name, silence_limit_s=seen.silence_limit_s, checkpoint_step=self._checkpoint_step()
            )
        before, after = record.oom_kills, self._sources.told(EXIT_FILE, "oom_kills")
        return root_cause(
            Case(
                record=record,
                name=name,
                code=f"{self._run_dir.absolute()}/{CODE_FOLDER}/",
                spoken=frozenset(rank.rank for rank in self._current()),
                ends=tuple(seen.ends.values()),
                out_of_memory={rank.rank: rank.out_of_memory for rank in self._ranks if rank.out_of_memory},
                clues=self._clues or Clues(),
                exit=seen.exit,
                checkpoint_step=self._checkpoint_step(),
                losses=self._figures.points("loss")[-3:],
                oom_kills=None if before is None or after is None else int(after - before),
            )
        )

    def _doors(self, living: Living) -> dict[int, str]:
        return {rank.rank: rank.door for rank in self._current() if rank.door and rank.rank in living.ranks}

    def _hang(self, seen: Evidence, ranks: tuple[RankView, ...], answers: Mapping[int, Answer] | None) -> Failure:
        record = self._sources.record
        name = shell_name(self._run_dir)
        doors = frozenset(rank.rank for rank in self._current() if rank.door)
        return find_hang(
            Hang(
                name=name,
                writes_events=record.writes_events,
                again=again(record, name),
                resumes=resumes(record, self._checkpoint_step()),
                ranks=ranks,
                silent_s=seen.silent_s,
                asked=frozenset() if answers is None else doors & {rank.rank for rank in ranks if rank.alive},
                answers=answers or {},
            )
        )

    def _warnings(self, state: str, living: Living) -> tuple[str, ...]:
        told = [warning for rank in self._current() for warning in rank.warnings]
        newest = self._figures.points("loss")[-1:] if self._finished_steps() else ()
        bad = [step for step, value in newest if not math.isfinite(value)]
        told.extend(f"the loss of step {step} is not a number" for step in bad)
        if living.agent in HALTED_STATES:
            told.append("torchrun is halted: it does not see a rank that ends, and obeys only SIGCONT and SIGKILL")
        if state in ("initialising", "warming_up", "running", "hung") and living.agent is None:
            end = f"cpadvisor stop {shell_name(self._run_dir)}"
            told.append(f"torchrun is gone and its ranks go on; end them with `{end}`")
        return tuple(dict.fromkeys(told))

    def _elapsed_s(self, state: str) -> float:
        started = self._sources.record.started
        last = max((rank.last_t for rank in self._ranks if rank.last_t is not None), default=started)
        return max(0.0, (last if state in FINAL_STATES else self._sources.now()) - started)

    def _rank_view(self, rank: RankEvents, living: Living) -> RankView:
        gpus = self._sources.record.gpus
        return RankView(
            rank=rank.rank,
            pid=rank.pid,
            alive=rank.rank in living.ranks,
            halted=rank.rank in living.halted,
            step=rank.step,
            gpu=gpus[rank.rank] if gpus is not None and rank.rank < len(gpus) else None,
            allocated_bytes=rank.allocated_bytes,
            peak_bytes=rank.peak_bytes,
            last_event_t=rank.last_t,
        )


def _stop_reason(seen: Evidence) -> str:
    told = next((end.reason for end in seen.ends.values() if end.state == "stopped" and end.reason), None)
    return "stopped on request" if seen.stop_asked_t is not None else told or "stopped by a signal from outside"
