"""One rank's training from its config to the model on disk: set up the parts in order, then step after step."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
import torch.distributed as dist

from runtime import (
    announce,
    checkpoint,
    comm,
    data,
    dataset_files,
    faults,
    model_shape,
    parallel,
    recompute,
    resume,
    shortage,
    tokenizer,
    training_state,
    weights,
)
from runtime import mesh as meshes
from runtime.errors import ConfigError, NotANumberError, TrainerError
from runtime.faults import Fault
from runtime.kernel_choice import Choice, choose_kernel
from runtime.mesh import Mesh
from runtime.model_shape import ModelShape
from runtime.progress import Progress
from runtime.reporter import Reporter
from runtime.settings import TrainConfig
from runtime.trainer import StepResult, Trainer


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """Everything that a rank needs for its first step, and what the start event tells of it."""

    trainer: Trainer
    choice: Choice
    policies: tuple[str, ...]
    """Recomputation, layer by layer."""
    dataset: data.Dataset


def run(config: TrainConfig, reporter: Reporter, *, fault: Fault | None = None, resumes: bool = False) -> None:
    """Train as the config says, on from its newest training state where it `resumes`. Every rank calls it."""
    device = meshes.pick_device(config.sizes)
    own_fault = fault if fault is not None and fault.is_of(meshes.global_rank()) else None
    with _shortage_told(reporter, device):
        built = _build(config, device, own_fault, reporter.progress)
    trainer = built.trainer
    with _shortage_told(reporter, device, trainer.optimizer):
        resumed_from = resume.begin(trainer, reporter, resumes=resumes)
        announce.start(
            trainer,
            reporter,
            choice=built.choice,
            policies=built.policies,
            dataset=built.dataset,
            resumed_from=resumed_from,
        )
        _loop(trainer, reporter, first=resumed_from or 0)
        if config.saves_model:
            _save_model(trainer, reporter)
    # Only here: after a failure the groups end with the process, when its reason is written and no peer is awaited.
    meshes.leave()


@contextmanager
def _shortage_told(
    reporter: Reporter, device: torch.device, optimizer: torch.optim.Optimizer | None = None
) -> Iterator[None]:
    """Out of GPU memory in here is first told as an event, with where the memory was."""
    try:
        yield
    except RuntimeError as error:
        if shortage.is_shortage(error):
            told = shortage.measured(error, reporter.progress, device=device, optimizer=optimizer)
            reporter.emit("out_of_memory", **told)
        raise


def _build(config: TrainConfig, device: torch.device, fault: Fault | None, progress: Progress) -> Built:
    shape = model_shape.load(config.model_dir, sequence_len=config.batch.sequence_len)
    policies = recompute.policy_of_layers(config.compute.recompute, shape.layers)
    bf16 = uses_bf16(config, device)
    torch.set_float32_matmul_precision("high" if config.compute.tf32 else "highest")
    choice = _choose(device, shape, bf16=bf16)
    dataset = _dataset(config, shape)
    mesh = _join(config, device, fault, progress)
    model = parallel.build(
        shape,
        mesh=mesh,
        kernel=choice.kernel.name,
        policies=policies,
        source=weights.source(config.weights_dir, seed=config.seed, std=shape.initializer_range),
        bf16=bf16,
        reshard_after_forward=config.compute.reshard_after_forward,
    )
    trainer = Trainer(config, model=model, mesh=mesh, dataset=dataset, fault=fault)
    return Built(trainer=trainer, choice=choice, policies=policies, dataset=dataset)


def uses_bf16(config: TrainConfig, device: torch.device) -> bool:
    """Bfloat16 on GPUs, whose attention kernels take no float32; float32 on a CPU. The config may only agree."""
    on_gpu = device.type == "cuda"
    if config.compute.bf16 not in (None, on_gpu):
        why = "attention kernels of GPUs take no float32" if on_gpu else "torch sees no GPU here"
        raise ConfigError(
            str(config.path),
            [f"bf16 {str(config.compute.bf16).lower()}, but {why}; write bf16: auto or {str(on_gpu).lower()}"],
        )
    return on_gpu


def _choose(device: torch.device, shape: ModelShape, *, bf16: bool) -> Choice:
    dtype = torch.bfloat16 if bf16 else torch.float32
    try:
        return choose_kernel(device, dtype, heads=shape.heads, kv_heads=shape.kv_heads, head_dim=shape.head_dim)
    except RuntimeError as error:
        if shortage.is_shortage(error):
            raise
        raise TrainerError(str(error)) from None


def _dataset(config: TrainConfig, shape: ModelShape) -> data.Dataset:
    names = ", ".join(str(source.path) for source in config.sources) or dataset_files.PYTHON_STDLIB
    return data.build(
        dataset_files.documents(config.sources),
        tokenizer.load(config.tokenizer),
        sequence_len=config.batch.sequence_len,
        vocab_size=shape.vocab_size,
        name=names,
    )


def _join(config: TrainConfig, device: torch.device, fault: Fault | None, progress: Progress) -> Mesh:
    mesh = meshes.join(config.sizes, device)
    progress.exchanges = partial(comm.begun, mesh.groups)
    if fault is not None and fault.kind == "drop-exchange":
        for group in mesh.sequence_groups:
            comm.keep_own(group.group_name)
    faults.strike(fault, step=0, device=device)
    return mesh


def _loop(trainer: Trainer, reporter: Reporter, *, first: int) -> None:
    reporter.step = first
    checkpoints = trainer.config.checkpoints
    for step in range(first, trainer.steps):
        result = trainer.step(step, reporter)
        reporter.step = step + 1
        _check_numbers(result, trainer.mesh, reporter.step)
        announce.step(trainer, result, reporter)
        if checkpoints is not None and checkpoints.is_due(reporter.step, trainer.steps):
            _save_state(trainer, reporter, keep=checkpoints.keep)


def _check_numbers(result: StepResult, mesh: Mesh, step: int) -> None:
    """Every rank sees the same loss and norm, so all of them or none of them raise."""
    if math.isfinite(result.loss) and math.isfinite(result.grad_norm):
        return
    ranks = _ranks_without_a_number(result.own_loss, mesh)
    named = "rank " + ", ".join(map(str, ranks)) if len(ranks) < mesh.sizes.world else "every rank"
    whose = f" (the part of {named} is not finite)" if ranks and mesh.sizes.world > 1 else ""
    raise NotANumberError(
        f"loss is {result.loss}{whose} and gradient norm {result.grad_norm} at step {step}; "
        "lower learning_rate or max_grad_norm",
        ranks=ranks,
    )


def _ranks_without_a_number(own_loss: float, mesh: Mesh) -> tuple[int, ...]:
    flags = torch.zeros(mesh.sizes.world, device=mesh.device)
    flags[mesh.rank] = float(not math.isfinite(own_loss))
    dist.all_reduce(flags)
    return tuple(rank for rank, flag in enumerate(flags.tolist()) if flag)


def _save_state(trainer: Trainer, reporter: Reporter, *, keep: int) -> None:
    reporter.progress.enter("save")
    reporter.check_place()
    started = time.perf_counter()
    folder, size = training_state.save(
        trainer.config.run_dir,
        reporter.step,
        model=trainer.model,
        optimizer=trainer.optimizer,
        keep=keep,
        rank=trainer.mesh.rank,
    )
    seconds = time.perf_counter() - started
    reporter.emit("checkpoint", step=reporter.step, path=str(folder), seconds=seconds, bytes=size, resumable=True)


def _save_model(trainer: Trainer, reporter: Reporter) -> None:
    reporter.progress.enter("save")
    reporter.check_place()
    config = trainer.config
    started = time.perf_counter()
    beside = {"config.json": config.model_dir / "config.json"}
    if config.tokenizer is not None:
        beside["tokenizer.json"] = config.tokenizer
    size = checkpoint.save(
        trainer.model,
        config.output_dir,
        dtype=torch.bfloat16 if uses_bf16(config, trainer.mesh.device) else torch.float32,
        beside=beside,
        writes=trainer.mesh.rank == 0,
    )
    seconds = time.perf_counter() - started
    reporter.emit(
        "checkpoint", step=reporter.step, path=str(config.output_dir), seconds=seconds, bytes=size, resumable=False
    )
    reporter.say(f"model written to {config.output_dir}")
