"""What the screens show, as one frozen record: machine, job, answer, chosen plan, file, run, exam, history.

Workers compute a part and post it; the app puts the part into the session and
hands the session down. Each part comes whole from the function that the
headless command calls, so screen and command cannot differ.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from cpadvisor import units
from cpadvisor.errors import UsageError
from cpadvisor.hardware import GpuSpec
from cpadvisor.job import CPU_LOCK, CPU_MODEL, CPU_TOKENS, GPU_MODEL, GPU_TOKENS, Job, Request
from cpadvisor.node import Node, Ring
from cpadvisor.plan.advice import Advice, Plan
from cpadvisor.tui.exam import Exam
from cpadvisor.tui.history import Compared, History, ReplayState

if TYPE_CHECKING:
    from cpadvisor.check.finding import Finding
    from cpadvisor.watch.view import RunView
    from cpadvisor.write.config import ConfigLine

GPU_REQUEST = Request(model=GPU_MODEL, sequence_len=GPU_TOKENS, lock="")
CPU_REQUEST = Request(model=CPU_MODEL, sequence_len=CPU_TOKENS, lock=CPU_LOCK)

CPU_NODE = "cpu"
FALLBACK_NODE = "dgx-h100"
"""What the app opens on where there is no GPU."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """The node and what follows from it alone."""

    node: Node
    note: str | None = None
    """Why this node is shown, where it is not the one asked for."""
    gpu: GpuSpec | None = None
    """None where the product is unknown; then nothing can be planned."""
    islands: tuple[tuple[int, ...], ...] = ()
    ring: Ring | None = None
    warnings: tuple[str, ...] = ()

    @property
    def is_here(self) -> bool:
        """Whether a run can start on it: this machine's GPUs, or processes of its CPU."""
        return self.node.source == "nvml" or self.node.name == CPU_NODE


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The advice for one job on one machine."""

    request: Request
    job: Job
    advice: Advice


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """The file of one plan, beside what is on disk."""

    plan: Plan
    path: Path
    lines: tuple["ConfigLine", ...]
    text: str
    on_disk: str | None
    diff: str
    findings: tuple["Finding", ...]
    command: str
    planned: str | None = None
    """The plan's own text, where `text` is the file as the user has changed it since."""

    @property
    def is_edited(self) -> bool:
        """Whether the file is the user's: newer than the plan, and launched as it stands."""
        return self.planned is not None

    @property
    def is_saved(self) -> bool:
        """Whether the disk holds this text."""
        return self.on_disk == self.text


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """One look at the run: its view, and the end of one rank's log."""

    view: "RunView"
    log: tuple[str, ...] = ()
    rank: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Recalled:
    """A run that was opened from the history: its final frame, or the frame that a replay has come to.

    It is shown in place of the run that is followed, which goes on being looked at.
    """

    directory: Path
    live: Live
    replay: ReplayState | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """Everything at once. `problems` holds the last error of each stage, gone when the stage succeeds."""

    request: Request = field(default_factory=Request)
    """What is to be trained, as typed: it is checked when it is planned, and kept when it is wrong."""
    machine: Machine | None = None
    answer: Answer | None = None
    chosen: int = 0
    """Place of the chosen plan in the ranking."""
    draft: Draft | None = None
    run_dir: Path | None = None
    """The run that is followed."""
    live: Live | None = None
    recalled: Recalled | None = None
    subject: str = "node"
    """What the doctor is on: one of exam.SUBJECTS."""
    symptom: str | None = None
    exam: Exam | None = None
    history: History | None = None
    compared: Compared | None = None
    busy: str | None = None
    """The stage that is at work."""
    paused: bool = False
    problems: Mapping[str, str] = field(default_factory=lambda: dict[str, str]())

    @property
    def plan(self) -> Plan | None:
        """The chosen plan."""
        if self.answer is None or not self.answer.advice.plans:
            return None
        return self.answer.advice.plans[min(self.chosen, len(self.answer.advice.plans) - 1)]

    @property
    def is_running(self) -> bool:
        """Whether a run is alive as far as is known."""
        if self.live is None:
            return self.run_dir is not None
        return not self.live.view.is_final

    @property
    def shown(self) -> Live | None:
        """What the Run screen draws: the recalled run, else the one that is followed."""
        return self.live if self.recalled is None else self.recalled.live

    @property
    def shown_dir(self) -> Path | None:
        """The directory of what the Run screen draws."""
        return self.run_dir if self.recalled is None else self.recalled.directory

    def without(self, directory: Path) -> "Session":
        """The same session when a run has been deleted: nothing of it is shown any more."""
        gone = self
        if self.run_dir == directory:
            gone = replace(gone, run_dir=None, live=None)
        if self.recalled is not None and self.recalled.directory == directory:
            gone = replace(gone, recalled=None)
        if self.compared is not None and self.compared.involves(directory):
            gone = replace(gone, compared=None)
        return gone

    def failed(self, stage: str, message: str) -> "Session":
        """The same session with one more problem; what was there before stays."""
        return replace(self, busy=self._still_busy(stage), problems={**self.problems, stage: message})

    def done(self, stage: str) -> "Session":
        """The same session with the stage's problem gone."""
        problems = {key: text for key, text in self.problems.items() if key != stage}
        return replace(self, busy=self._still_busy(stage), problems=problems)

    def _still_busy(self, ended: str) -> str | None:
        return None if self.busy == ended else self.busy


def request_label(request: Request) -> tuple[str, str]:
    """Model and length for the context strip; a length that cannot be read shows as it was typed."""
    typed = request.sequence_len or ""
    try:
        return request.model or "", units.format_tokens(units.parse_tokens(typed))
    except UsageError:
        return request.model or "", typed


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
