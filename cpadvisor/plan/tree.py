"""The decision tree with its trace: each question, the numbers, the answer, and what would flip it.

Five questions lead to the decision: is the model too large for one GPU, does the length fit without context
parallelism, how much does it need, are its groups on NVLink, is its traffic hidden; then tensor parallelism.
"""

from collections.abc import Iterator
from dataclasses import replace

from cpadvisor.node import is_nvlink
from cpadvisor.plan.activations import FLOAT32_BYTES
from cpadvisor.plan.advice import Plan, Rejection, TraceStep
from cpadvisor.plan.cautions import tokens_to_hide
from cpadvisor.plan.layout import Layout, divisors
from cpadvisor.plan.links import GroupLink, group_links
from cpadvisor.plan.memory import estimate_memory, state_bytes
from cpadvisor.plan.mend import fits, goes, longest_fit
from cpadvisor.plan.placement import rank_order
from cpadvisor.plan.problem import Problem, lightest
from cpadvisor.plan.rules import broken
from cpadvisor.units import format_bytes, format_count, format_parameters, format_percent, format_rate, format_tokens


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
        yield _on_nvlink(group, link)
        if problem.engine.cp_methods:
            yield _is_hidden(problem, group, link)
    if best is not None and best.layout.cp > 1:
        yield _by_which_method(problem, best)
    if problem.world > 1:
        yield _needs_tp(problem, best)
    if problem.workload.lock:
        yield _locked(problem, best, free)
    yield _decision(problem, plans, rejected)


def sharded(problem: Problem, cp: int) -> Layout:
    """All GPUs over dp_shard and cp: the layouts that the tree compares."""
    return Layout(dp_shard=problem.world // cp, cp=cp)


def needed_cp(problem: Problem) -> int | None:
    """The smallest cp at which the length fits on all GPUs, sharded; else the smallest that is tight; else None."""
    starting = [cp for cp in divisors(problem.world) if _starts(problem, sharded(problem, cp))]
    for enough in (fits, goes):
        found = next((cp for cp in starting if enough(problem, sharded(problem, cp))), None)
        if found is not None:
            return found
    return None


def _starts(problem: Problem, layout: Layout) -> bool:
    found = broken(problem, layout)
    return found is None or found.rule == "F2"


def _step(
    rule: str,
    question: str,
    answer: str,
    *,
    value: float | None = None,
    limit: float | None = None,
    source: str = "formula",
) -> TraceStep:
    return TraceStep(rule=rule, question=question, answer=answer, value=value, limit=limit, source=source)


def _yes(holds: bool) -> str:
    return "yes" if holds else "no"


def _fits_one_gpu(problem: Problem) -> TraceStep:
    states, limit = state_bytes(lightest(problem, Layout())), problem.limit_bytes
    answer = (
        f"{_yes(states < limit)}: 16 bytes a parameter are {format_bytes(states)}, a GPU has {format_bytes(limit)}; "
        f"turns at {format_parameters(limit // 16)} parameters"
    )
    return _step("T6", "Do the model's training states fit one GPU?", answer, value=states, limit=limit)


def _fits_sharded(problem: Problem) -> TraceStep:
    states, limit = state_bytes(lightest(problem, sharded(problem, 1))), problem.limit_bytes
    needed = -(-states * problem.world // max(limit, 1))
    turn = f"turns below {needed} GPUs" if needed > 1 else "one GPU would hold them"
    answer = f"{_yes(states < limit)}: {format_bytes(states)} of states a GPU over {problem.world}; {turn}"
    return _step("T6", "Do they fit when sharded over all GPUs?", answer, value=states, limit=limit)


def _fits_without_cp(problem: Problem) -> TraceStep:
    layout = sharded(problem, 1)
    memory = estimate_memory(lightest(problem, layout), limit_bytes=problem.limit_bytes)
    longest = longest_fit(problem, layout)
    turn = f"turns above {format_tokens(longest)} tokens" if longest else "no length fits without it"
    answer = (
        f"{'yes' if memory.fits else 'no'}: up to {format_bytes(memory.high_bytes)} at {memory.instant} with full "
        f"recomputation, {format_bytes(memory.limit_bytes)} to give; {turn}"
    )
    question = "Does the length fit without context parallelism?"
    return _step("T1", question, answer, value=memory.high_bytes, limit=memory.limit_bytes)


def _how_much_cp(problem: Problem, cp: int | None) -> TraceStep:
    world, question = problem.world, "How much context parallelism does the length need?"
    if cp is None:
        answer = f"more than {world}: even cp {world} does not fit; {_reach(problem, sharded(problem, world))}"
        return _step("T6", question, answer, limit=world)
    layout = sharded(problem, cp)
    share = format_tokens(-(-problem.workload.sequence_len // cp))
    tight = "" if fits(problem, layout) else " (tight)"
    answer = f"cp {cp}{tight}: {share} tokens a GPU; with room to spare {_reach(problem, layout)}"
    return _step("T6", question, answer, value=cp, limit=world)


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


def _on_nvlink(layout: Layout, link: GroupLink) -> TraceStep:
    holds, rate = is_nvlink(link.worst), format_rate(link.bytes_per_s)
    turn = "a group beyond the NVLink island turns it" if holds else "NVLink between them turns it"
    answer = f"{_yes(holds)}: the slowest hop is {link.worst}, {rate}; {turn}"
    question = f"Are the groups of cp {layout.cp} on NVLink?"
    return _step("T3", question, answer, value=link.bytes_per_s, source="card")


def _is_hidden(problem: Problem, layout: Layout, link: GroupLink) -> TraceStep:
    candidate = replace(lightest(problem, layout), cp_method="ring", ulysses=1)
    needed, local = tokens_to_hide(candidate, {"cp_ring": link}), candidate.sequence_share
    question = f"Would attention hide a ring's traffic at cp {layout.cp}?"
    if problem.gpu.is_cpu:
        answer = "no: gloo shares the cores that compute; processes on GPUs turn it"
        return _step("F5", question, answer, value=local)
    sign = "≥" if local >= needed else "<"
    answer = (
        f"{_yes(local >= needed)}: {format_count(local)} local tokens {sign} {format_count(needed)} needed, "
        f"2 (kv heads / heads) FLOP/s / (bytes/s); turns at {format_count(needed * layout.cp)} tokens"
    )
    return _step("F5", question, answer, value=local, limit=needed)


def _by_which_method(problem: Problem, best: Plan) -> TraceStep:
    question = "By which method do K and V meet the queries?"
    told = [one.step_s for one in best.methods if one.step_s is not None]
    if best.methods:
        answer = best.method_words
    elif problem.workload.cp_method is not None:
        answer = f"{best.cp_label}, as asked"
    else:
        answer = f"{best.cp_label}, which {problem.engine.name} chooses by the heads"
    return _step("cp-method", question, answer, value=next(iter(told), None), limit=next(iter(told[1:]), None))


def _needs_tp(problem: Problem, best: Plan | None) -> TraceStep:
    question, width = "Does it need tensor parallelism?", 4 if problem.gpu.precision == "fp32" else 2
    if best is not None and best.layout.tp > 1:
        answer = f"yes: tp {best.layout.tp} comes out first; turns where dp_shard × cp alone fits and is faster"
        return _step("T5", question, answer, value=best.layout.tp)
    # Parameters gathered for this layer and the next, its gradient, and the float32 input of its reduction.
    layer = (3 * width + FLOAT32_BYTES) * problem.model.layer_parameters
    answer = (
        f"no: dp_shard × cp divides the states already, and a layer in flight takes {format_bytes(layer)}; "
        "turns when that, or one layer's activations, outgrow a GPU"
    )
    return _step("T5", question, answer, value=layer, limit=problem.limit_bytes)


def _locked(problem: Problem, best: Plan | None, free: Plan | None) -> TraceStep:
    sizes = ", ".join(f"{axis} = {size}" for axis, size in problem.workload.lock.items())
    if free is None:
        choice = "nothing fits either"
    elif best is None:
        choice = f"{free.layout.words} fits"
    elif free.layout == best.layout:
        choice = "the choice is the same"
    else:
        share = format_percent(best.tokens_per_s_per_gpu / free.tokens_per_s_per_gpu)
        choice = f"we would choose {free.layout.words}; the lock runs at {share} of its speed"
    return _step("lock", "What is locked?", f"{sizes}; without the lock {choice}")


def _method_word(plan: Plan) -> str:
    return f" by {plan.cp_label}" if plan.layout.cp > 1 else ""


def _decision(problem: Problem, plans: tuple[Plan, ...], rejected: tuple[Rejection, ...]) -> TraceStep:
    question = "Which layout, then?"
    if not plans:
        fix = next((one.fix for one in rejected if one.fix), "every layout breaks a rule")
        return _step("decision", question, f"none: {fix}")
    best, other = plans[0], next(iter(plans[1:]), None)
    speed = best.tokens_per_s_per_gpu
    how = f"{best.layout.words}{_method_word(best)}, recompute {next(iter(best.recompute))}"
    answer = f"{how}, {format_count(speed)} tokens/s/GPU"
    if other is not None:
        answer += f"; next {other.layout.words}{_method_word(other)} with {format_count(other.tokens_per_s_per_gpu)}"
    return _step("decision", question, answer, value=speed, limit=other and other.tokens_per_s_per_gpu)
