"""Plan: the job, the ranked layouts, why the others fail, and the terms of the chosen one."""

from collections.abc import Callable, Mapping
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal, Vertical

from cpadvisor import units
from cpadvisor.catalog import load_models
from cpadvisor.plan.advice import Advice, CardAnswer, MemoryEstimate, Plan, Rejection, TraceStep
from cpadvisor.report.plan import recompute_label
from cpadvisor.tui.i18n import Words
from cpadvisor.tui.keys import CPU_KEY
from cpadvisor.tui.screens.base import StageScreen, panel
from cpadvisor.tui.screens.reader import Reader
from cpadvisor.tui.session import Answer, Session
from cpadvisor.tui.widgets.bar import fill, memory_bar
from cpadvisor.tui.widgets.job_form import JobForm
from cpadvisor.tui.widgets.lines import Line
from cpadvisor.tui.widgets.prose import Prose
from cpadvisor.tui.widgets.table import Cell, Column, Grid, Row, RowTable, cell

BAR_CELLS = 14
TIGHT = 0.05
"""A plan whose upper end comes within this share of the limit is called tight."""


class PlanScreen(StageScreen):
    """Job and candidates above; trace and rejections at the left, terms and card at the right."""

    MODE = "plan"
    AUTO_FOCUS = "#candidates"
    BINDINGS: ClassVar = [
        Binding("e", "edit", "Edit job", id="plan-edit", tooltip="Change model, length, engine or lock"),
        CPU_KEY,
    ]

    def body(self) -> ComposeResult:
        """Job and candidates over two columns of reasons; all below each other in a narrow terminal."""
        yield JobForm(self.words, id="job")
        yield RowTable(id="candidates")
        with Horizontal(id="reasons"):
            with Vertical(id="why"):
                yield Prose(id="trace")
                yield RowTable(id="rejected")
            with Vertical(id="terms"):
                yield Prose(id="memory")
                yield Prose(id="step")
                yield Prose(id="card")

    def show(self, session: Session) -> None:
        """Hand the answer to the widgets."""
        words, answer = self.words, session.answer
        problem = session.problems.get("plan")
        self.query_one(JobForm).show(session.request, problem)
        self._show_titles(session)
        if answer is None:
            said = words["planning"] if problem is None else problem
            self.query_one("#candidates", RowTable).grid = Grid(columns=CANDIDATE_COLUMNS, empty=said)
            return
        self.query_one(JobForm).suggest_models(tuple(load_models()))
        advice = answer.advice
        table = self.query_one("#candidates", RowTable)
        common = shared_warnings(advice.plans)
        rows = tuple(candidate_row(place, plan, words, common) for place, plan in enumerate(advice.plans))
        table.grid = Grid(columns=CANDIDATE_COLUMNS, rows=rows, empty=words["no plan"])
        with self.prevent(RowTable.Moved):
            table.cursor = session.chosen
        self.query_one("#rejected", RowTable).grid = Grid(
            columns=REJECTED_COLUMNS, rows=tuple(map(rejected_row, advice.rejected))
        )
        self.query_one("#trace", Prose).lines = tuple(line for step in advice.trace for line in trace_lines(step))
        self.query_one("#card", Prose).lines = card_lines(answer, words)
        plan = session.plan
        self.query_one("#memory", Prose).lines = () if plan is None else memory_lines(plan.memory)
        self.query_one("#step", Prose).lines = () if plan is None else step_lines(plan)

    def _show_titles(self, session: Session) -> None:
        words, answer, plan = self.words, session.answer, session.plan
        found = ""
        if session.busy in ("machine", "plan"):
            found = words["planning"] + " …"
        elif answer is not None:
            advice = answer.advice
            found = f"{len(advice.plans)} {words['feasible']} · {len(advice.rejected)} {words['rejected'].lower()}"
        label = "" if plan is None else plan.layout.label
        panel(self.query_one("#job"), words["job"], "e")
        panel(self.query_one("#candidates"), f"{words['candidates']}  rep×shard×tp×cp", found)
        panel(self.query_one("#trace"), words["why"])
        panel(self.query_one("#rejected"), words["rejected"], "enter")
        panel(self.query_one("#card"), words["card"])
        panel(self.query_one("#memory"), words["memory"], label)
        panel(self.query_one("#step"), words["step"], "" if plan is None else units.format_seconds(plan.step.total_s))

    def action_edit(self) -> None:
        """Go to the first field of the job."""
        self.query_one(JobForm).edit()

    @on(JobForm.Left)
    def _leave_job(self) -> None:
        self.query_one("#candidates").focus()

    @on(RowTable.Picked, "#rejected")
    def _read_rejection(self, event: RowTable.Picked) -> None:
        answer = self.session.answer
        if answer is not None:
            rejection = answer.advice.rejected[event.index]
            self.app.push_screen(Reader(rejection.layout.words, rejection_lines(rejection)))


CANDIDATE_COLUMNS = (
    Column(title="#", right=True),
    Column(title="layout"),
    Column(title="tok/s/GPU", right=True),
    Column(title="MFU", right=True),
    Column(title="peak", right=True),
    Column(title="of limit", width=BAR_CELLS),
    Column(title="limit", right=True),
    Column(title="step", right=True),
    Column(title="cp by"),
    Column(title="recompute"),
    Column(title="verdict", flexible=True),
)

REJECTED_COLUMNS = (
    Column(title="layout"),
    Column(title="why", most=64),
    Column(title="fix", flexible=True),
    Column(title="rule"),
)


def candidate_row(place: int, plan: Plan, words: Words, common: frozenset[str]) -> Row:
    """One plan: speed first, then memory against the limit."""
    memory = plan.memory
    bar = memory_bar(
        memory.peak_bytes, limit=memory.limit_bytes, low=memory.low_bytes, high=memory.high_bytes, width=BAR_CELLS
    )
    return (
        cell(str(place + 1), "muted"),
        cell(plan.layout.label, "accent" if place == 0 else "plain"),
        cell(units.format_count(plan.tokens_per_s_per_gpu)),
        cell(units.format_percent(plan.mfu)),
        cell(units.format_bytes(memory.peak_bytes)),
        Cell(runs=tuple(bar)),
        cell(units.format_bytes(memory.limit_bytes), "muted"),
        cell(units.format_seconds(plan.step.total_s), "muted"),
        cell(plan.cp_label, "muted"),
        cell(recompute_label(plan), "muted"),
        verdict(place, plan, words, common),
    )


def shared_warnings(plans: tuple[Plan, ...]) -> frozenset[str]:
    """Warnings that every plan carries: they tell no plan from another and stand with the chosen one's terms."""
    return frozenset(plans[0].warnings).intersection(*(plan.warnings for plan in plans)) if plans else frozenset()


def verdict(place: int, plan: Plan, words: Words, common: frozenset[str]) -> Cell:
    """`● best`, or `▲` with what to watch in this plan alone."""
    memory = plan.memory
    room = memory.limit_bytes - memory.high_bytes
    watch = [f"{units.format_bytes(room)} to spare"] if room < TIGHT * memory.limit_bytes else []
    watch.extend(warning for warning in plan.warnings if warning not in common)
    mark = (f"● {words['best']}", "ok") if place == 0 else ("●", "muted")
    return Cell(runs=(mark, (f"  ▲ {'; '.join(watch)}", "warn"))) if watch else Cell(runs=(mark,))


def rejected_row(rejection: Rejection) -> Row:
    """One layout that does not start or fit."""
    return (
        cell(rejection.layout.label, "muted"),
        cell(rejection.why),
        cell(rejection.fix or units.DASH, "ok" if rejection.fix else "muted"),
        cell(rejection.rule, "bad"),
    )


def rejection_lines(rejection: Rejection) -> tuple[Line, ...]:
    """A rejection in full, wrapped."""
    return (
        ((rejection.rule, "bad"), ("  ", ""), (rejection.why, "plain")),
        (("", "plain"),),
        (("fix  ", "muted"), (rejection.fix or "no single change mends it", "ok" if rejection.fix else "muted")),
    )


def trace_lines(step: TraceStep) -> tuple[Line, ...]:
    """A question of the decision tree, and below it what answered it."""
    return (
        ((f"{step.rule}  ", "accent"), (step.question, "plain"), (f"  {step.source}", "faint")),
        ((step.answer, "muted"),),
    )


def card_lines(answer: Answer, words: Words) -> tuple[Line, ...]:
    """The reference card's answer beside ours, then what a lock changed."""
    card: CardAnswer = answer.advice.card
    mark = ("● ", "ok") if card.agrees else ("▲ ", "warn")
    lines: list[Line] = [
        ((units.DASH if card.layout is None else card.layout.words, "plain"),),
        (mark, (words["agrees"] if card.agrees else words["differs"], "plain")),
        ((card.why, "muted"),),
    ]
    lock = answer.job.workload.lock
    if lock:
        sizes = ", ".join(f"{axis}={size}" for axis, size in lock.items())
        lines.append(((f"{words['lock']} {sizes}", "warn"), (f"  {unlocked_label(answer.advice)}", "muted")))
    return tuple(lines)


def unlocked_label(advice: Advice) -> str:
    """What would have been chosen without the lock."""
    if advice.unlocked is None:
        return "without it nothing fits"
    free = advice.unlocked.layout
    same = bool(advice.plans) and advice.plans[0].layout == free
    return "without it the choice is the same" if same else f"without it {free.label}, {free.words}"


def memory_lines(memory: MemoryEstimate) -> tuple[Line, ...]:
    """The peak with its band, then the terms that are alive at that instant, largest first."""
    band = f"{units.format_bytes(memory.low_bytes)} to {units.format_bytes(memory.high_bytes)}"
    bar = memory_bar(
        memory.peak_bytes, limit=memory.limit_bytes, low=memory.low_bytes, high=memory.high_bytes, width=30
    )
    head: list[Line] = [
        ((units.format_bytes(memory.peak_bytes), "accent"), (f" of {units.format_bytes(memory.limit_bytes)}", "muted")),
        tuple(bar),
        ((f"{band}, at {memory.instant}", "muted"),),
    ]
    return (*head, *term_lines(memory.terms_bytes, units.format_bytes))


def step_lines(plan: Plan) -> tuple[Line, ...]:
    """The band, exposed seconds by term, largest first, then what to know about the plan."""
    step = plan.step
    band = f"{units.format_seconds(step.low_s)} to {units.format_seconds(step.high_s)}"
    warnings: tuple[Line, ...] = tuple((("▲ ", "warn"), (warning, "muted")) for warning in plan.warnings)
    methods: tuple[Line, ...] = ((("cp by ", "plain"), (plan.method_words, "muted")),) if plan.method_words else ()
    return (((band, "muted"),), *term_lines(step.terms_s, units.format_seconds), *methods, *warnings)


def term_lines(terms: Mapping[str, float], form: Callable[[float | None], str], *, width: int = 12) -> tuple[Line, ...]:
    """One line a term that is not zero: name, bar, figure."""
    shown = sorted(((name, value) for name, value in terms.items() if value), key=lambda term: -term[1])
    if not shown:
        return ()
    longest, largest = max(len(name) for name, _ in shown), shown[0][1]
    return tuple(
        (
            (f"{name.replace('_', ' '):<{longest}} ", "plain"),
            (fill(value / largest, width), "series-1"),
            (f"{form(value):>10}", "muted"),
        )
        for name, value in shown
    )
