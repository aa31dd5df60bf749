"""Which layouts do not start, whatever the memory: each rule with the value, the limit, the reason and a mend.

Rule ids are rows of the reference card (F1, F2, F3) or words. A layout that breaks several is told all of them.
"""

from collections.abc import Callable
from dataclasses import replace

from cpadvisor.node import is_nvlink
from cpadvisor.plan.advice import Rejection
from cpadvisor.plan.layout import Layout, chunk_neighbours
from cpadvisor.plan.links import tp_link
from cpadvisor.plan.methods import method_problem
from cpadvisor.plan.placement import rank_order
from cpadvisor.plan.problem import Problem, batch_splits

Rule = Callable[[Problem, Layout], Rejection | None]


def broken(problem: Problem, layout: Layout) -> Rejection | None:
    """The first rule that a layout breaks, its reason followed by those of the others; None where all hold."""
    found = [rejection for rule in RULES if (rejection := rule(problem, layout)) is not None]
    if not found:
        return None
    return replace(found[0], why="; also ".join(rejection.why for rejection in found))


def _rejection(
    layout: Layout, rule: str, why: str, fix: str | None, *, value: float | None = None, limit: float | None = None
) -> Rejection:
    return Rejection(layout=layout, rule=rule, value=value, limit=limit, why=why, fix=fix)


def product_is_world(problem: Problem, layout: Layout) -> Rejection | None:
    """Card F1: GPUs = dp_shard x dp_replicate x tp x cp."""
    if layout.world == problem.world:
        return None
    others = layout.dp_replicate * layout.tp * layout.cp
    fits = problem.world % others == 0 and problem.world > 0
    fix = f"set dp_shard {problem.world // others}" if fits else f"use sizes whose product is {problem.world}"
    why = f"{layout.words} takes {layout.world} GPUs, the job has {problem.world}"
    return _rejection(layout, "F1", why, fix, value=layout.world, limit=problem.world)


def sequence_splits(problem: Problem, layout: Layout) -> Rejection | None:
    """Card F3, in its zigzag form: 2 x cp equal chunks, unless the engine pads."""
    tokens, chunks = problem.workload.sequence_len, 2 * layout.cp
    if layout.cp == 1 or problem.engine.pads_sequence or tokens % chunks == 0:
        return None
    below, above = chunk_neighbours(tokens, layout.cp)
    nearest = f"use {below} or {above} tokens" if below < tokens else f"use {above} tokens"
    why = f"{tokens} tokens do not split into {chunks} equal chunks (2 x cp {layout.cp})"
    return _rejection(layout, "F3", why, nearest, value=tokens, limit=chunks)


def batch_splits_evenly(problem: Problem, layout: Layout) -> Rejection | None:
    """Card F2: global batch = micro-batch x accumulation x dp_shard x dp_replicate."""
    wanted, ranks = problem.workload.global_batch, layout.data_ranks
    if wanted is None or batch_splits(problem, layout):
        return None
    above = (wanted // ranks + 1) * ranks
    below = wanted // ranks * ranks
    fix = f"use a global batch of {below} or {above}" if below else f"use a global batch of {above}"
    why = f"a global batch of {wanted} does not split over {ranks} data ranks"
    return _rejection(layout, "F2", why, fix, value=wanted, limit=ranks)


def heads_divide(problem: Problem, layout: Layout) -> Rejection | None:
    """TP gives each rank whole query heads and whole KV heads."""
    model = problem.model
    for rule, heads, what in (("tp-heads", model.heads, "query"), ("tp-kv-heads", model.kv_heads, "KV")):
        if heads % layout.tp:
            best = max(tp for tp in range(1, layout.tp) if heads % tp == 0)
            why = f"{heads} {what} heads of {model.name} do not divide over tp {layout.tp}"
            return _rejection(layout, rule, why, f"use tp {best}", value=heads, limit=layout.tp)
    return None


def tp_stays_inside(problem: Problem, layout: Layout) -> Rejection | None:
    """TP sums the hidden state four times a layer with nothing to hide it: inside a node, inside an NVLink island."""
    if layout.tp == 1:
        return None
    if layout.tp > problem.gpus or problem.gpus % layout.tp:
        why = f"tp {layout.tp} does not fit whole groups into a node of {problem.gpus} GPUs"
        return _rejection(layout, "tp-node", why, "lower tp, raise dp_shard", value=layout.tp, limit=problem.gpus)
    if layout.world != problem.world or not _has_nvlink(problem):
        return None
    link = tp_link(problem.fabric, layout, rank_order(problem.fabric.node, layout))
    if is_nvlink(link.worst):
        return None
    why = f"tp {layout.tp} cannot stay within NVLink islands of this node: a group would cross {link.worst}"
    return _rejection(layout, "tp-island", why, "lower tp, raise dp_shard", value=layout.tp)


def _has_nvlink(problem: Problem) -> bool:
    return any(is_nvlink(code) for row in problem.fabric.node.links for code in row)


def engine_has_axes(problem: Problem, layout: Layout) -> Rejection | None:
    """Axes that the trainer does not have yet."""
    folded = f"fold it into dp_shard: dp_shard {layout.dp_shard * layout.tp * layout.dp_replicate}"
    if layout.tp > 1 and not problem.engine.tensor_parallel:
        why = f"the bundled trainer does not do tensor parallelism yet (tp {layout.tp})"
        return _rejection(layout, "trainer-tp", why, folded, value=layout.tp, limit=1)
    if layout.dp_replicate > 1 and not problem.engine.replicas:
        why = f"the bundled trainer does not do replicas yet (dp_replicate {layout.dp_replicate})"
        return _rejection(layout, "trainer-dp-replicate", why, folded, value=layout.dp_replicate, limit=1)
    return None


def engine_has_device(problem: Problem, layout: Layout) -> Rejection | None:
    """Every trainer computes in bf16 on GPUs; on CPU processes, in float32, the bundled one alone."""
    engine, gpu = problem.engine, problem.gpu
    if gpu.is_cpu and not engine.runs_on_cpu:
        why = f"{engine.name} is set up for bf16 and NCCL here, not for processes on a CPU"
        return _rejection(layout, "engine-device", why, "use the engine cpadvisor")
    if not gpu.is_cpu and gpu.precision != "bf16":
        why = f"{engine.name} trains in bf16, which {gpu.product} does not compute"
        return _rejection(layout, "engine-device", why, "use GPUs of the Ampere generation or newer")
    return None


def mesh_starts(problem: Problem, layout: Layout) -> Rejection | None:
    """The mesh arithmetic of axolotl, accelerate and transformers, as far as it refuses a product that is right."""
    engine = problem.engine
    if layout.tp > 1 and layout.cp > 1 and not engine.tp_with_cp:
        why = f"{engine.name} does not start with tp and cp together: its mesh comes out larger than the world"
        return _rejection(layout, "tp-cp", why, f"use tp 1 with dp_shard {layout.dp_shard * layout.tp}")
    if layout.tp > 1 and layout.dp_replicate > 1 and not engine.tp_with_replicas:
        why = (
            f"{engine.name} does not start with tp and dp_replicate together: its mesh comes out larger than the world"
        )
        return _rejection(layout, "tp-replicate", why, f"use dp_replicate 1 with dp_shard {layout.data_ranks}")
    if engine.always_fsdp:
        return None
    if layout.dp_replicate > 1 and layout.dp_shard == 1 and (layout.tp > 1 or layout.cp > 1):
        why = "accelerate refuses replicas of unsharded models (dp_replicate above 1, dp_shard 1) with tp or cp"
        return _rejection(layout, "replicate-shard", why, f"use dp_shard {layout.dp_replicate} with dp_replicate 1")
    if layout.tp == layout.world > 1:
        why = f"tp {layout.tp} takes the whole world, so that FSDP finds no axis to shard over"
        return _rejection(
            layout, "tp-fsdp", why, f"use tp {layout.tp // 2} with dp_shard 2" if layout.tp > 2 else "use tp 1"
        )
    return None


def method_starts(problem: Problem, layout: Layout) -> Rejection | None:
    """The method that is asked for exchanges whole heads, over a degree that divides cp."""
    asked = problem.workload.cp_method
    why = None if asked is None else method_problem(problem.model, layout, asked)
    if why is None:
        return None
    works = [name for name in problem.engine.cp_methods if method_problem(problem.model, layout, name) is None]
    fix = f"use --cp-method {works[-1]}, or leave it out"
    return _rejection(layout, "cp-method", f"{asked} at {layout.words}: {why}", fix, value=layout.cp)


def tied_embeddings(problem: Problem, layout: Layout) -> Rejection | None:
    """axolotl refuses TP for a model whose head is its embedding (loaders/utils.py:139-148)."""
    if layout.tp == 1 or problem.engine.tp_with_tied_embeddings or not problem.model.tied_embeddings:
        return None
    why = f"{problem.engine.name} refuses tp for {problem.model.name}, whose embeddings are tied"
    return _rejection(
        layout, "tp-tied", why, f"use tp 1 with dp_shard {layout.dp_shard * layout.tp}", value=layout.tp, limit=1
    )


RULES: tuple[Rule, ...] = (
    product_is_world,
    engine_has_device,
    engine_has_axes,
    mesh_starts,
    heads_divide,
    method_starts,
    tied_embeddings,
    tp_stays_inside,
    sequence_splits,
    batch_splits_evenly,
)


def within_lock(problem: Problem, layout: Layout) -> bool:
    """Whether a layout has the sizes that the user has fixed."""
    return all(layout.degree(axis) == size for axis, size in problem.workload.lock.items())
