"""What lowers the memory of a config, one knob at a time, in the order of the card's row D1, each with its peak.

micro_batch 1; recomputation; resharding after forward (L3); cp 2 to 4, with accumulation for the same batch; half the
sequence. Flash attention and divisibility, which D1 names too, are checks of their own: neither lowers this peak.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from cpadvisor.check.methods import way_changes
from cpadvisor.doctor.diagnosis import Mend
from cpadvisor.doctor.situation import Situation, peak_of, plan_command, syncs_each_batch, way_of
from cpadvisor.plan.advice import MemoryEstimate, StepEstimate
from cpadvisor.plan.candidate import Candidate
from cpadvisor.plan.layout import Layout
from cpadvisor.plan.links import group_links
from cpadvisor.plan.methods import Way, fitting_way, selected_degree, selected_method
from cpadvisor.plan.placement import rank_order
from cpadvisor.plan.rules import broken
from cpadvisor.plan.step_time import estimate_step
from cpadvisor.units import format_bytes, format_seconds
from cpadvisor.write.edit import REMOVE, Change, as_changes
from cpadvisor.write.split import SIZE_KEYS

LARGEST_CP = 8
"""Card row T2: never above 8."""
SHORTEST_TOKENS = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Turned:
    """A situation with one or more knobs turned."""

    situation: Situation
    candidate: Candidate
    reshards: bool
    order: tuple[int, ...]
    changes: Mapping[str, Any] = field(default_factory=lambda: dict[str, Any]())
    words: tuple[str, ...] = ()

    @property
    def memory(self) -> MemoryEstimate:
        """The peak that it would have."""
        return peak_of(self.candidate, reshards=self.reshards, limit_bytes=self.situation.problem.limit_bytes)

    @property
    def step(self) -> StepEstimate:
        """The step that it would take."""
        candidate = self.candidate
        links = group_links(self.situation.problem.fabric, candidate.layout, self.order, ulysses=candidate.ulysses)
        return estimate_step(candidate, links)

    def turn(self, words: str, changes: Mapping[str, Any], **fields: Any) -> "Turned":
        """The same with one more knob turned; `fields` are those of the candidate."""
        return replace(
            self,
            candidate=replace(self.candidate, **fields),
            changes={**self.changes, **changes},
            words=(*self.words, words),
        )


def unturned(situation: Situation) -> Turned:
    """The file as it is."""
    return Turned(
        situation=situation, candidate=situation.candidate, reshards=situation.reshards, order=situation.order
    )


def memory_mends(situation: Situation) -> tuple[Mend, ...]:
    """Every knob with the peak that it would give: those first that are enough, and only those change the file.

    Where none is enough alone they are turned one after the other, until they are.
    """
    start = unturned(situation)
    turned = [one for knob in KNOBS if (one := knob(start)) is not None and _helps(start, one)]
    enough = [one for one in turned if one.memory.fits]
    others = [one for one in turned if not one.memory.fits]
    together = None if enough else _together(start)
    mends = [_mend(start, one, applies=True) for one in enough]
    if together is not None:
        mends.append(_mend(start, together, applies=True))
    mends += [_mend(start, one, applies=False) for one in others]
    return tuple(mends) if enough or together is not None else (*mends, _plan_anew(situation))


def _helps(start: Turned, one: Turned) -> bool:
    return one.memory.peak_bytes < start.memory.peak_bytes


def _together(start: Turned) -> Turned | None:
    """The knobs turned in their order, each as far as it goes, until the peak fits; None where it never does."""
    state = start
    for knob in KNOBS:
        further = knob(state)
        if further is not None and _helps(state, further):
            state = further
        if state.memory.fits:
            return state
    return None


def _mend(start: Turned, one: Turned, *, applies: bool) -> Mend:
    memory = one.memory
    words = ", and ".join(one.words)
    verdict = "fits" if memory.fits else "tight" if memory.verdict == "tight" else "not enough alone"
    took, takes = start.step.total_s, one.step.total_s
    pace = f"; a step takes {format_seconds(takes)}" + (f" in place of {format_seconds(took)}" if took != takes else "")
    text = f"{words}: {format_bytes(memory.peak_bytes)} at the peak, {verdict}{pace}"
    return Mend(text=text, changes=turned_changes(one) if applies else ())


def _plan_anew(situation: Situation) -> Mend:
    text = "no knob of this file is enough: look for another layout, more GPUs or a shorter sequence"
    return Mend(text=text, command=plan_command(situation.config))


def turned_changes(one: Turned) -> tuple[Change, ...]:
    """The changes of the file, with the prediction that goes with them where the file holds one."""
    return as_changes({**one.changes, **_prediction(one)})


def _prediction(one: Turned) -> dict[str, Any]:
    """What the run is then held against; the first loss does not depend on any knob."""
    if not one.situation.config.block("cpadvisor").get("prediction"):
        return {}
    memory, step = one.memory, one.step
    tokens = one.candidate.global_batch * one.candidate.sequence_len
    figures = {
        "peak_bytes": memory.peak_bytes,
        "low_bytes": memory.low_bytes,
        "high_bytes": memory.high_bytes,
        "terms_bytes": dict(memory.terms_bytes),
        "step_s": step.total_s,
        "step_low_s": step.low_s,
        "step_high_s": step.high_s,
        "tokens_per_s_per_gpu": tokens / step.total_s / one.candidate.layout.world,
    }
    return {
        f"cpadvisor.prediction.{name}": float(f"{value:.6g}") if isinstance(value, float) else value
        for name, value in figures.items()
    }


def _one_sequence(state: Turned) -> Turned | None:
    micro, steps = state.candidate.micro_batch, state.candidate.accumulation
    if micro == 1:
        return None
    words = f"write micro_batch_size: 1 and gradient_accumulation_steps: {steps * micro}"
    changes = {"micro_batch_size": 1, **_accumulation(state, steps * micro)}
    return state.turn(words, changes, micro_batch=1, **_accumulated(state, steps * micro))


def _accumulation(state: Turned, steps: int) -> dict[str, Any]:
    """The lines of so many micro-batches; axolotl is told to keep their gradients sharded."""
    config = state.situation.config
    sync = {"accelerator_config.gradient_accumulation_kwargs.sync_each_batch": True}
    wanted = config.is_axolotl and bool(config.block("fsdp_config")) and not syncs_each_batch(config) and steps > 1
    return {"gradient_accumulation_steps": steps, **(sync if wanted else {})}


def _accumulated(state: Turned, steps: int) -> dict[str, Any]:
    """The same for the candidate."""
    defers = state.candidate.defers_reduction and not state.situation.config.block("fsdp_config")
    return {"accumulation": steps, "defers_reduction": defers}


def _recompute(state: Turned) -> Turned | None:
    """The lightest recomputation that is enough; the heaviest where none is."""
    policies = state.situation.problem.engine.recompute_policies
    now = state.candidate.recompute
    further = policies[policies.index(now) + 1 :] if now in policies else ()
    turned = [_recomputing(state, policy) for policy in further]
    return next((one for one in turned if one.memory.fits), turned[-1] if turned else None)


def _recomputing(state: Turned, policy: str) -> Turned:
    changes: dict[str, Any] = {"gradient_checkpointing": True}
    words = "write gradient_checkpointing: true"
    if not state.situation.config.is_axolotl:
        layers = state.candidate.model.layers
        changes["cpadvisor.recompute"] = {policy: layers}
        words += f" and cpadvisor.recompute: {{{policy}: {layers}}}"
    elif state.situation.config.values.get("torch_compile_regional"):
        changes["torch_compile_regional"] = REMOVE
    return state.turn(words, changes, recompute=policy)


def _reshard(state: Turned) -> Turned | None:
    if state.reshards:
        return None
    key = state.situation.config.fsdp_key("reshard_after_forward")
    return replace(state.turn(f"write {key}: true (card L3)", {key: True}), reshards=True)


def _more_cp(state: Turned) -> Turned | None:
    """Twice the cp on the same GPUs, and again: half the data ranks, twice the accumulation for the same batch."""
    turned = [
        one
        for factor in (2, 4)
        if state.candidate.layout.dp_shard % factor == 0 and (one := _with_cp(state, factor)) is not None
    ]
    return next((one for one in turned if one.memory.fits), turned[-1] if turned else None)


def _with_cp(state: Turned, factor: int) -> Turned | None:
    old, problem = state.candidate.layout, state.situation.problem
    layout = replace(old, cp=old.cp * factor, dp_shard=old.dp_shard // factor)
    asked = replace(problem.workload, sequence_len=state.candidate.sequence_len)
    if layout.cp > LARGEST_CP or broken(replace(problem, workload=asked), layout) is not None:
        return None
    steps = state.candidate.accumulation * factor
    words = (
        f"write context_parallel_size: {layout.cp}, dp_shard_size: {layout.dp_shard} and "
        f"gradient_accumulation_steps: {steps} (the same GPUs and batch)"
    )
    changes = {**cp_changes(state.situation, layout), **_accumulation(state, steps)}
    fields = {**cp_fields(state.situation, layout), **_accumulated(state, steps)}
    return replace(state.turn(words, changes, **fields), order=_reordered(state, layout, changes))


def cp_changes(situation: Situation, layout: Layout) -> dict[str, Any]:
    """The lines of another cp and dp_shard; a block that names the old size follows."""
    config = situation.config
    changes: dict[str, Any] = {SIZE_KEYS["cp"]: layout.cp, **config.with_shards(layout.dp_shard)}
    block = config.block("context_parallel")
    if "size" in block:
        changes["context_parallel.size"] = layout.cp
    for key in ("ulysses_size", "ring_size"):
        if key in block:
            changes[f"context_parallel.{key}"] = REMOVE
    if block.get("backend") == "ulysses" and _way(situation, layout).ulysses < layout.cp:
        changes["context_parallel.backend"] = "usp"
    if not config.is_axolotl:
        changes |= way_changes(config.block("cpadvisor"), _way(situation, layout), config, layout)
    if config.block("cpadvisor").get("rank_order"):
        changes["cpadvisor.rank_order"] = list(_best_order(situation, layout))
    return changes


def cp_fields(situation: Situation, layout: Layout) -> dict[str, Any]:
    """The same for the candidate."""
    way = _way(situation, layout)
    return {"layout": layout, "ulysses": way.ulysses, "cp_method": way.method}


def _way(situation: Situation, layout: Layout) -> Way:
    """How another layout splits attention: by the file's method where that runs it, or as axolotl chooses."""
    problem, config = situation.problem, situation.config
    if not config.is_axolotl:
        return fitting_way(way_of(config, problem, layout), problem.model, layout)
    degree = selected_degree(problem.model, layout, gpus_per_node=problem.gpus)
    return Way(method=selected_method(layout, ulysses=degree), ulysses=degree)


def _best_order(situation: Situation, layout: Layout) -> tuple[int, ...]:
    return rank_order(situation.problem.fabric.node, layout)


def _reordered(state: Turned, layout: Layout, changes: Mapping[str, Any]) -> tuple[int, ...]:
    return _best_order(state.situation, layout) if "cpadvisor.rank_order" in changes else state.order


def _half_the_sequence(state: Turned) -> Turned | None:
    chunks = 2 * state.candidate.layout.cp
    half = state.candidate.sequence_len // 2 // chunks * chunks
    if half < SHORTEST_TOKENS:
        return None
    return state.turn(f"write sequence_len: {half}", {"sequence_len": half}, sequence_len=half)


KNOBS: tuple[Callable[[Turned], Turned | None], ...] = (
    _one_sequence,
    _recompute,
    _reshard,
    _more_cp,
    _half_the_sequence,
)
