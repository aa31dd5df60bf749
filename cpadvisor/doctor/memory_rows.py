"""Does it fit: the predicted peak of a config against what a GPU has to give, and every knob with its peak. D1, L3."""

import shutil
from collections.abc import Iterator

from cpadvisor.check.subject import Config
from cpadvisor.doctor.diagnosis import Diagnosis, Mend
from cpadvisor.doctor.knobs import memory_mends
from cpadvisor.doctor.situation import Situation, peak_of
from cpadvisor.plan.memory import ADAM_BYTES, GRADIENT_BYTES, MASTER_BYTES
from cpadvisor.rundir import nearest_there
from cpadvisor.units import format_bytes
from cpadvisor.write.edit import as_changes

ROWS = ("D1", "L3")
_SEVERITY = {"fits": "ok", "tight": "warning", "no": "error"}
_EFFECT = {
    "tight": "it may run out of memory: the upper end of the prediction is above the limit",
    "no": "it runs out of memory in the first step",
}
CHECKPOINTS_KEPT = 2


def memory_rows(situation: Situation) -> Iterator[Diagnosis]:
    """The peak, and what the states alone take where nothing shards them."""
    whole = _unsharded(situation)
    yield whole if whole is not None else _peak(situation)


def unpredicted(reason: str) -> Diagnosis:
    """In place of the peak where nothing can be predicted."""
    return Diagnosis(
        rule="memory",
        severity="note",
        title="memory and time are not predicted",
        evidence=reason,
        card=ROWS,
    )


def _peak(situation: Situation) -> Diagnosis:
    memory, verdict = situation.memory, situation.memory.verdict
    band = f"{format_bytes(memory.low_bytes)} to {format_bytes(memory.high_bytes)}"
    largest = sorted(memory.terms_bytes.items(), key=lambda item: -item[1])[:3]
    terms = ", ".join(f"{name.replace('_', ' ')} {format_bytes(size)}" for name, size in largest)
    peak, limit = format_bytes(memory.peak_bytes), format_bytes(memory.limit_bytes)
    titles = {"fits": "memory fits", "tight": "memory is tight", "no": "memory does not fit"}
    return Diagnosis(
        rule="memory",
        severity=_SEVERITY[verdict],
        title=f"{titles[verdict]}: {peak} of {limit}",
        evidence=f"peak {peak} ({band}) at {memory.instant} against {limit} on {situation.where}; mostly {terms}",
        effect=_EFFECT.get(verdict),
        mends=memory_mends(situation),
        card=ROWS,
    )


def _unsharded(situation: Situation) -> Diagnosis | None:
    """axolotl without FSDP keeps 16 bytes a parameter on each GPU: 120 GiB for Llama-3.1-8B."""
    config, candidate = situation.config, situation.candidate
    if not config.is_axolotl or config.block("fsdp_config") or candidate.layout.shard_group == 1:
        return None
    states = (MASTER_BYTES + GRADIENT_BYTES + ADAM_BYTES) * candidate.model.parameters // candidate.layout.tp
    limit = situation.problem.limit_bytes
    sharded = peak_of(candidate, reshards=True, limit_bytes=limit)
    severity = "error" if states > limit else "warning"
    mend = Mend(
        text=f"write fsdp_version: 2 and fsdp_config: {format_bytes(sharded.peak_bytes)} at the peak",
        changes=as_changes(config.with_sharding()),
    )
    return Diagnosis(
        rule="memory",
        severity=severity,
        title=f"nothing is sharded: {format_bytes(states)} of states on each GPU",
        evidence=f"16 bytes a parameter of {candidate.model.name} are {format_bytes(states)}, before any activation, "
        f"against {format_bytes(limit)} on {situation.where}",
        effect=_EFFECT["no"] if severity == "error" else _EFFECT["tight"],
        mends=(mend,),
        card=ROWS,
    )


def disk_rows(config: Config) -> Iterator[Diagnosis]:
    """Room for the model that is written at the end, and for the checkpoints that are kept."""
    text = config.values.get("output_dir")
    if config.model is None or not isinstance(text, str):
        return
    path = config.folder / text
    free, need = shutil.disk_usage(nearest_there(path)).free, _output_bytes(config, config.model.parameters)
    seen = f"{format_bytes(free)} free on the disk of {path}; model and checkpoints take {format_bytes(need)}"
    if free >= need:
        yield Diagnosis(rule="disk", severity="ok", title="there is disk for the model", evidence=seen)
        return
    yield Diagnosis(
        rule="disk",
        severity="warning",
        title=f"{format_bytes(free)} free for a model of {format_bytes(need)}",
        evidence=seen,
        effect="the run trains to its end and cannot write what it trained",
        mends=(Mend(text="write output_dir on a larger disk", command="df -h"),),
    )


def _output_bytes(config: Config, parameters: int) -> int:
    """The model in bf16 (float32 on a CPU), and 12 bytes a parameter for each checkpoint that a run resumes from."""
    width = 4 if config.values.get("bf16") is False else 2
    saves = config.values.get("save_steps") and config.values.get("save_strategy") == "steps"
    return parameters * (width + (CHECKPOINTS_KEPT * (MASTER_BYTES + ADAM_BYTES) if saves else 0))
