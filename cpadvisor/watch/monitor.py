"""Looking at a run: every poll reads what was added to its events and asks which of its processes still live."""

import json
import math
import socket
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cpadvisor.errors import LaunchError
from cpadvisor.processes import exit_of_child, is_alive
from cpadvisor.rundir import EXIT_FILE, RUN_FILE, STOP_FILE, boot_id
from cpadvisor.runrecord import RunRecord, read_record
from cpadvisor.watch.ranks import RankEvents
from cpadvisor.watch.reason import RankFailure, root_cause, torchrun_failures
from cpadvisor.watch.series import Series
from cpadvisor.watch.state import Evidence, derive
from cpadvisor.watch.view import FINAL_STATES, RankView, RunView

SILENCE_S = 60.0
"""A run of another host counts as alive until its events have been silent for so long."""
_ETA_STEPS = 20


class Monitor:
    """Follows one run directory. A poll costs what is new and never waits for anything."""

    def __init__(self, run_dir: Path, *, clock: Callable[[], float] = time.time) -> None:
        self._run_dir = run_dir
        self._clock = clock
        self._record = read_record(run_dir)
        self._ranks = [RankEvents(run_dir, rank) for rank in range(self._record.world)]
        self._loss, self._tokens, self._step_s = Series(), Series(), Series()
        self._last_step: dict[str, Any] = {}
        self._ended: tuple[str, str | None] | None = None

    def poll(self) -> RunView:
        """The run as it is now. Raises LaunchError where its directory has vanished."""
        if not (self._run_dir / RUN_FILE).exists():
            raise LaunchError(f"{self._run_dir} has vanished; what it told of the run {self._record.run} is lost")
        if self._record.agent is None:
            self._record = read_record(self._run_dir)
        # Events name the processes; then those are looked for; then what one wrote before it was found gone is read.
        self._read_events()
        agent_lives, living = self._living_by_events() if _is_foreign(self._record) else self._living()
        self._read_events()
        return self._view(agent_lives, living)

    def _read_events(self) -> None:
        for rank in self._ranks:
            for event in rank.poll():
                self._take_step(rank.rank, event)

    def _living(self) -> tuple[bool, frozenset[int]]:
        if self._record.boot_id != boot_id():
            return False, frozenset()
        agent = self._record.agent
        ranks = (rank for rank in self._ranks if rank.process is not None and is_alive(rank.process))
        return agent is not None and is_alive(agent), frozenset(rank.rank for rank in ranks)

    def _living_by_events(self) -> tuple[bool, frozenset[int]]:
        now = self._clock()
        speaking = frozenset(
            rank.rank
            for rank in self._ranks
            if rank.end is None and rank.last_t is not None and now - rank.last_t < SILENCE_S
        )
        return bool(speaking), speaking

    def _take_step(self, rank: int, event: dict[str, Any]) -> None:
        if rank != min((each.rank for each in self._ranks if each.step is not None), default=0):
            return
        step = event["step"]
        self._last_step = event
        for series, key in (
            (self._loss, "loss"),
            (self._tokens, "tokens_per_s_per_gpu"),
            (self._step_s, "step_s"),
        ):
            if key in event:
                series.append(step, event[key])

    def _view(self, agent_lives: bool, living: frozenset[int]) -> RunView:
        seen, failures = self._evidence(alive=agent_lives or bool(living))
        state = derive(seen)
        record, start = self._record, next((rank.start for rank in self._ranks if rank.start), {})
        steps = start.get("steps") or record.steps
        step = self._last_step.get("step")
        return RunView(
            run=record.run,
            directory=self._run_dir,
            state=state,
            reason=self._reason(state, seen, failures),
            exit=seen.exit,
            engine=record.engine,
            model=record.model,
            layout=record.layout,
            layout_label=record.layout_label,
            sequence_len=record.sequence_len,
            world=record.world,
            cp_method=start.get("cp_method"),
            kernel=start.get("kernel"),
            step=step,
            steps=steps,
            started=record.started,
            elapsed_s=self._elapsed_s(state),
            eta_s=self._eta_s(step, steps) if state == "running" else None,
            loss=self._loss.points(),
            tokens_per_s_per_gpu=self._tokens.points(),
            step_s=self._step_s.points(),
            split_s=self._last_step.get("split_s") or {},
            grad_norm=self._last_step.get("grad_norm"),
            ranks=tuple(self._rank_view(rank, living) for rank in self._ranks),
            peak_bytes=max((rank.peak_bytes for rank in self._ranks if rank.peak_bytes is not None), default=None),
            prediction=record.prediction,
            warnings=self._warnings(state, agent_lives),
        )

    def _evidence(self, *, alive: bool) -> tuple[Evidence, tuple[RankFailure, ...]]:
        record = self._record
        failures = () if alive else torchrun_failures(self._run_dir)
        asked = _number(self._run_dir / STOP_FILE, "t")
        seen = Evidence(
            world=record.world,
            agent_known=record.agent is not None,
            alive=alive,
            started_ranks=sum(bool(rank.start) for rank in self._ranks),
            stepped=bool(self._last_step),
            ends={rank.rank: rank.end for rank in self._ranks if rank.end is not None},
            stop_asked_t=asked,
            exit=None if alive else self._exit(),
            rank_failed=bool(failures),
            age_s=self._clock() - record.started,
        )
        return seen, failures

    def _exit(self) -> int | None:
        told = _number(self._run_dir / EXIT_FILE, "exit")
        if told is not None:
            return int(told)
        return None if self._record.agent is None else exit_of_child(self._record.agent.pid)

    def _reason(self, state: str, seen: Evidence, failures: tuple[RankFailure, ...]) -> str | None:
        if state not in FINAL_STATES or state == "done":
            return None
        if self._ended is None or self._ended[0] != state:
            self._ended = (state, self._find_reason(state, seen, failures))
        return self._ended[1]

    def _find_reason(self, state: str, seen: Evidence, failures: tuple[RankFailure, ...]) -> str:
        if state == "failed":
            return root_cause(self._run_dir, ends=seen.ends.values(), failures=failures, exit=seen.exit)
        if state == "stopped":
            told = next((end.reason for end in seen.ends.values() if end.state == "stopped" and end.reason), None)
            return "stopped on request" if seen.stop_asked_t is not None else told or "stopped by a signal from outside"
        if _is_foreign(self._record):
            return f"its processes are on host {self._record.host}, and its events have been silent for over a minute"
        if self._record.boot_id != boot_id():
            return "the machine was restarted while it ran"
        return "torchrun and its ranks are gone without a word: they were killed from outside (SIGKILL)"

    def _warnings(self, state: str, agent_lives: bool) -> tuple[str, ...]:
        told = [warning for rank in self._ranks for warning in rank.warnings]
        bad = [step for step, value in self._loss.points()[-1:] if not math.isfinite(value)]
        told.extend(f"the loss of step {step} is not a number" for step in bad)
        if state in ("initialising", "running") and not agent_lives:
            told.append(f"torchrun is gone and its ranks go on; end them with `cpadvisor stop {self._record.run}`")
        return tuple(dict.fromkeys(told))

    def _elapsed_s(self, state: str) -> float:
        last = max((rank.last_t for rank in self._ranks if rank.last_t is not None), default=self._record.started)
        return max(0.0, (last if state in FINAL_STATES else self._clock()) - self._record.started)

    def _eta_s(self, step: int | None, steps: int | None) -> float | None:
        """Steps that are left times the median of the last 20 step times."""
        recent = [value for _, value in self._step_s.points()[-_ETA_STEPS:] if math.isfinite(value)]
        if step is None or steps is None or not recent:
            return None
        return max(0, steps - step) * statistics.median(recent)

    def _rank_view(self, rank: RankEvents, living: frozenset[int]) -> RankView:
        gpus = self._record.gpus
        return RankView(
            rank=rank.rank,
            pid=rank.start.get("pid"),
            alive=rank.rank in living,
            gpu=gpus[rank.rank] if gpus is not None and rank.rank < len(gpus) else None,
            allocated_bytes=rank.allocated_bytes,
            peak_bytes=rank.peak_bytes,
            last_event_t=rank.last_t,
        )


def _is_foreign(record: RunRecord) -> bool:
    """Whether its processes are on another host, where no process number can be judged."""
    return record.host is not None and record.host != socket.gethostname()


def _number(path: Path, key: str) -> float | None:
    """One number of a small JSON file; None where the file is missing, torn or holds something else."""
    try:
        value = json.loads(path.read_text())[key]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return value if isinstance(value, int | float) else None
