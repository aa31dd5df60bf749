"""The figures under rows of the card: the card's own beside ours, each computed by the planner when it is shown.

A figure's key says its unit; `_share` is a fraction of one, and `_tokens` and `_bytes` are whole numbers.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from cpadvisor.card import ring_table
from cpadvisor.job import Job, Request, build_job
from cpadvisor.plan import card
from cpadvisor.plan.activations import saved_token_bytes
from cpadvisor.plan.advice import Plan
from cpadvisor.plan.cautions import tokens_to_hide
from cpadvisor.plan.layout import Layout, chunk_neighbours
from cpadvisor.plan.links import group_links
from cpadvisor.plan.memory import estimate_memory
from cpadvisor.plan.mend import longest_fit
from cpadvisor.plan.placement import rank_order
from cpadvisor.plan.problem import Problem, lightest, survey
from cpadvisor.plan.search import advise
from cpadvisor.plan.step_time import estimate_step
from cpadvisor.plan.traffic import hop_bytes

Figures = list[dict[str, Any]]

NODE, MODEL = "dgx-a100-80g", "llama-3.1-8b"
"""The machine and the model of row F7, which the other worked cases share."""

GPUS = 8
DEGREES = (1, 2, 4, 8)
LINKED_NODES = ("dgx-h100", "dgx-a100-80g", "pcie-l40s-8", "rtx4090-8")
"""Shipped machines from the best link to the worst: NVLink of two generations, PCIe with and without peer access."""


def figures_of(row: str) -> Figures | None:
    """The figures of one row by its id, one record a line; None where the row has none."""
    work = FIGURES.get(row)
    return None if work is None else work()


def _problem(tokens: int, *, node: str = NODE) -> Problem:
    job = _job(tokens, node=node)
    return survey(job.node, job.gpu, job.workload)


def _job(tokens: int, *, node: str = NODE, cp_method: str | None = "ring") -> Job:
    """A question by the card's own method; None leaves it to the planner."""
    return build_job(Request(node=node, model=MODEL, sequence_len=str(tokens), cp_method=cp_method))


def _layout(cp: int) -> Layout:
    """All eight GPUs over dp_shard and cp."""
    return Layout(dp_shard=GPUS // cp, cp=cp)


def _gpus() -> Figures:
    """F1 for the sizes of C2 and C5."""
    layouts = {"C2": Layout(dp_shard=2, tp=2, cp=2), "C5": Layout(dp_replicate=2, dp_shard=2, tp=2, cp=2)}
    return [
        {
            "row": row,
            "dp_shard": layout.dp_shard,
            "dp_replicate": layout.dp_replicate,
            "tp": layout.tp,
            "cp": layout.cp,
            "gpus": card.gpus_needed(layout),
        }
        for row, layout in layouts.items()
    ]


def _batch() -> Figures:
    """F2: micro-batch 1, accumulation 32, four data ranks."""
    layout = Layout(dp_shard=4)
    sequences = card.effective_batch(micro_batch=1, accumulation=32, layout=layout)
    return [{"micro_batch": 1, "accumulation": 32, "dp_shard": 4, "dp_replicate": 1, "sequences": sequences}]


def _batches_of_the_remedy() -> Figures:
    """D1 raises cp from 2 to 4 and accumulation from 8 to 32."""
    return [
        {
            "layout": layout.words,
            "accumulation": accumulation,
            "sequences": card.effective_batch(micro_batch=1, accumulation=accumulation, layout=layout),
        }
        for layout, accumulation in ((_layout(2), 8), (_layout(4), 16), (_layout(4), 32))
    ]


def _lengths() -> Figures:
    """F3: the card's two examples and the length that it suggests for the second."""
    return [_length(tokens, cp) for tokens, cp in ((16384, 4), (10000, 3), (10002, 3))]


def _length(tokens: int, cp: int) -> dict[str, Any]:
    suggested, (below, above) = card.suggested_length(tokens, cp), chunk_neighbours(tokens, cp)
    return {
        "length_tokens": tokens,
        "cp": cp,
        "card_tokens": suggested,
        "card_local_tokens": suggested // cp,
        "below_tokens": below,
        "above_tokens": None if below == tokens else above,
    }


def _savings() -> Figures:
    """F4 at 32K with everything recomputed: activations, and the peak of a GPU."""
    problem = _problem(32768)
    whole_activations, whole_peak = _memory(problem, 1)
    lines: Figures = []
    for cp in DEGREES:
        activations, peak = _memory(problem, cp)
        lines.append(
            {
                "cp": cp,
                "card_share": card.memory_saving(cp),
                "activations_share": 1 - activations / whole_activations,
                "peak_bytes": peak,
                "peak_share": 1 - peak / whole_peak,
            }
        )
    return lines


def _memory(problem: Problem, cp: int) -> tuple[float, int]:
    """Bytes that the layers save for backward, and the peak, both of one GPU."""
    light = lightest(problem, _layout(cp))
    saved = light.model.layers * saved_token_bytes(light) * light.local_tokens
    return saved, estimate_memory(light, limit_bytes=problem.limit_bytes).peak_bytes


def _overheads() -> Figures:
    """F5 at three lengths: what the ring adds to a step, as the time model has it."""
    lines: Figures = []
    for tokens in (8192, 32768, 131072):
        job = _job(tokens)
        problem = survey(job.node, job.gpu, job.workload)
        plans = _plans(job)
        for cp in DEGREES[1:]:
            lines.append(
                {
                    "tokens": tokens,
                    "cp": cp,
                    "hop_bytes": hop_bytes(lightest(problem, _layout(cp))),
                    "hops": cp - 1,
                    "card_share": card.overhead_percent(cp) / 100,
                    "ring_share": _ring_share(plans.get(_layout(cp))),
                }
            )
    return lines


def _plans(job: Job) -> Mapping[Layout, Plan]:
    return {plan.layout: plan for plan in advise(job.node, job.gpu, job.workload).plans}


def _ring_share(plan: Plan | None) -> float | None:
    """Exposed seconds of the ring over those of everything else; None for a layout that does not fit."""
    if plan is None:
        return None
    ring = plan.step.terms_s.get("ring", 0.0)
    return ring / (plan.step.total_s - ring)


def _choices() -> Figures:
    """F6: the card's table and the first choice for each of its lengths."""
    lines: Figures = []
    for tokens in (4096, 8192, 16384, 32768, 65536, 131072):
        job = _job(tokens, cp_method=None)
        best = advise(job.node, job.gpu, job.workload).plans[0]
        lines.append(
            {
                "tokens": tokens,
                "card_layout": card.table_layout(tokens).words,
                "our_layout": best.layout.words,
                "peak_bytes": best.memory.peak_bytes,
                "tokens_per_s_per_gpu": best.tokens_per_s_per_gpu,
            }
        )
    return lines


def _runs() -> Figures:
    """F7: the card's runs, and the same lengths and cp from the planner."""
    return [_run(run) for run in card.CARD_RUNS]


def _run(run: card.CardRun) -> dict[str, Any]:
    job, layout = _job(run.tokens), _layout(run.cp)
    plan = _plans(job)[layout]
    recomputed_bytes, recomputed_rate = _recomputed(job, layout)
    return {
        "tokens": run.tokens,
        "cp": run.cp,
        "card_gb": run.memory_gb,
        "card_tokens_per_s_per_gpu": run.tokens_per_s_per_gpu,
        "card_share": run.overhead_percent / 100,
        "recomputed_peak_bytes": recomputed_bytes,
        "recomputed_tokens_per_s_per_gpu": recomputed_rate,
        "peak_bytes": plan.memory.peak_bytes,
        "tokens_per_s_per_gpu": plan.tokens_per_s_per_gpu,
        "ring_share": _ring_share(plan),
    }


def _recomputed(job: Job, layout: Layout) -> tuple[int, float]:
    """Peak bytes and tokens a second of a GPU with every layer recomputed."""
    problem = survey(job.node, job.gpu, job.workload)
    light = lightest(problem, layout)
    links = group_links(problem.fabric, layout, rank_order(job.node, layout))
    tokens = light.global_batch * light.sequence_len / layout.world
    return (
        estimate_memory(light, limit_bytes=problem.limit_bytes).peak_bytes,
        tokens / estimate_step(light, links).total_s,
    )


def _links() -> Figures:
    """K5: a ring of two neighbours on machines of each kind of link."""
    lines = list(_hops())
    fastest = lines[0]["hop_bytes_per_s"]
    return [line | {"times_slower": fastest / line["hop_bytes_per_s"]} for line in lines]


def _hops() -> Iterator[dict[str, Any]]:
    for name in LINKED_NODES:
        problem, layout = _problem(32768, node=name), _layout(2)
        links = group_links(problem.fabric, layout, rank_order(problem.fabric.node, layout))
        yield {
            "node": name,
            "link": links["cp_ring"].worst,
            "hop_bytes_per_s": links["cp_ring"].bytes_per_s,
            "tokens_to_hide": tokens_to_hide(lightest(problem, layout), links),
        }


def _reaches() -> Figures:
    """T2: how far each cp carries."""
    problem = _problem(32768)
    return [{"cp": cp, "longest_tokens": longest_fit(problem, _layout(cp))} for cp in DEGREES]


def _ring() -> Figures:
    """P2: four GPUs."""
    return [
        {"step": step} | {f"gpu_{rank}": owner for rank, owner in enumerate(owners)}
        for step, owners in enumerate(ring_table(4))
    ]


FIGURES: Mapping[str, Callable[[], Figures]] = {
    "K5": _links,
    "F1": _gpus,
    "F2": _batch,
    "F3": _lengths,
    "F4": _savings,
    "F5": _overheads,
    "F6": _choices,
    "F7": _runs,
    "D1": _batches_of_the_remedy,
    "T2": _reaches,
    "P2": _ring,
}
