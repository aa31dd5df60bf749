"""The stages as the screens call them: each method computes one part of the session, in a thread.

Stages are imported when they are first called, so that the first frame does
not wait for them.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from cpadvisor.errors import CpadvisorError, UsageError
from cpadvisor.job import Request
from cpadvisor.node import Node
from cpadvisor.plan.advice import Plan
from cpadvisor.tui.doctor_work import DoctorWork
from cpadvisor.tui.messages import Failed, Finished, attempt
from cpadvisor.tui.run_work import LOG_LINES, RunWork
from cpadvisor.tui.session import FALLBACK_NODE, Answer, Draft, Live, Machine

if TYPE_CHECKING:
    from cpadvisor.check.finding import Finding
    from cpadvisor.watch.view import RunView


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """A file that was written, and where its predecessor is kept."""

    path: Path
    backup: Path | None


class Work(RunWork, DoctorWork):
    """The real stages. Tests give the app another object with the same methods."""

    def __init__(self, *, config: Path, runs: Path | None = None, python: str | None = None) -> None:
        self.config = config
        self._runs = runs
        self._python = python

    def machine(self, request: Request) -> Machine:
        """The node asked for; without a GPU and without a wish, the fall-back, and a note that says so."""
        from cpadvisor.probe.machine import find_node
        from cpadvisor.probe.recorded import load_node

        node, note = find_node(node=request.node, topo_text=request.topo_text, gpu=request.gpu)
        if request.node is None and request.topo_text is None and node.source != "nvml":
            node, note = load_node(FALLBACK_NODE), f"no GPU here: showing {FALLBACK_NODE} (recorded); c takes the CPU"
        return describe(node, note=note, gpu=request.gpu)

    def answer(self, machine: Machine, request: Request) -> Answer:
        """The advice for a job as typed."""
        from cpadvisor.job import build_job_on
        from cpadvisor.plan.search import advise

        job = build_job_on(machine.node, request)
        advice = advise(job.node, job.gpu, job.workload)
        return Answer(request=request, job=job, advice=advice)

    def draft(self, answer: Answer, plan: Plan) -> Draft:
        """The file of a plan, its difference from the disk, and what `check` finds in it."""
        from cpadvisor.rundir import read_existing
        from cpadvisor.write.config import WriteOptions, config_document, config_lines
        from cpadvisor.write.diff import unified_diff

        job = answer.job
        options = WriteOptions(path=str(self.config.absolute()), bf16=job.gpu.precision == "bf16")
        text = config_document(answer.advice, plan, job.workload, options)
        on_disk = read_existing(self.config)
        return Draft(
            plan=plan,
            path=self.config,
            lines=config_lines(answer.advice, plan, job.workload, options),
            text=text,
            on_disk=on_disk,
            diff="" if on_disk == text else unified_diff(on_disk or "", text, name=str(self.config)),
            findings=self._findings(answer, text),
            command=f"cpadvisor launch {self.config}",
        )

    def _findings(self, answer: Answer, text: str) -> "tuple[Finding, ...]":
        from cpadvisor.check import check_config
        from cpadvisor.yaml_reader import read_yaml

        values, lines = read_yaml(text, name=str(self.config))
        workload = answer.job.workload
        return check_config(
            values,
            lines=lines,
            engine=workload.engine,
            gpus=answer.job.world,
            model=workload.model,
            folder=self.config.parent,
        )

    def edited(self, draft: Draft) -> Draft:
        """The file as it stands on disk after the user or a mend has changed it, beside the plan's own text."""
        from cpadvisor.check import check_file
        from cpadvisor.rundir import read_existing
        from cpadvisor.write.diff import unified_diff

        planned, on_disk = draft.planned or draft.text, read_existing(draft.path)
        if on_disk is None:
            raise UsageError(f"{draft.path} is gone; w writes the plan's file again")
        if on_disk == planned:
            return replace(draft, text=planned, on_disk=planned, diff="", planned=None)
        return replace(
            draft,
            text=on_disk,
            on_disk=on_disk,
            diff=unified_diff(planned, on_disk, name=str(draft.path)),
            findings=check_file(draft.path),
            planned=planned,
        )

    def save(self, draft: Draft) -> Saved:
        """Write the plan's file; what was there is kept beside it."""
        from cpadvisor.rundir import replace_with_backup

        text = draft.planned or draft.text
        return Saved(path=draft.path, backup=replace_with_backup(draft.path, text))

    def launch(self, draft: Draft) -> Path:
        """Start the run of a draft; its folder.

        The file on disk starts where it is as shown: as the plan's text, or as the
        user has changed it since. Otherwise a copy of the plan's text among the
        advisor's own files starts: no file of the user's is written unasked.
        """
        from cpadvisor import launch

        path = draft.path if draft.is_saved else self._own_copy(draft)
        return launch.start(path, runs=self._runs, python=self._python, force=False)

    def _own_copy(self, draft: Draft) -> Path:
        from cpadvisor.rundir import write_atomically

        path = copy_path(draft)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, draft.text)
        return path

    def stop(self, run_dir: Path) -> "RunView":
        """End the run and see that nothing of it is left."""
        from cpadvisor import launch

        return launch.stop(run_dir)

    def watcher(self, run_dir: Path) -> "Watcher":
        """What looks at a run, twice a second."""
        return Watcher(run_dir)


def copy_path(draft: Draft) -> Path:
    """Where a plan is written that is launched and not saved."""
    from cpadvisor.rundir import state_root

    return state_root() / "configs" / f"app-{draft.path.name}"


class Watcher:
    """Looks at one run: each look gives what is new since the last, and the end of a rank's log."""

    def __init__(self, run_dir: Path) -> None:
        from cpadvisor.launch import open_monitor

        self._run_dir = run_dir
        self._monitor = open_monitor(run_dir)

    def look(self, rank: int) -> Live:
        """The run as it is now."""
        from cpadvisor.launch.waiting import look
        from cpadvisor.watch.logs import tail

        return Live(view=look(self._monitor), log=tail(self._run_dir, rank, LOG_LINES), rank=rank)


def looks(work: Work, run_dir: Path, *, rank: Callable[[], int]) -> Iterator[Finished | Failed | None]:
    """One message a look, until the run has ended; `rank` says whose log is wanted.

    A look that fails is told once, and the next ones go on: what cannot be read now may be there in a moment.
    """
    opened = attempt("run", lambda: work.watcher(run_dir))
    if isinstance(opened, Failed):
        yield opened
        return
    watcher, told = cast(Watcher, opened.part), None
    while True:
        message = attempt("run", lambda: watcher.look(rank()))
        if isinstance(message, Failed):
            yield message if message.reason != told else None
            told = message.reason
            continue
        told = None
        yield message
        if cast(Live, message.part).view.is_final:
            return


def describe(node: Node, *, note: str | None = None, gpu: str | None = None) -> Machine:
    """A node with what follows from it: product, islands, ring, warnings."""
    from cpadvisor.fabric import best_ring, fabric_warnings, islands
    from cpadvisor.job import product_of

    try:
        product = product_of(node, gpu)
    except CpadvisorError:
        # Planning tells what is wrong with the product; the links can be shown without it.
        product = None
    warnings = tuple(dict.fromkeys((*node.warnings, *fabric_warnings(node))))
    return Machine(node=node, note=note, gpu=product, islands=islands(node), ring=best_ring(node), warnings=warnings)
