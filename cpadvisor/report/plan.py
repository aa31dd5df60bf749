"""The advisor's answer as text: ranked plans, the terms of the first, the trace, rejections, the card's answer."""

from cpadvisor.plan.advice import Advice, MemoryEstimate, Plan, Rejection, StepEstimate, TraceStep
from cpadvisor.report.table import table
from cpadvisor.units import format_bytes, format_count, format_percent, format_seconds, format_tokens

RIGHT = frozenset({0, 4, 5, 6, 7, 8})


def recompute_label(plan: Plan) -> str:
    """`full` where one policy serves all layers, else `full 8, none 24`."""
    if len(plan.recompute) == 1:
        return next(iter(plan.recompute))
    return ", ".join(f"{policy} {layers}" for policy, layers in plan.recompute.items())


def advice_text(advice: Advice, *, top: int) -> str:
    """The whole answer for people; `top` plans and as many rejections."""
    head = f"{advice.model}, {format_tokens(advice.sequence_len)} tokens, {advice.gpus} GPUs of {advice.node}, "
    parts = [head + f"engine {advice.engine}"]
    if advice.plans:
        parts += [plans_table(advice.plans[:top]), plan_text(advice.plans[0])]
    else:
        parts.append("no layout fits")
    parts.append("why\n" + "\n".join(trace_line(step) for step in advice.trace))
    if advice.rejected:
        shown = "\n".join(rejection_line(rejection) for rejection in advice.rejected[:top])
        more = len(advice.rejected) - top
        parts.append(
            f"rejected ({len(advice.rejected)})\n" + shown + (f"\n  … {more} more, all with --json" if more > 0 else "")
        )
    layout = "none" if advice.card.layout is None else advice.card.layout.words
    verdict = "agrees" if advice.card.agrees else "differs"
    parts.append(f"the card says {layout}: {verdict}. {advice.card.why}")
    return "\n\n".join(parts)


def plans_table(plans: tuple[Plan, ...]) -> str:
    """One line a plan, best first."""
    rows = [
        (
            str(rank),
            plan.layout.words,
            plan.cp_label,
            recompute_label(plan),
            format_bytes(plan.memory.peak_bytes),
            format_bytes(plan.memory.limit_bytes),
            format_seconds(plan.step.total_s),
            format_count(plan.tokens_per_s_per_gpu),
            format_percent(plan.mfu),
        )
        for rank, plan in enumerate(plans, start=1)
    ]
    headers = ("#", "layout", "cp by", "recompute", "peak", "limit", "step", "tok/s/GPU", "MFU")
    return table(headers, rows, right=RIGHT)


def plan_text(plan: Plan) -> str:
    """The terms of one plan: memory at its fullest instant, seconds of a step, groups, warnings."""
    order = ",".join(map(str, plan.order))
    lines = [
        f"{plan.layout.words}: micro-batch {plan.micro_batch}, accumulation {plan.accumulation}, GPU order {order}",
        f"memory {memory_line(plan.memory)}",
        f"step   {step_line(plan.step)}",
    ]
    if plan.method_words:
        lines.append(f"cp by  {plan.method_words}")
    return "\n".join(lines + [f"warning: {warning}" for warning in plan.warnings])


def memory_line(memory: MemoryEstimate) -> str:
    """`46.1 GiB (43.0 to 50.2) at backward: parameters 7.5 GiB, …`."""
    terms = ", ".join(f"{name} {format_bytes(size)}" for name, size in memory.terms_bytes.items() if size)
    band = f"{format_bytes(memory.low_bytes)} to {format_bytes(memory.high_bytes)}"
    return f"{format_bytes(memory.peak_bytes)} ({band}) at {memory.instant}: {terms}"


def step_line(step: StepEstimate) -> str:
    """`2.19 s (1.90 s to 2.60 s): matmul 1.20 s, …`."""
    terms = ", ".join(f"{name} {format_seconds(seconds)}" for name, seconds in step.terms_s.items() if seconds)
    return f"{format_seconds(step.total_s)} ({format_seconds(step.low_s)} to {format_seconds(step.high_s)}): {terms}"


def trace_line(step: TraceStep) -> str:
    """`  T1  is context parallelism needed?  yes: …  [formula]`."""
    return f"  {step.rule}  {step.question}  {step.answer}  [{step.source}]"


def rejection_line(rejection: Rejection) -> str:
    """`  tp 2 × cp 4  heads: …; fix`."""
    fix = f"; {rejection.fix}" if rejection.fix else ""
    return f"  {rejection.layout.words}  {rejection.rule}: {rejection.why}{fix}"
