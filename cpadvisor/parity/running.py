"""The two runs, one after the other, each in a run directory of its own; whatever goes wrong, nothing runs on."""

import contextlib
import hashlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from cpadvisor import launch
from cpadvisor.errors import LaunchError, ModelError
from cpadvisor.launch.jobfile import JobFile
from cpadvisor.parity.pair import Pair
from cpadvisor.parity.readings import Reading, read_run
from cpadvisor.parity.room import model_of, whole_number
from cpadvisor.parity.verdict import Verdict, judge
from cpadvisor.plan.layout import Layout
from cpadvisor.plan.methods import asked_way
from cpadvisor.plan.traffic import BF16_BYTES, FLOAT32_BYTES, rank_step_bytes
from cpadvisor.rundir import shell_name, state_root, write_atomically
from cpadvisor.watch.view import RunView

PURPOSE = "parity"
"""Stands in the names of the run directories, which end in the layout: `…-tiny-parity-1x1x1x2`."""

FAULT_VARIABLE = "CPADVISOR_FAULT"
"""Asks the trainer to err on purpose. The run at cp 1 is the measure, so it goes without."""

EXIT_BY_SIGNAL = 128
"""A shell's exit status for a command that a signal ended is this much above the signal."""

OnView = Callable[[RunView], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Two runs and what they show."""

    verdict: Verdict
    parallel: Reading
    whole: Reading
    notes: tuple[str, ...]

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the trainer warned of, at cp n first, each once."""
        told = [text for reading in (self.parallel, self.whole) for rank in reading.ranks for text in rank.warnings]
        return tuple(dict.fromkeys(told))


class _HungError(Exception):
    """A run stands still; what was being waited for will not come."""

    def __init__(self, view: RunView) -> None:
        self.view = view


def run_pair(
    pair: Pair,
    *,
    runs: Path | None = None,
    python: str | None = None,
    on_start: Callable[[Path], None] = lambda _: None,
    on_view: OnView = lambda _: None,
) -> Outcome:
    """Train both configs of a pair, the parallel one first, and compare them.

    Raises LaunchError where one of them does not reach its end, with its reason. Ctrl-C, SIGTERM and SIGHUP stop the
    run that is under way and start no other; the last two then end this process by SystemExit(128 + signal).
    """
    run = partial(_run, pair, runs=runs, python=python, on_start=on_start, on_view=on_view)
    with _leaving_on_signals():
        parallel, whole = run(cp=pair.cp, text=pair.parallel), run(cp=1, text=pair.whole)
    verdict = judge(whole, parallel, steps=pair.steps, step_bytes=expected_bytes(pair, parallel))
    return Outcome(verdict=verdict, parallel=parallel, whole=whole, notes=pair.notes)


@contextlib.contextmanager
def _leaving_on_signals() -> Iterator[None]:
    """Turn the signals that end a process into SystemExit, so that it first stops its run; a second one waits for that.

    Python hands signals to the main thread alone; and one that is ignored, as under nohup, stays so.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    earlier = {signum: signal.getsignal(signum) for signum in (signal.SIGTERM, signal.SIGHUP)}
    heeded = [signum for signum, handler in earlier.items() if handler is not signal.SIG_IGN]

    def leave(signum: int, _: object) -> None:
        for each in heeded:
            signal.signal(each, signal.SIG_IGN)
        raise SystemExit(EXIT_BY_SIGNAL + signum)

    for signum in heeded:
        signal.signal(signum, leave)
    try:
        yield
    finally:
        for signum in heeded:
            signal.signal(signum, earlier[signum])


def _run(
    pair: Pair,
    *,
    cp: int,
    text: str,
    runs: Path | None,
    python: str | None,
    on_start: Callable[[Path], None],
    on_view: OnView,
) -> Reading:
    directory: Path | None = None
    try:
        config, environ = _config(pair.job, cp, text), _environment(cp)
        directory = launch.start(config, runs=runs, python=python, purpose=PURPOSE, environ=environ)
        on_start(directory)
        view = launch.wait(directory, lambda view: _look(view, on_view))
    except _HungError as hung:
        launch.stop(hung.view.directory)
        raise _not_ended(hung.view, cp) from None
    except BaseException:
        if directory is not None:
            launch.stop(directory)
        raise
    if view.state == "stopped":
        raise KeyboardInterrupt
    if view.state != "done":
        raise _not_ended(view, cp)
    return read_run(
        directory,
        world=view.world,
        cp=cp,
        sequence_len=pair.sequence_len,
        micro_batch=whole_number(pair.job, "micro_batch_size"),
    )


def _environment(cp: int) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if cp > 1 or name != FAULT_VARIABLE}


def _look(view: RunView, on_view: OnView) -> None:
    on_view(view)
    if view.state == "hung":
        raise _HungError(view)


def _not_ended(view: RunView, cp: int) -> LaunchError:
    reason = view.failure.headline if view.failure is not None else view.reason or view.state
    name = shell_name(view.directory)
    return LaunchError(
        f"the run at cp {cp} did not reach its end: {reason}; `cpadvisor doctor {name}` says more, "
        f"`cpadvisor logs {name}` shows what it printed"
    )


def _config(job: JobFile, cp: int, text: str) -> Path:
    """Where the config of a run lies: one file a user's file and cp, so that none is left behind by each try."""
    mark = hashlib.sha256(str(job.path).encode()).hexdigest()[:8]
    path = state_root() / "configs" / f"{job.path.stem}-{mark}-{PURPOSE}-cp{cp}.yaml"
    write_atomically(path, text)
    return path


def expected_bytes(pair: Pair, parallel: Reading) -> tuple[int, ...] | None:
    """What each rank has to send in a step for K and V to meet the queries; None where the shape is not known."""
    try:
        model = model_of(pair.job)
    except ModelError:
        return None
    layout = Layout(cp=pair.cp)
    return tuple(
        sum(
            rank_step_bytes(
                model,
                layout,
                asked_way(pair.job.own, model, layout),
                rank=rank.rank,
                tokens=pair.sequence_len,
                width=BF16_BYTES if parallel.on_gpu else FLOAT32_BYTES,
                micro_batch=whole_number(pair.job, "micro_batch_size"),
                micro_batches=whole_number(pair.job, "gradient_accumulation_steps"),
                recomputed_layers=rank.recomputed_layers,
            ).values()
        )
        for rank in parallel.ranks
    )
