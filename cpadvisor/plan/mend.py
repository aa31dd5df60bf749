"""The nearest single change that makes a layout fit: one knob, tried in the order of what it costs the user.

The card's row D1 names some of the knobs; here each is tried, and comes with its number.
"""

from collections.abc import Callable
from dataclasses import replace

from cpadvisor.plan.engines import CPADVISOR, find_engine
from cpadvisor.plan.layout import Layout, divisors
from cpadvisor.plan.memory import estimate_memory
from cpadvisor.plan.problem import Problem, lightest
from cpadvisor.plan.rules import broken, within_lock
from cpadvisor.plan.workload import ENGINES
from cpadvisor.units import format_bytes, format_tokens

LONGEST_TOKENS = 1 << 26
MAX_GPUS = 4096

Knob = Callable[[Problem, Layout], str | None]


def nearest_mend(problem: Problem, layout: Layout) -> str | None:
    """What to change so that this layout, or the one a step from it, fits; None where no single knob is enough."""
    return next((mend for knob in KNOBS if (mend := knob(problem, layout)) is not None), None)


def fits(problem: Problem, layout: Layout, *, sequence_len: int | None = None) -> bool:
    """Whether the lightest way to run a layout fits with its whole band, at the workload's or another length."""
    light = lightest(problem, layout, sequence_len=sequence_len)
    return estimate_memory(light, limit_bytes=problem.limit_bytes).fits


def goes(problem: Problem, layout: Layout) -> bool:
    """Whether the lightest way to run a layout is expected to fit, if tightly."""
    return estimate_memory(lightest(problem, layout), limit_bytes=problem.limit_bytes).verdict != "no"


def longest_fit(problem: Problem, layout: Layout) -> int:
    """The longest sequence that fits a layout, in units of 512 x cp tokens; 0 where the states alone do not fit."""
    unit = 512 * layout.cp
    if not fits(problem, layout, sequence_len=unit):
        return 0
    low, high = 1, max(LONGEST_TOKENS // unit, 1)
    while low < high:
        middle = (low + high + 1) // 2
        if fits(problem, layout, sequence_len=middle * unit):
            low = middle
        else:
            high = middle - 1
    return low * unit


def more_cp(problem: Problem, layout: Layout) -> str | None:
    """Move ranks from data to context: same GPUs, fewer tokens each."""
    wider = [
        replace(layout, cp=layout.cp * factor, dp_shard=layout.dp_shard // factor)
        for factor in divisors(layout.dp_shard)[1:]
    ]
    starting = [one for one in wider if within_lock(problem, one) and broken(problem, one) is None]
    for enough in (fits, goes):
        found = next((one for one in starting if enough(problem, one)), None)
        if found is not None:
            return f"raise cp to {found.cp} ({found.words})"
    return None


def fewer_tokens(problem: Problem, layout: Layout) -> str | None:
    """The longest sequence that fits, where it is at least a quarter of what is asked."""
    longest = longest_fit(problem, layout)
    if longest * 4 < problem.workload.sequence_len:
        return None
    return f"shorten the sequence to {format_tokens(longest)} tokens"


def another_engine(problem: Problem, layout: Layout) -> str | None:
    """An engine whose memory terms are smaller."""
    for name in (CPADVISOR.name, *ENGINES):
        if name == problem.engine.name:
            continue
        workload = replace(problem.workload, engine=name, cp_method=None)
        other = replace(problem, workload=workload, engine=find_engine(name))
        if fits(other, layout) and broken(other, layout) is None:
            return f"use the engine {name}"
    return None


def more_gpus(problem: Problem, layout: Layout) -> str | None:
    """Twice the nodes, and again: added to dp_shard for the states, to cp for the length; the batch grows too."""
    times = 1
    while (times := times * 2) * problem.world <= MAX_GPUS:
        nodes = problem.workload.nodes * times
        larger = replace(problem, workload=replace(problem.workload, nodes=nodes, global_batch=None, lock={}))
        for wider in (
            replace(layout, dp_shard=layout.dp_shard * times),
            replace(layout, cp=layout.cp * times),
        ):
            if fits(larger, wider) and broken(larger, wider) is None:
                return f"use {wider.world} GPUs ({nodes} such nodes, {wider.words})"
    return None


def more_memory(problem: Problem, layout: Layout) -> str | None:
    """How much a GPU would have to give."""
    needed = estimate_memory(lightest(problem, layout), limit_bytes=problem.limit_bytes).high_bytes
    return f"use GPUs that have {format_bytes(needed)} to give"


KNOBS: tuple[Knob, ...] = (more_cp, fewer_tokens, another_engine, more_gpus, more_memory)
