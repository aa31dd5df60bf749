"""One rank's training: set up the parts in order, then step after step, then the model on disk."""

import math
import os
import platform
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

import torch
from torch.cuda import nccl

from runtime import checkpoint, data, dataset_files, model_shape, optim, parallel, recompute, tokenizer, weights, zigzag
from runtime import mesh as meshes
from runtime.attention import Choice, choose_kernel
from runtime.errors import ConfigError, TrainerError
from runtime.mesh import Mesh
from runtime.model import CausalLM
from runtime.model_shape import ModelShape
from runtime.reporter import Reporter, memory, process_start_ticks
from runtime.settings import TrainConfig
from runtime.stopwatch import Stopwatch

MUCH_PADDING = 0.5
"""Share of padded positions from which a warning is worth its line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """What one optimizer step gave, the same on every rank but for the seconds."""

    loss: float
    """Mean over all labels of the step."""
    grad_norm: float
    """Before clipping."""
    learning_rate: float
    seconds: float
    split_s: dict[str, float]


def run(config: TrainConfig, reporter: Reporter) -> None:
    """Train as the config says. Every rank of the launch calls it."""
    shape = model_shape.load(config.model_dir, sequence_len=config.batch.sequence_len)
    policies = recompute.policy_of_layers(config.compute.recompute, shape.layers)
    device = meshes.pick_device(config.sizes)
    bf16 = uses_bf16(config, device)
    torch.set_float32_matmul_precision("high" if config.compute.tf32 else "highest")
    choice = _choose(device, shape, bf16=bf16)
    dataset = _dataset(config, shape)
    mesh = meshes.join(config.sizes, device)
    model = parallel.build(
        shape,
        mesh=mesh,
        kernel=choice.kernel.name,
        policies=policies,
        source=weights.source(config.weights_dir, seed=config.seed, std=shape.initializer_range),
        bf16=bf16,
        reshard_after_forward=config.compute.reshard_after_forward,
    )
    trainer = Trainer(config, model=model, mesh=mesh, dataset=dataset)
    _announce(config, trainer, choice, policies, dataset, reporter)
    _loop(trainer, reporter)
    if config.saves_model:
        _save(config, trainer, reporter, bf16=bf16)
    # Only here: after a failure the groups end with the process, when its reason is written and no peer is awaited.
    meshes.leave()


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


class Trainer:
    """The model, its optimizer and its data on one rank."""

    def __init__(self, config: TrainConfig, *, model: CausalLM, mesh: Mesh, dataset: data.Dataset) -> None:
        self.config = config
        self.model = model
        self.mesh = mesh
        self.loader = data.Loader(
            dataset,
            batch=config.batch,
            sizes=config.sizes,
            data_rank=mesh.data_rank,
            cp_rank=mesh.cp_rank,
            seed=config.seed,
            device=mesh.device,
        )
        self.steps = config.optimization.max_steps or self.loader.steps_of(config.optimization.num_epochs)
        self.optimizer = optim.build(model, config.optimization)
        self._positions_S = zigzag.positions(
            mesh.cp_rank, config.sizes.cp, config.batch.sequence_len, device=mesh.device
        )
        self._stopwatch = Stopwatch(mesh.device)

    @property
    def tokens_per_step(self) -> int:
        """Positions that all ranks together work on in a step, padding included."""
        return self.loader.sequences_per_step * self.config.batch.sequence_len

    def step(self, step: int, reporter: Reporter) -> StepResult:
        """Step 0, 1, …: forward and backward of every micro-batch, clip, update. Waits for the device once."""
        watch = self._stopwatch
        watch.start()
        loss = self.accumulate(step, reporter)
        gradients = parallel.local_gradients(self.model)
        loss, norm = optim.reduce_loss_and_norm(loss, gradients, self.mesh.shard_mesh.get_group())
        options = self.config.optimization
        optim.clip_(gradients, norm, options.max_grad_norm)
        rate = optim.learning_rate(step, steps=self.steps, options=options)
        optim.set_learning_rate(self.optimizer, rate)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        watch.lap("optimizer")
        loss_value, norm_value = torch.stack((loss, norm)).tolist()
        return StepResult(
            loss=loss_value,
            grad_norm=norm_value,
            learning_rate=rate,
            seconds=watch.step_s(),
            split_s=watch.split_s(),
        )

    def accumulate(self, step: int, reporter: Reporter) -> torch.Tensor:
        """Gradients of a whole step into the parameters; this rank's part of the mean loss."""
        scale = 1.0 / max(self.loader.labelled_tokens(step), 1)
        loss = torch.zeros((), device=self.mesh.device)
        for index in range(self.config.batch.accumulation):
            batch = self.loader.micro_batch(step, index)
            self._stopwatch.lap("data")
            part = self.model(batch.inputs, self._positions_S, batch.labels, scale)
            self._stopwatch.lap("forward")
            part.backward()
            self._stopwatch.lap("backward")
            loss += part.detach()
            reporter.heartbeat()
        return loss


def _choose(device: torch.device, shape: ModelShape, *, bf16: bool) -> Choice:
    dtype = torch.bfloat16 if bf16 else torch.float32
    try:
        return choose_kernel(device, dtype, heads=shape.heads, kv_heads=shape.kv_heads, head_dim=shape.head_dim)
    except RuntimeError as error:
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


def _announce(
    config: TrainConfig,
    trainer: Trainer,
    choice: Choice,
    policies: tuple[str, ...],
    dataset: data.Dataset,
    reporter: Reporter,
) -> None:
    mesh, sizes = trainer.mesh, config.sizes
    reporter.emit(
        "start",
        rank=mesh.rank,
        world=sizes.world,
        **_process(mesh.device),
        layout={"dp_replicate": 1, "dp_shard": sizes.dp_shard, "tp": 1, "cp": sizes.cp},
        cp_method="ring" if sizes.cp > 1 else "none",
        kernel=choice.kernel.name,
        recompute=dict(Counter(policies)),
        sequence_len=config.batch.sequence_len,
        local_tokens=config.batch.sequence_len // sizes.cp * config.batch.micro_batch,
        steps=trainer.steps,
        parameters=trainer.model.parameter_count(),
        global_batch=trainer.loader.sequences_per_step,
    )
    for warning in config.warnings:
        reporter.warn("no_effect", warning)
    for reason in choice.passed_over:
        reporter.warn("slower_kernel", reason)
    if dataset.padded_share() > MUCH_PADDING:
        reporter.warn(
            "padding",
            f"{dataset.padded_share():.0%} of all positions are padding: documents are short; lower sequence_len",
        )


def _process(device: torch.device) -> dict[str, Any]:
    cuda = device.type == "cuda"
    properties = torch.cuda.get_device_properties(device) if cuda else None
    versions: dict[str, str | None] = {"python": platform.python_version(), "torch": torch.__version__}
    if cuda:
        versions["cuda"] = torch.version.cuda
        versions["cudnn"] = str(torch.backends.cudnn.version())
        versions["nccl"] = ".".join(map(str, nccl.version()))
    return {
        "pid": os.getpid(),
        "pid_start": process_start_ticks(),
        "backend": "nccl" if cuda else "gloo",
        "device": properties.name if properties else "cpu",
        "gpu_uuid": f"GPU-{properties.uuid}" if properties else None,
        "versions": versions,
    }


def _loop(trainer: Trainer, reporter: Reporter) -> None:
    for step in range(trainer.steps):
        result = trainer.step(step, reporter)
        reporter.step = step + 1
        if not (math.isfinite(result.loss) and math.isfinite(result.grad_norm)):
            raise TrainerError(
                f"loss is {result.loss} and gradient norm {result.grad_norm} at step {step + 1}; "
                "lower learning_rate or max_grad_norm"
            )
        _report(trainer, result, reporter)


def _report(trainer: Trainer, result: StepResult, reporter: Reporter) -> None:
    speed = trainer.tokens_per_step / result.seconds / trainer.config.sizes.world
    reporter.emit(
        "step",
        step=reporter.step,
        loss=result.loss,
        grad_norm=result.grad_norm,
        lr=result.learning_rate,
        tokens=trainer.tokens_per_step,
        step_s=result.seconds,
        split_s=result.split_s,
        tokens_per_s_per_gpu=speed,
    )
    reporter.emit("memory", **memory(trainer.mesh.device))
    reporter.say(
        f"step {reporter.step}/{trainer.steps}  loss {result.loss:.4f}  grad norm {result.grad_norm:.3f}  "
        f"lr {result.learning_rate:.2e}  {speed:,.0f} tokens/s/GPU  {result.seconds:.2f} s"
    )


def _save(config: TrainConfig, trainer: Trainer, reporter: Reporter, *, bf16: bool) -> None:
    started = time.perf_counter()
    beside = {"config.json": config.model_dir / "config.json"}
    if config.tokenizer is not None:
        beside["tokenizer.json"] = config.tokenizer
    size = checkpoint.save(
        trainer.model,
        config.output_dir,
        dtype=torch.bfloat16 if bf16 else torch.float32,
        beside=beside,
        writes=trainer.mesh.rank == 0,
    )
    seconds = time.perf_counter() - started
    reporter.emit("checkpoint", step=reporter.step, path=str(config.output_dir), seconds=seconds, bytes=size)
    reporter.say(f"model written to {config.output_dir}")
