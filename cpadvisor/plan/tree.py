"""The decision tree with its trace: each question, the numbers, the answer, and what would flip it.

Five questions lead to the decision: is the model too large for one GPU, does the length fit without context
parallelism, how much does it need, are its groups on NVLink, is its traffic hidden; then tensor parallelism.
"""

from collections.abc import Iterator
from dataclasses import replace

from cpadvisor.node import is_nvlink
from cpadvisor.plan.advice import Plan, Rejection, TraceStep
from cpadvisor.plan.cautions import tokens_to_hide
from cpadvisor.plan.layout import Layout, divisors
from cpadvisor.plan.links import GroupLink, group_links
from cpadvisor.plan.memory import estimate_memory, state_bytes
from cpadvisor.plan.mend import fits, longest_fit
from cpadvisor.plan.placement import rank_order
from cpadvisor.plan.problem import Problem, lightest
from cpadvisor.plan.rules import broken, within_lock
from cpadvisor.units import format_bytes, format_count, format_rate, format_tokens


def trace(
    problem: Problem, plans: tuple[Plan, ...], rejected: tuple[Rejection, ...], *, free: Plan | None
) -> tuple[TraceStep, ...]:
    """All questions in order; the last one is the decision. `free` is the first choice without the lock."""
    if not problem.world:
        return (TraceStep(rule="F1", question="Is there a GPU?", answer="no", value=0, limit=1, source="card"),)
    return tuple(_questions(problem, plans, rejected, free))


def _questions(
    problem: Problem, plans: tuple[Plan, ...], rejected: tuple[Rejection, ...], free: Plan | None
) -> Iterator[TraceStep]:
    best = plans[0] if plans else None
    yield _fits_one_gpu(problem)
    if problem.world > 1:
        yield _fits_sharded(problem)
    yield _fits_without_cp(problem)
    cp = needed_cp(problem)
    yield _how_much_cp(problem, cp)
    group = _group_asked(problem, best, cp)
    if group is not None:
        link = _ring_link(problem, group)
        yield _on_nvlink(problem, group, link)
        if problem.engine.ring:
            yield _is_hidden(problem, group, link)
    if problem.world > 1:
        yield _needs_tp(problem, best)
    if problem.workload.lock:
        yield _locked(problem, best, free)
    yield _decision(problem, plans, rejected)


def sharded(problem: Problem, cp: int) -> Layout:
    """All GPUs over dp_shard and cp: the layouts that the tree compares."""
    return Layout(dp_shard=problem.world // cp, cp=cp)


def needed_cp(problem: Problem) -> int | None:
    """The smallest cp at which the length fits on all GPUs, sharded; None where none is enough."""
    starting = (cp for cp in divisors(problem.world) if _starts(problem, sharded(problem, cp)))
    return next((cp for cp in starting if fits(problem, sharded(problem, cp))), None)


def _starts(problem: Problem, layout: Layout) -> bool:
    found = broken(problem, layout)
    return found is None or found.rule == "F2"


def _fits_one_gpu(problem: Problem) -> TraceStep:
    states, limit = state_bytes(lightest(problem, Layout())), problem.limit_bytes
    holds = states < limit
    flip = "shard" if not holds else "sharding is a choice"
    answer = (
        f"{'yes' if holds else 'no'}: 16 bytes a parameter are {format_bytes(states)}, a GPU has {format_bytes(limit)}; "
        f"{flip}; turns at {format_count(limit / 16)} parameters"
    )
    return TraceStep(
        rule="T6",
        question="Do the model's training states fit one GPU?",
        answer=answer,
        value=states,
        limit=limit,
        source="formula",
    )


def _fits_sharded(problem: Problem) -> TraceStep:
    states, limit = state_bytes(lightest(problem, sharded(problem, 1))), problem.limit_bytes
    needed = -(-states * problem.world // max(limit, 1))
    answer = (
        f"{'yes' if states < limit else 'no'}: {format_bytes(states)} of states a GPU over {problem.world}; "
        f"turns below {needed} GPUs"
    )
    return TraceStep(
        rule="T6",
        question="Do they fit when sharded over all GPUs?",
        answer=answer,
        value=states,
        limit=limit,
        source="formula",
    )


def _fits_without_cp(problem: Problem) -> TraceStep:
    layout = sharded(problem, 1)
    memory = estimate_memory(lightest(problem, layout), limit_bytes=problem.limit_bytes)
    longest = longest_fit(problem, layout)
    turn = f"turns above {format_tokens(longest)} tokens" if longest else "no length fits without it"
    answer = (
        f"{'yes' if memory.fits else 'no'}: up to {format_bytes(memory.high_bytes)} at {memory.instant} with full "
        f"recomputation, {format_bytes(memory.limit_bytes)} to give; {turn}"
    )
    return TraceStep(
        rule="T1", question="Does the length fit without context parallelism?", answer=answer,
        value=memory.high_bytes, limit=memory.limit_bytes, source="formula",
    )  # fmt: skip


def _how_much_cp(problem: Problem, cp: int | None) -> TraceStep:
    tokens, question = problem.workload.sequence_len, "How much context parallelism does the length need?"
    if cp is None:
        largest = sharded(problem, problem.world)
        answer = f"more than {problem.world}: even cp {problem.world} does not fit; {_reach(problem, largest)}"
        return TraceStep(rule="T6", question=question, answer=answer, value=None, limit=problem.world, source="formula")
    share = format_tokens(-(-tokens // cp))
    answer = f"cp {cp}: {share} tokens a GPU; {_reach(problem, sharded(problem, cp))}"
    return TraceStep(rule="T6", question=question, answer=answer, value=cp, limit=problem.world, source="formula")


def _reach(problem: Problem, layout: Layout) -> str:
    longest = longest_fit(problem, layout)
    return f"cp {layout.cp} reaches {format_tokens(longest)} tokens" if longest else "the states alone leave no room"


def _group_asked(problem: Problem, best: Plan | None, cp: int | None) -> Layout | None:
    """The layout whose CP group is looked at: the chosen one, else the needed one, else cp 2 as the first step up."""
    if best is not None and best.layout.cp > 1:
        return best.layout
    for degree in (cp, *divisors(problem.world)[1:2]):
        if degree is not None and degree > 1:
            return sharded(problem, degree)
    return None


def _ring_link(problem: Problem, layout: Layout) -> GroupLink:
    return group_links(problem.fabric, layout, rank_order(problem.fabric.node, layout))["cp_ring"]


def _on_nvlink(problem: Problem, layout: Layout, link: GroupLink) -> TraceStep:
    best = is_nvlink(link.worst)
    flip = (
        "a node without NVLink, or a group beyond the island, turns it"
        if best
        else "a smaller group or NVLink turns it"
    )
    answer = f"{'yes' if best else 'no'}: the slowest hop at cp {layout.cp} is {link.worst}, {format_rate(link.bytes_per_s)}; {flip}"
    return TraceStep(
        rule="T3", question=f"Are the groups of cp {layout.cp} on NVLink?", answer=answer,
        value=link.bytes_per_s, limit=None, source="card",
    )  # fmt: skip


def _is_hidden(problem: Problem, layout: Layout, link: GroupLink) -> TraceStep:
    candidate = replace(lightest(problem, layout), cp_method="ring")
    needed = tokens_to_hide(candidate, {"cp_ring": link})
    local = candidate.sequence_share
    hidden = local >= needed and problem.gpu.precision != "fp32"
    sign = "≥" if local >= needed else "<"
    why = (
        "gloo shares the cores that compute"
        if problem.gpu.precision == "fp32"
        else "2 (kv heads / heads) FLOP/s / (bytes/s)"
    )
    answer = (
        f"{'yes' if hidden else 'no'}: {format_count(local)} local tokens {sign} {format_count(needed)} needed, {why}; "
        f"turns at {format_count(needed * layout.cp)} tokens"
    )
    return TraceStep(
        rule="F5", question=f"Does attention hide the ring's traffic at cp {layout.cp}?", answer=answer,
        value=local, limit=needed, source="formula",
    )  # fmt: skip


def _needs_tp(problem: Problem, best: Plan | None) -> TraceStep:
    question = "Does it need tensor parallelism?"
    layer = 4 * problem.model.layer_parameters * (4 if problem.gpu.precision == "fp32" else 2)
    if best is not None and best.layout.tp > 1:
        answer = f"yes: tp {best.layout.tp} comes out first; it turns where dp_shard × cp alone fits and is faster"
        return TraceStep(
            rule="T5", question=question, answer=answer, value=best.layout.tp, limit=None, source="formula"
        )
    answer = (
        f"no: dp_shard × cp divides the states over {problem.world} GPUs already, and a gathered layer with its gradient is "
        f"{format_bytes(layer)}; it turns when that, or one layer's activations, outgrow a GPU"
    )
    return TraceStep(
        rule="T5", question=question, answer=answer, value=layer, limit=problem.limit_bytes, source="formula"
    )


def _locked(problem: Problem, best: Plan | None, free: Plan | None) -> TraceStep:
    sizes = ", ".join(f"{axis} = {size}" for axis, size in problem.workload.lock.items())
    choice = "nothing fits" if free is None else f"we would choose {free.layout.words}"
    if free is not None and best is not None and free.layout == best.layout:
        choice = "we would choose the same"
    elif free is not None and best is not None:
        ratio = best.tokens_per_s_per_gpu / free.tokens_per_s_per_gpu
        choice += f"; the lock runs at {ratio:.0%} of its speed"
    return TraceStep(
        rule="lock",
        question="What is locked?",
        answer=f"{sizes}; without the lock {choice}",
        value=None,
        limit=None,
        source="formula",
    )


def _decision(problem: Problem, plans: tuple[Plan, ...], rejected: tuple[Rejection, ...]) -> TraceStep:
    question = "Which layout, then?"
    if not plans:
        fix = next((one.fix for one in rejected if one.fix and within_lock(problem, one.layout)), None)
        answer = f"none: {f'{fix}' if fix else 'every layout breaks a rule'}"
        return TraceStep(rule="decision", question=question, answer=answer, value=None, limit=None, source="formula")
    best = plans[0]
    answer = f"{best.layout.words}, recompute {next(iter(best.recompute))}, {format_count(best.tokens_per_s_per_gpu)} tokens/s/GPU"
    other = next((plan for plan in plans if plan.layout != best.layout), None)
    if other is not None:
        answer += f"; next {other.layout.words} with {format_count(other.tokens_per_s_per_gpu)}"
    return TraceStep(
        rule="decision", question=question, answer=answer, value=best.tokens_per_s_per_gpu,
        limit=None if other is None else other.tokens_per_s_per_gpu, source="formula",
    )  # fmt: skip
