"""A node, an answer, a file and a run made by hand, and stages that give them without a machine."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from cpadvisor import catalog, units
from cpadvisor.doctor.diagnosis import Diagnosis, Mend
from cpadvisor.errors import LaunchError, UsageError
from cpadvisor.job import Job, Request, parse_lock
from cpadvisor.node import Gpu, Holder, Host, Node, Ring
from cpadvisor.plan.advice import Advice, CardAnswer, MemoryEstimate, Plan, Rejection, StepEstimate, TraceStep
from cpadvisor.plan.layout import AXES, Layout
from cpadvisor.plan.workload import Workload
from cpadvisor.tui.app import CpadvisorApp
from cpadvisor.tui.exam import Exam, Mended, Remedy, Subject
from cpadvisor.tui.history import Compared, Entry, History, ReplayState
from cpadvisor.tui.run_work import Deleted, Player
from cpadvisor.tui.session import Answer, Draft, Live, Machine, Recalled
from cpadvisor.tui.work import Saved
from cpadvisor.units import GIB
from cpadvisor.watch.compare import compare_runs
from cpadvisor.watch.failure import Failure
from cpadvisor.watch.figures import measured
from cpadvisor.watch.view import RankView, RunView
from cpadvisor.write.edit import Change


def h100_node(*, count: int = 8) -> Node:
    """`count` H100s, all pairs over NV18; GPU 6 is half full."""
    return Node(
        name="dgx-h100",
        source="recorded",
        gpus=tuple(
            Gpu(
                index=index,
                name="NVIDIA H100 80GB HBM3",
                memory_bytes=80 * GIB,
                used_bytes=40 * GIB if index == 6 else 0,
                numa=index // 4,
                cpus="0-55" if index < 4 else "56-111",
            )
            for index in range(count)
        ),
        links=tuple(tuple(None if row == column else "NV18" for column in range(count)) for row in range(count)),
        host=Host(cpus=112, memory_bytes=2048 * GIB),
        holders=(Holder(gpu=6, pid=4211, user="alice", command="python [serve] --x", used_bytes=40 * GIB),),
    )


def machine(node: Node) -> Machine:
    """The node with its ring in order and one warning in brackets, which markup would swallow."""
    return Machine(
        node=node,
        note="shown from a record",
        gpu=catalog.require_gpu("h100-80g"),
        islands=(node.indices,),
        ring=Ring(order=node.indices, worst=node.links[0][1]),
        warnings=("GPU 6 is held by [alice]",),
    )


def plan(layout: Layout, *, peak_gib: float, tokens_per_s: float) -> Plan:
    """A plan whose figures are easy to find on a screen."""
    peak = int(peak_gib * GIB)
    return Plan(
        layout=layout,
        order=tuple(range(layout.world)),
        cp_method="ring" if layout.cp > 1 else "none",
        recompute={"full": 32},
        micro_batch=1,
        accumulation=1,
        memory=MemoryEstimate(
            peak_bytes=peak,
            low_bytes=int(peak * 0.9),
            high_bytes=int(peak * 1.1),
            limit_bytes=79 * GIB,
            instant="backward",
            terms_bytes={"parameters": peak // 2, "activations": peak - peak // 2},
        ),
        step=StepEstimate(total_s=2.19, low_s=1.9, high_s=2.6, terms_s={"matmul": 1.5, "attention": 0.69}),
        tokens_per_s_per_gpu=tokens_per_s,
        mfu=0.41,
        groups={axis: layout.groups(axis) for axis in AXES},
    )


def advice(workload: Workload, *, node: str = "dgx-h100") -> Advice:
    """Two plans, one rejection, one question, and a card that differs."""
    return Advice(
        node=node,
        model=workload.model.name,
        sequence_len=workload.sequence_len,
        gpus=8,
        engine=workload.engine,
        plans=(
            plan(Layout(dp_shard=4, cp=2), peak_gib=46.1, tokens_per_s=14900),
            plan(Layout(dp_shard=8), peak_gib=71.3, tokens_per_s=12300),
        ),
        rejected=(
            Rejection(
                layout=Layout(tp=8),
                rule="engine",
                value=8,
                limit=1,
                why="the bundled trainer does not do tp yet",
                fix="tp 1",
            ),
        ),
        trace=(
            TraceStep(
                rule="T1",
                question="Do the states fit on one GPU?",
                answer="no: 119.7 GiB against 79.0 GiB",
                value=119.7,
                limit=79.0,
                source="formula",
            ),
        ),
        card=CardAnswer(layout=Layout(cp=8), agrees=False, why="row L1 gives long lengths to cp"),
    )


def run_view(*, state: str = "running", steps: int = 12) -> RunView:
    """A run of two ranks, `steps` steps old, with its prediction."""
    return RunView(
        run="20261123-tiny-1x1x1x2",
        directory=Path("run"),
        state=state,
        model="tiny",
        layout={"cp": 2},
        layout_label="1×1×1×2",
        sequence_len=8192,
        world=2,
        cp_method="ring",
        kernel="flash_cpu",
        step=steps,
        steps=50,
        elapsed_s=83.0,
        eta_s=120.0,
        loss=tuple((step, 6.0 - step / 10) for step in range(1, steps + 1)),
        tokens_per_s_per_gpu=tuple((step, 1900.0 + step) for step in range(1, steps + 1)),
        step_s=tuple((step, 2.1) for step in range(1, steps + 1)),
        split_s={"forward": 0.8, "backward": 1.1, "optimizer": 0.2},
        grad_norm=0.913,
        ranks=(
            RankView(rank=0, pid=101, alive=True, allocated_bytes=3 * GIB, peak_bytes=4 * GIB),
            RankView(rank=1, pid=102, alive=True, allocated_bytes=3 * GIB, peak_bytes=5 * GIB),
        ),
        peak_bytes=5 * GIB,
        prediction={
            "peak_bytes": 6 * GIB,
            "low_bytes": 4 * GIB,
            "high_bytes": 7 * GIB,
            "step_s": 2.0,
            "tokens_per_s_per_gpu": 2048.0,
        },
    )


CONFIG_TEXT = "# written for dgx-h100\nbase_model: llama\nsequence_len: 32768\nfsdp_config:\n  reshard: true\n"


@dataclass
class FakeWork:
    """Stages that answer at once; `calls` tells which were asked."""

    node: Node = field(default_factory=h100_node)
    calls: list[str] = field(default_factory=list)
    views: list[RunView] = field(default_factory=lambda: [run_view()])
    shown: int = -1
    """Which of `views` a look gives."""
    trouble: str | None = None
    """Why a look fails now."""
    log: tuple[str, ...] = ()
    """Of each rank; two lines of its own where empty."""
    on_disk: str | None = "base_model: llama\nsequence_len: 8192\n"
    findings: tuple[Any, ...] = ()
    living: Path | None = None
    replay_s: float = 1e6
    """How long a replayed run took; so long that none ends while a test looks, unless it says so."""
    found: tuple[Diagnosis, ...] = field(default_factory=lambda: DIAGNOSES)
    entries: tuple[Entry, ...] = field(default_factory=lambda: history_entries())

    def machine(self, request: Request) -> Machine:
        self.calls.append(f"machine {request.node}")
        node = self.node if request.node != "cpu" else replace(h100_node(count=2), name="cpu")
        return machine(node)

    def answer(self, machine: Machine, request: Request) -> Answer:
        self.calls.append(f"answer {request.model} {request.sequence_len} {request.lock}")
        spec = catalog.find_model(request.model or "")
        lock = parse_lock(request.lock)
        if request.engine not in ("cpadvisor", "axolotl-0.21"):
            raise UsageError(f"engine {request.engine!r} is not known")
        workload = Workload(
            model=spec, sequence_len=units.parse_tokens(request.sequence_len or ""), engine=request.engine, lock=lock
        )
        job = Job(node=machine.node, gpu=catalog.require_gpu("h100-80g"), workload=workload)
        told = advice(workload, node=machine.node.name)
        told = replace(told, unlocked=told.plans[1]) if lock else told
        return Answer(request=request, job=job, advice=told)

    def draft(self, answer: Answer, plan: Plan) -> Draft:
        self.calls.append(f"draft {plan.layout.label}")
        line = SimpleNamespace
        return Draft(
            plan=plan,
            path=Path("cpadvisor.yaml"),
            lines=(
                line(key="base_model", value="llama", origin="job", comment="the model"),
                line(key="sequence_len", value=32768, origin="job", comment=""),
                line(key="fsdp_config", value={}, origin="plan", comment=""),
            ),
            text=CONFIG_TEXT,
            on_disk=self.on_disk,
            diff="" if self.on_disk == CONFIG_TEXT else "--- a\n+++ b\n-sequence_len: 8192\n+sequence_len: 32768\n",
            findings=self.findings,
            command="cpadvisor launch cpadvisor.yaml",
        )

    def edited(self, draft: Draft) -> Draft:
        self.calls.append("edited")
        planned = draft.planned or draft.text
        return replace(draft, text=self.on_disk or "", on_disk=self.on_disk, planned=planned)

    def save(self, draft: Draft) -> Saved:
        self.calls.append("save")
        self.on_disk = draft.planned or draft.text
        return Saved(path=draft.path, backup=Path("cpadvisor.yaml.bak"))

    def launch(self, draft: Draft) -> Path:
        self.calls.append(f"launch {draft.plan.layout.label}")
        return Path("runs/20261123-tiny-1x1x1x2")

    def stop(self, run_dir: Path) -> RunView:
        self.calls.append("stop")
        return replace(self.views[-1], state="stopped")

    def watcher(self, run_dir: Path) -> "FakeWatcher":
        return FakeWatcher(self)

    def living_run(self) -> Path | None:
        return self.living

    def look(self, run_dir: Path, rank: int) -> Live:
        return FakeWatcher(self).look(rank)

    def examine(self, subject: Subject, *, node: Node | None = None, view: RunView | None = None) -> Exam:
        self.calls.append(f"examine {subject.kind}")
        return Exam(subject=subject, found=self.found, config=Path("cpadvisor.yaml"))

    def remedy(self, exam: Exam, title: str, mend: Mend) -> Remedy:
        self.calls.append(f"remedy {mend.text}")
        diff = "".join(f"-{change.key}: 2\n+{change.key}: {change.value}\n" for change in mend.changes)
        return Remedy(subject=exam.subject, title=title, mend=mend, path=exam.config if diff else None, diff=diff)

    def mend(self, remedy: Remedy) -> Mended:
        self.calls.append(f"mend {remedy.mend.text}")
        self.found = tuple(one for one in self.found if remedy.mend not in one.mends)
        return Mended(path=Path("cpadvisor.yaml"), backup=Path("cpadvisor.yaml.bak"))

    def histories(self) -> Iterator[History]:
        self.calls.append("histories")
        yield History(root=Path("runs"), seen_at=NOON, entries=self.entries)

    def recall(self, run_dir: Path, rank: int) -> Recalled:
        self.calls.append(f"recall {run_dir.name}")
        view = next(entry.view for entry in self.entries if entry.directory == run_dir)
        assert view is not None
        return Recalled(directory=run_dir, live=Live(view=view, log=(f"[rank{rank}] the end",), rank=rank))

    def player(self, run_dir: Path) -> "FakePlayer":
        self.calls.append(f"replay {run_dir.name}")
        return FakePlayer(run_dir, self.replay_s)

    def compare(self, first: Path, second: Path) -> Compared:
        self.calls.append(f"compare {first.name} {second.name}")
        views = [entry.view for path in (first, second) for entry in self.entries if entry.directory == path]
        assert views[0] is not None and views[1] is not None
        texts = [f"context_parallel_size: {view.layout['cp']}\nbf16: false\n" for view in views]
        return Compared(comparison=compare_runs(views[0], views[1], *texts))

    def resume(self, run_dir: Path) -> Path:
        self.calls.append(f"resume {run_dir.name}")
        return run_dir

    def delete(self, run_dir: Path) -> Deleted:
        self.calls.append(f"delete {run_dir.name}")
        self.entries = tuple(entry for entry in self.entries if entry.directory != run_dir)
        return Deleted(directory=run_dir)


class FakeWatcher:
    """Gives the view that the work shows at the moment."""

    def __init__(self, work: FakeWork) -> None:
        self._work = work

    def look(self, rank: int) -> Live:
        if self._work.trouble is not None:
            raise LaunchError(self._work.trouble)
        view = self._work.views[self._work.shown]
        log = self._work.log or (f"[rank{rank}] step 12 loss 4.8", "[b]not markup[/b]")
        return Live(view=view, log=log, rank=rank)


class FakePlayer(Player):
    """A replay of one step a second."""

    def __init__(self, run_dir: Path, length_s: float) -> None:
        self._run_dir = run_dir
        self.length_s = length_s

    def frame(self, state: ReplayState) -> Recalled:
        view = run_view(state="done" if state.is_over else "running", steps=1 + min(int(state.at_s), 20))
        live = Live(view=view, log=(f"[rank{state.rank}] as it ended",), rank=state.rank)
        return Recalled(directory=self._run_dir, live=live, replay=state)


NOON = 1_795_435_200.0
"""2026-11-23 12:00:00 UTC."""

OOM = Failure(
    kind="out_of_memory",
    headline="rank 1 ran out of GPU memory in the backward of step 12",
    rank=1,
    step=12,
    term="activations",
    evidence=("asked for 2.0 GiB, 0.4 GiB was free of 79.1 GiB", "activations 41.0 GiB, predicted 30.2 GiB"),
    mend="raise context_parallel_size from 2 to 4",
    command="cpadvisor doctor 20261123T1051 --apply oom",
)

DIAGNOSES = (
    Diagnosis(
        rule="ring-link",
        severity="error",
        title="the cp group crosses PCIe (PHB)",
        evidence="GPU 2 and GPU 3 are joined by PHB; ring 0-1-2-3",
        effect="a hop carries 22 GB/s in place of 450; communication takes 63 % of a step",
        mends=(
            Mend(text="keep the ring on NVLink", command="CUDA_VISIBLE_DEVICES=0,1,4,5 cpadvisor launch f.yaml"),
            Mend(text="context_parallel_size 2", changes=(Change(key="context_parallel_size", value=2),)),
        ),
        card=("D2", "L2"),
    ),
    Diagnosis(
        rule="shm",
        severity="warning",
        title="/dev/shm is small",
        evidence="/dev/shm holds 64 MiB; NCCL takes up to 8 GiB",
        effect="NCCL falls back to sockets [inside] the node",
        mends=(Mend(text="docker run --shm-size 8g", command="docker run --shm-size 8g …"),),
    ),
    Diagnosis(rule="driver", severity="ok", title="driver 580.95", evidence="580.95 is 535 or newer"),
    Diagnosis(rule="split", severity="ok", title="the sequence splits", evidence="8192 / 2 = 4096", card=("D4",)),
)
"""One of each kind, worst first; a text in brackets, which markup would swallow."""


def entry(name: str, view: RunView) -> Entry:
    """A run of the history."""
    return Entry(directory=Path("runs") / name, view=view, figures=measured(view))


def history_entries() -> tuple[Entry, ...]:
    """A living run, one that ran out of memory, one that is done, one that cannot be read; newest first."""
    failed = replace(run_view(state="out_of_memory"), failure=OOM, started=NOON - 4140, model="llama-3.1-8b")
    views = {
        "20261123T115000Z-tiny-1x1x1x2": replace(run_view(), started=NOON - 600),
        "20261123T105100Z-llama-3.1-8b-1x4x1x2": failed,
        "20261120T090000Z-tiny-1x1x1x1": replace(
            run_view(state="done", steps=50), layout={"cp": 1}, layout_label="1×1×1×1", started=NOON - 270000
        ),
    }
    entries = tuple(entry(name, replace(view, run=name, directory=Path("runs") / name)) for name, view in views.items())
    return (*entries, Entry(directory=Path("runs/20261101T000000Z-torn"), problem="cannot read run.json: it is torn"))


def frame(app: CpadvisorApp) -> str:
    """The screen as text, one line a row."""
    return "\n".join(strip.text.rstrip() for strip in app.screen._compositor.render_strips())
