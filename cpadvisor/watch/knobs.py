"""The nearest knob of a config that lowers memory, in the order of the card's row D1, and only one that changes it.

micro_batch 1; flash attention; recomputation; cp 2 to 4 with accumulation; half the sequence. In the phases that hold
no activations, building and the optimizer's step, only more shards help.
"""

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from cpadvisor.write.split import SIZE_KEYS

MOST_CP = 8
"""Card row T2: never above 8."""
SHORTEST = 512
_FLASH = ("flash_attention_2", "flash_attention_3", "flash_attention_4")


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What the knobs turn."""

    config: Mapping[str, Any]
    """The values of the file that ran."""
    subject: str
    """What the doctor is asked about: the path of the file, or the run where the file is gone."""
    model: str | None
    sequence_len: int | None
    world: int

    def whole(self, key: str, default: int) -> int:
        """A whole number from 1 up of the config."""
        value = self.config.get(key)
        return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else default

    @property
    def own(self) -> Mapping[str, Any]:
        """The cpadvisor block; empty in a file for axolotl."""
        block = self.config.get("cpadvisor")
        return block if isinstance(block, dict) else {}

    def degree(self, axis: str) -> int:
        """The size of an axis; the trainer shards over all ranks that the other axes leave."""
        if axis == "dp_shard" and SIZE_KEYS[axis] not in self.config:
            others = self.degree("dp_replicate") * self.degree("tp") * self.degree("cp")
            return max(1, self.world // others)
        return self.whole(SIZE_KEYS[axis], 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Knob:
    """One change."""

    words: str
    command: str | None


def free_others(gpu: int | None) -> Knob:
    """Where other processes hold the memory, nothing in the config helps."""
    where = "the GPU" if gpu is None else f"GPU {gpu}"
    return Knob(words=f"end the other processes on {where}, or plan with --gpus on others", command="cpadvisor inspect")


def whole_segments(launch: str, env: Mapping[str, str]) -> Knob | None:
    """Where fragments hold it: segments that grow, for the next `launch`. None where they do already."""
    newer, older = "PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"
    setting = newer if newer in env else older  # torch reads the older name only where the newer one is not set
    if "expandable_segments:True" in env.get(setting, ""):
        return None
    return Knob(
        words="let the allocator grow its segments instead of leaving holes between them",
        command=f"{setting}=expandable_segments:True {launch}",
    )


def nearest_knob(job: Job, *, phase: str | None) -> Knob | None:
    """The first knob of the order that changes something for this config; None where none is left."""
    knobs = _FOR_STATES if phase in ("build", "optimizer") else _FOR_ACTIVATIONS
    return next((knob for turn in knobs if (knob := turn(job)) is not None), None)


def _micro_batch(job: Job) -> Knob | None:
    size = job.whole("micro_batch_size", 1)
    if size == 1:
        return None
    accumulation = job.whole("gradient_accumulation_steps", 1) * size
    return _doctor(
        job, f"set micro_batch_size to 1, and gradient_accumulation_steps to {accumulation} for the same batch"
    )


def _flash_attention(job: Job) -> Knob | None:
    """The bundled trainer picks a flash kernel by itself."""
    named = job.config.get("attn_implementation")
    if "cpadvisor" in job.config or named in _FLASH or job.config.get("flash_attention") is True:
        return None
    return _doctor(job, "set attn_implementation to flash_attention_2")


def _recompute(job: Job) -> Knob | None:
    """The next policy that keeps less: all but attention where a layer keeps everything, then whole layers."""
    policies = job.own.get("recompute")
    if isinstance(policies, dict) and policies:
        layers = {name: count for name, count in policies.items() if isinstance(count, int)}
        if set(layers) <= {"full"}:
            return None
        if (whole := layers.pop("none", 0)) > 0:
            saved = {**layers, "attention_saved": layers.get("attention_saved", 0) + whole}
            return _doctor(job, f"recompute all but attention: cpadvisor.recompute {_layers(saved)}")
        return _doctor(job, f"recompute every layer: cpadvisor.recompute {_layers({'full': sum(layers.values())})}")
    if job.config.get("gradient_checkpointing") is True:
        return None
    return _doctor(job, "set gradient_checkpointing to true")


def _layers(policies: Mapping[str, int]) -> str:
    """`{attention_saved: 10, full: 22}`, as the config has it."""
    return "{" + ", ".join(f"{name}: {count}" for name, count in sorted(policies.items())) + "}"


def _more_cp(job: Job) -> Knob | None:
    """Twice the cp on the same GPUs: half the data ranks, twice the accumulation."""
    cp, shards, length = 2 * job.degree("cp"), job.degree("dp_shard"), job.sequence_len
    if cp > MOST_CP or shards % 2 or length is None or length % (2 * cp):
        return None
    accumulation = 2 * job.whole("gradient_accumulation_steps", 1)
    return Knob(
        words=f"raise context_parallel_size to {cp}, with dp_shard_size {shards // 2} and "
        f"gradient_accumulation_steps {accumulation} for the same batch on the same GPUs",
        command=_plan(job, length, f" --lock cp={cp}"),
    )


def _half_the_sequence(job: Job) -> Knob | None:
    chunks = 2 * job.degree("cp")
    half = (job.sequence_len or 0) // 2 // chunks * chunks
    if half < SHORTEST:
        return None
    return Knob(words=f"halve sequence_len to {half:,} tokens", command=_plan(job, half))


def _no_replicas(job: Job) -> Knob | None:
    replicas = job.degree("dp_replicate")
    if replicas == 1:
        return None
    shards = replicas * job.degree("dp_shard")
    return _doctor(job, f"shard in place of copying: dp_replicate_size 1 and dp_shard_size {shards}")


def _more_gpus(job: Job) -> Knob | None:
    words = "shard the states over more GPUs, or train a smaller model: no length and no batch lowers them"
    return Knob(words=words, command=None if job.sequence_len is None else _plan(job, job.sequence_len))


def _doctor(job: Job, words: str) -> Knob:
    """The doctor turns a line of the config, with the diff."""
    return Knob(words=words, command=f"cpadvisor doctor {job.subject} --symptom oom")


def _plan(job: Job, sequence_len: int, more: str = "") -> str | None:
    return None if job.model is None else f"cpadvisor plan --model {shlex.quote(job.model)} --seq {sequence_len}{more}"


_FOR_ACTIVATIONS: tuple[Callable[[Job], Knob | None], ...] = (
    _micro_batch,
    _flash_attention,
    _recompute,
    _more_cp,
    _half_the_sequence,
)
_FOR_STATES: tuple[Callable[[Job], Knob | None], ...] = (_no_replicas, _more_gpus)
