"""What one run is asked to do: frozen records that runtime.config fills and every other module reads."""

import math
from dataclasses import dataclass
from pathlib import Path

from runtime.dataset_files import DataSource

METHODS = ("none", "ring", "allgather", "ulysses", "usp")
"""How K and V meet the queries of other ranks. none: the sequence is whole; usp: heads over neighbours, a ring over
the rest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How many ranks each axis has."""

    dp_shard: int
    cp: int
    rank_order: tuple[int, ...] | None
    """The GPU of each local rank; None is 0, 1, 2, …"""
    method: str = "ring"
    """How K and V meet the queries where cp is above 1: ring, allgather, ulysses or usp; `none` where it is 1."""
    ulysses: int = 1
    """Neighbouring ranks of cp among which heads are exchanged: the inner axis; the others send K and V."""

    @property
    def ring_ranks(self) -> int:
        """Ranks of cp over which K and V go, once heads are exchanged: cp / ulysses."""
        return self.cp // self.ulysses

    @property
    def world(self) -> int:
        """Processes in all."""
        return self.dp_shard * self.cp


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """How many sequences of which length make one optimizer step."""

    sequence_len: int
    micro_batch: int
    accumulation: int

    def sequences_per_step(self, sizes: Sizes) -> int:
        """Sequences of one optimizer step over all data ranks: micro-batch x accumulation x dp_shard."""
        return self.micro_batch * self.accumulation * sizes.dp_shard


@dataclass(frozen=True, slots=True, kw_only=True)
class Optimization:
    """AdamW, its schedule, and clipping."""

    learning_rate: float
    schedule: str
    warmup_steps: int | None
    warmup_ratio: float
    weight_decay: float
    beta1: float
    beta2: float
    epsilon: float
    max_grad_norm: float
    fused: bool
    max_steps: int | None
    num_epochs: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Compute:
    """Precision, recomputation, and what FSDP keeps."""

    bf16: bool | None
    """What the config insists on; None leaves it to the device."""
    tf32: bool
    recompute: tuple[tuple[str, int | None], ...]
    """(policy, layers) in the order of the layers; None layers means all."""
    reshard_after_forward: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoints:
    """When the training state is written, so that a run can go on from it."""

    every: float
    """Steps from 1 up; below 1 a share of all steps."""
    keep: int
    """How many of the last states stay on disk."""

    def every_steps(self, steps: int) -> int:
        """Steps from one state to the next in a run of `steps`. 0.25 of 10 steps: 3."""
        return math.ceil(self.every * steps) if self.every < 1 else int(self.every)

    def is_due(self, step: int, steps: int) -> bool:
        """Whether a state is written after step 1, 2, …: every so many steps, and after the last."""
        return step == steps or step % self.every_steps(steps) == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """Everything one run is asked to do. All paths are absolute."""

    path: Path
    run_dir: Path
    """Where events go: the config's folder when that is a run directory, else output_dir."""
    output_dir: Path
    saves_model: bool
    """Whether the model is written when the run is done."""
    checkpoints: Checkpoints | None
    """None writes no training state on the way."""
    model_dir: Path
    """Folder with config.json."""
    weights_dir: Path | None
    """Folder with *.safetensors; None draws weights from the seed."""
    sources: tuple[DataSource, ...]
    """Files to train on; empty means the built-in corpus."""
    tokenizer: Path | None
    """tokenizer.json; None is the bytes tokenizer."""
    sizes: Sizes
    batch: Batch
    optimization: Optimization
    compute: Compute
    seed: int
    warnings: tuple[str, ...]
