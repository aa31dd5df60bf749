"""The reference card's own rows, as functions, and whether its answer for a workload is ours.

The card's answer is its table by length (row F6) for 8 GPUs of one node, and its decision tree (T6) elsewhere. Where
its scenario C4 or C5 says otherwise, the answer names that too.
"""

from dataclasses import dataclass

from cpadvisor.plan.advice import CardAnswer, Plan
from cpadvisor.plan.layout import Layout
from cpadvisor.plan.problem import Problem
from cpadvisor.units import format_count, format_tokens

LOWEST_CP_TOKENS = 8192
"""T1: context parallelism from 8K up."""
LARGEST_CP = 8
"""T2: 2 or 4, never above 8."""
LARGEST_TP_CP = 8
"""T4: tp x cp within a node."""

_TREE = ((65536, 4), (32768, 4), (8192, 2), (0, 1))
"""T6: from so many tokens, cp; 64K and more also asks for more nodes."""
_TABLE = ((32768, 4, 2), (8192, 2, 2), (0, 1, 1))
"""F6, 8 GPUs of one node: from so many tokens, cp and tp; the rest is dp_shard."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CardRun:
    """One line of row F7: Llama-8B on 8 A100-80GB. The card gives no source."""

    tokens: int
    cp: int
    memory_gb: int
    tokens_per_s_per_gpu: int
    overhead_percent: int


CARD_RUNS = (
    CardRun(tokens=4096, cp=1, memory_gb=35, tokens_per_s_per_gpu=3000, overhead_percent=0),
    CardRun(tokens=8192, cp=2, memory_gb=25, tokens_per_s_per_gpu=2400, overhead_percent=20),
    CardRun(tokens=16384, cp=2, memory_gb=30, tokens_per_s_per_gpu=2000, overhead_percent=33),
    CardRun(tokens=32768, cp=4, memory_gb=25, tokens_per_s_per_gpu=1200, overhead_percent=60),
)
"""F7."""


def gpus_needed(layout: Layout) -> int:
    """F1: dp_shard x dp_replicate x tp x cp. 2 x 1 x 2 x 2 = 8."""
    return layout.dp_shard * layout.dp_replicate * layout.tp * layout.cp


def effective_batch(*, micro_batch: int, accumulation: int, layout: Layout) -> int:
    """F2: micro-batch x accumulation x dp_shard x dp_replicate, cp and tp left out. 1 x 32 x 4 x 1 = 128."""
    return micro_batch * accumulation * layout.dp_shard * layout.dp_replicate


def suggested_length(tokens: int, cp: int) -> int:
    """F3: a length that divides is kept, another goes to the next multiple up: 10,000 over 3 gives 10,002."""
    return tokens if tokens % cp == 0 else (tokens // cp + 1) * cp


def memory_saving(cp: int) -> float:
    """F4: 1 - 1 / cp, which holds for activations alone: 0.5, 0.75, 0.875 at cp 2, 4, 8."""
    return 1 - 1 / cp


def overhead_percent(cp: int) -> float:
    """F5: 20 + 15 x (cp - 1) percent, 0 without cp; 35, 65, 125 at cp 2, 4, 8. No source and no length in it."""
    return 20.0 + 15.0 * (cp - 1) if cp > 1 else 0.0


def tree_cp(tokens: int) -> int:
    """T6 with T1: below 8K cp 1, from 8K cp 2, from 32K cp 4."""
    return next(cp for least, cp in _TREE if tokens >= least)


def table_layout(tokens: int) -> Layout:
    """F6, for 8 GPUs of one node: below 8K dp_shard 8; 8K and 16K cp 2 x tp 2 x dp_shard 2; from 32K cp 4 x tp 2."""
    cp, tp = next((cp, tp) for least, cp, tp in _TABLE if tokens >= least)
    return Layout(dp_shard=8 // (cp * tp), tp=tp, cp=cp)


def card_layout(problem: Problem) -> tuple[Layout | None, str]:
    """The card's layout for a workload and the row it stands in; None where its cp does not divide the GPUs."""
    tokens, world, nodes = problem.workload.sequence_len, problem.world, problem.workload.nodes
    if world == 8 and nodes == 1:
        return table_layout(tokens), "F6"
    if world == 16 and nodes == 2 and tokens >= 65536:
        return Layout(dp_replicate=2, dp_shard=2, tp=2, cp=2), "C5"
    cp = tree_cp(tokens)
    if world < 1 or world % cp:
        return None, "T6"
    return Layout(dp_shard=world // cp, cp=cp), "T6"


def card_answer(problem: Problem, plans: tuple[Plan, ...]) -> CardAnswer:
    """The card's layout beside ours, with agreement or the reason against it."""
    layout, row = card_layout(problem)
    said = _said(problem, layout, row)
    if problem.workload.lock:
        said += " Ours is within the locked sizes."
    if not plans:
        return CardAnswer(layout=layout, agrees=False, why=f"{said} Nothing fits here, the card's layout included.")
    best = plans[0]
    if layout is None:
        return CardAnswer(layout=None, agrees=False, why=f"{said} We choose {best.layout.words}.")
    if layout == best.layout:
        return CardAnswer(layout=layout, agrees=True, why=f"{said} Ours is the same, by memory and time.")
    return CardAnswer(layout=layout, agrees=False, why=f"{said} {_against(layout, best, plans)}")


def _said(problem: Problem, layout: Layout | None, row: str) -> str:
    tokens = problem.workload.sequence_len
    length = format_tokens(tokens)
    if layout is None:
        return f"Row T6 asks for cp {tree_cp(tokens)} at {length}, which does not divide {problem.world} GPUs."
    said = f"Row {row} gives {layout.words} at {length}."
    if row == "F6" and 32768 <= tokens < 65536:
        said += " Scenario C4 gives dp_shard 2 × cp 4 instead; the table by length is the one we call its answer."
    if row in ("F6", "T6") and tokens >= 65536 and problem.workload.nodes == 1:
        said += " It also asks for more nodes from 64K, which memory here decides."
    if row == "C5":
        said += " F6 and T6 give cp 4 there; the scenario is the only row with all four sizes for two nodes."
    return said


def _against(layout: Layout, best: Plan, plans: tuple[Plan, ...]) -> str:
    same = next((plan for plan in plans if plan.layout == layout), None)
    if same is None:
        beyond = f", beyond the {LARGEST_CP} of T2" if best.layout.cp > LARGEST_CP else ""
        return f"Here it does not start or fit (see the rejected layouts); {best.layout.words} does{beyond}."
    ours, theirs = format_count(best.tokens_per_s_per_gpu), format_count(same.tokens_per_s_per_gpu)
    return f"It fits, at {theirs} tokens/s/GPU against {ours} for {best.layout.words}: {_reason(layout, best)}."


def _reason(layout: Layout, best: Plan) -> str:
    if layout.tp > best.layout.tp:
        return "sharding already divides the parameters, and TP's sums hide behind nothing (against T5)"
    if layout.cp > best.layout.cp:
        return f"the length fits at cp {best.layout.cp}, and more cp only makes chunks shorter (against T1, T6)"
    if layout.cp < best.layout.cp:
        return f"the length needs cp {best.layout.cp} for its activations (against T6)"
    return "the other sizes move fewer bytes"
