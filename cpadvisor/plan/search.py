"""The answer: every layout of the GPUs, costed where it starts, ranked where it fits, explained where it does not."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from cpadvisor.hardware import GpuSpec
from cpadvisor.node import Node
from cpadvisor.plan.advice import Advice, MemoryEstimate, MethodCost, Plan, Rejection
from cpadvisor.plan.candidate import Candidate
from cpadvisor.plan.card import card_answer
from cpadvisor.plan.cautions import plan_warnings
from cpadvisor.plan.layout import AXES, Layout, factorisations
from cpadvisor.plan.links import cp_links, group_links
from cpadvisor.plan.memory import estimate_memory
from cpadvisor.plan.mend import nearest_mend
from cpadvisor.plan.methods import method_problem
from cpadvisor.plan.placement import rank_order
from cpadvisor.plan.problem import Problem, candidates, lightest, survey
from cpadvisor.plan.rules import broken, within_lock
from cpadvisor.plan.step_time import Links, estimate_step
from cpadvisor.plan.tree import trace
from cpadvisor.plan.workload import Workload
from cpadvisor.units import format_bytes

ALIKE_SHARE = 0.005
"""Times closer than this count as equal: a layout that waits for its links recomputes for nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Costed:
    """A way to run a layout that fits, before its placement is written out."""

    candidate: Candidate
    memory: MemoryEstimate
    seconds: float
    methods: tuple[MethodCost, ...] = ()
    """The chosen method and the others."""

    @property
    def seconds_a_token(self) -> float:
        """GPU seconds of one token: what layouts of different batches compare by."""
        tokens = self.candidate.global_batch * self.candidate.sequence_len
        return self.seconds * self.candidate.layout.world / tokens


def advise(node: Node, gpu: GpuSpec, workload: Workload) -> Advice:
    """Ranked plans, rejections with their mends, the trace and the card's own answer.

    `node.gpus` are the GPUs of one node that may be used; the job takes as many on each of `workload.nodes`.
    """
    problem = survey(node, gpu, workload)
    plans, rejected = _search(problem)
    free = _first_free(problem) if workload.lock else None
    return Advice(
        node=node.name,
        model=workload.model.name,
        sequence_len=workload.sequence_len,
        gpus=problem.world,
        engine=workload.engine,
        plans=plans,
        rejected=rejected,
        trace=trace(problem, plans, rejected, free=free),
        card=card_answer(problem, plans),
        unlocked=free,
    )


def explain(node: Node, gpu: GpuSpec, workload: Workload, layout: Layout) -> Plan | Rejection:
    """What one layout costs, or why it does not start or fit."""
    problem = survey(node, gpu, workload)
    found = _judge(problem, layout)
    return found if isinstance(found, Rejection) else _plan(problem, found)


def _search(problem: Problem) -> tuple[tuple[Plan, ...], tuple[Rejection, ...]]:
    found = [_judge(problem, layout) for layout in _layouts(problem)]
    costed = sorted((one for one in found if isinstance(one, _Costed)), key=lambda one: _rank(problem, one))
    rejected = [one for one in found if isinstance(one, Rejection)]
    if not found:
        rejected = [_impossible_lock(problem)]
    return tuple(_plan(problem, one) for one in costed), tuple(sorted(rejected, key=_nearness))


def _first_free(problem: Problem) -> Plan | None:
    """The first choice if nothing were locked."""
    plans, _ = _search(replace(problem, workload=replace(problem.workload, lock={})))
    return plans[0] if plans else None


def _layouts(problem: Problem) -> Iterator[Layout]:
    return (layout for layout in factorisations(problem.world) if within_lock(problem, layout))


def _rank(problem: Problem, one: _Costed) -> tuple[float, ...]:
    """What fits with its whole band comes first; then the objective; then the simpler layout."""
    layout = one.candidate.layout
    simple = (layout.cp, layout.tp, layout.dp_replicate)
    if problem.workload.objective == "memory":
        return (not one.memory.fits, one.memory.peak_bytes, one.seconds_a_token, *simple)
    return (not one.memory.fits, one.seconds_a_token, one.memory.peak_bytes, *simple)


def _nearness(rejection: Rejection) -> tuple[bool, float]:
    """Layouts that lack memory first, those that lack least of it leading; then those that break a rule."""
    lacks = rejection.rule == "memory"
    ratio = (rejection.value or 0.0) / rejection.limit if lacks and rejection.limit else 0.0
    return not lacks, ratio


def _judge(problem: Problem, layout: Layout) -> _Costed | Rejection:
    rejection = broken(problem, layout)
    if rejection is not None:
        return rejection
    sized = [(one, estimate_memory(one, limit_bytes=problem.limit_bytes)) for one in candidates(problem, layout)]
    possible = [(one, memory) for one, memory in sized if memory.fits]
    possible = possible or [(one, memory) for one, memory in sized if memory.verdict == "tight"]
    if not possible:
        return _lacks_memory(problem, layout)
    links = _links_by_degree(problem, layout, {one.ulysses for one, _ in possible})
    costed = [
        _Costed(candidate=one, memory=memory, seconds=estimate_step(one, links[one.ulysses]).total_s)
        for one, memory in possible
    ]
    best = _choose(problem, costed)
    return replace(best, methods=tuple(_methods(problem, best, costed)))


def _links_by_degree(problem: Problem, layout: Layout, degrees: set[int]) -> dict[int, Links]:
    """The links of a layout for each number of ranks that exchange heads."""
    order = rank_order(problem.fabric.node, layout)
    common = group_links(problem.fabric, layout, order)
    return {
        degree: {**common, **cp_links(problem.fabric, layout, order, ulysses=degree)} if degree > 1 else common
        for degree in degrees
    }


def _choose(problem: Problem, costed: list[_Costed]) -> _Costed:
    """The best way to run one layout; of ways as fast as each other, the one that recomputes least, by the method
    that is fastest with that."""
    best = min(costed, key=lambda one: _rank(problem, one))
    if problem.workload.objective == "memory":
        return best
    limit = best.seconds_a_token * (1 + ALIKE_SHARE)
    first = next(one for one in costed if one.seconds_a_token <= limit)
    alike = [one for one in costed if _but_for_method(one) == _but_for_method(first)]
    return min(alike, key=lambda one: _rank(problem, one))


def _but_for_method(one: _Costed) -> tuple[str, int]:
    return one.candidate.recompute, one.candidate.micro_batch


def _methods(problem: Problem, best: _Costed, costed: list[_Costed]) -> Iterator[MethodCost]:
    """What each method that could run this layout costs at its best, the chosen one first; then why others are out."""
    layout = best.candidate.layout
    if layout.cp == 1 or problem.workload.cp_method is not None:
        return
    by_method = {name: [one for one in costed if one.candidate.cp_method == name] for name in problem.engine.cp_methods}
    others = [_choose(problem, ones) for name, ones in by_method.items() if ones and name != best.candidate.cp_method]
    for one in (best, *sorted(others, key=lambda one: _rank(problem, one))) if by_method else ():
        yield MethodCost(method=one.candidate.cp_method, ulysses=one.candidate.ulysses, step_s=one.seconds)
    for name in (name for name, ones in by_method.items() if not ones):
        why = method_problem(problem.model, layout, name) or "its whole memory band does not fit"
        yield MethodCost(method=name, why=why)


def _lacks_memory(problem: Problem, layout: Layout) -> Rejection:
    memory = estimate_memory(lightest(problem, layout), limit_bytes=problem.limit_bytes)
    largest = max(memory.terms_bytes, key=lambda name: memory.terms_bytes[name])
    why = (
        f"needs {format_bytes(memory.peak_bytes)} at its fullest instant ({memory.instant}), of which "
        f"{format_bytes(memory.terms_bytes[largest])} {largest.replace('_', ' ')}; "
        f"a GPU has {format_bytes(memory.limit_bytes)} to give"
    )
    return Rejection(
        layout=layout,
        rule="memory",
        value=memory.peak_bytes,
        limit=memory.limit_bytes,
        why=why,
        fix=nearest_mend(problem, layout),
    )


def _impossible_lock(problem: Problem) -> Rejection:
    """No layout has the locked sizes: their product does not divide the GPUs (card F1)."""
    sizes = {axis: size for axis, size in problem.workload.lock.items() if axis in AXES and size > 0}
    layout = Layout(**sizes)
    if not problem.world:
        return Rejection(layout=layout, rule="F1", value=0, limit=1, why="no GPU may be used", fix="free a GPU")
    rejection = broken(problem, layout)
    assert rejection is not None, f"{layout} is locked on {problem.world} GPUs and was not among the layouts"
    return rejection


def _plan(problem: Problem, one: _Costed) -> Plan:
    candidate, layout = one.candidate, one.candidate.layout
    order = rank_order(problem.fabric.node, layout)
    links = group_links(problem.fabric, layout, order, ulysses=candidate.ulysses)
    step = estimate_step(candidate, links)
    tokens = candidate.global_batch * candidate.sequence_len
    flops = problem.model.train_flops(tokens=tokens, sequence_len=candidate.sequence_len)
    return Plan(
        layout=layout,
        order=order,
        cp_method=candidate.cp_method,
        ulysses=candidate.ulysses,
        methods=one.methods,
        recompute={candidate.recompute: problem.model.layers},
        micro_batch=candidate.micro_batch,
        accumulation=candidate.accumulation,
        memory=one.memory,
        step=step,
        tokens_per_s_per_gpu=tokens / step.total_s / layout.world,
        mfu=flops / step.total_s / (layout.world * problem.gpu.peak_flops_per_s),
        groups={axis: layout.groups(axis) for axis in AXES},
        warnings=plan_warnings(problem, candidate, one.memory, links),
    )
