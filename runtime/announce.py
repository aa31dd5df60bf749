"""What a rank tells of its training: once at its start, and after every step."""

import platform
from collections import Counter
from typing import Any

import torch
from torch.cuda import nccl

from runtime import comm, process, traffic
from runtime.data import Dataset
from runtime.kernel_choice import Choice, shadowed_cudnn
from runtime.mesh import Mesh
from runtime.reporter import Reporter
from runtime.trainer import StepResult, Trainer

MUCH_PADDING = 0.5
"""Share of padded positions from which a warning is worth its line."""


def start(
    trainer: Trainer,
    reporter: Reporter,
    *,
    choice: Choice,
    policies: tuple[str, ...],
    dataset: Dataset,
    resumed_from: int | None,
) -> None:
    """The model is built: what runs, where, how much of it; then what the user should know."""
    config, mesh = trainer.config, trainer.mesh
    sizes = config.sizes
    reporter.emit(
        "start",
        rank=mesh.rank,
        world=sizes.world,
        **_place(mesh.device),
        layout={"dp_replicate": 1, "dp_shard": sizes.dp_shard, "tp": 1, "cp": sizes.cp},
        cp_method=sizes.method if sizes.cp > 1 else "none",
        ulysses=sizes.ulysses,
        transports=[comm.carrier(group, mesh.device) for group in mesh.sequence_groups],
        kernel=choice.kernel.name,
        recompute=dict(Counter(policies)),
        sequence_len=config.batch.sequence_len,
        local_tokens=config.batch.sequence_len // sizes.cp * config.batch.micro_batch,
        steps=trainer.steps,
        parameters=trainer.model.parameter_count(),
        global_batch=trainer.loader.sequences_per_step,
        resumed_from=resumed_from,
    )
    for warning in config.warnings:
        reporter.warn("no_effect", warning)
    for reason in choice.passed_over:
        reporter.warn("slower_kernel", reason)
    shadow = shadowed_cudnn()
    if shadow is not None:
        reporter.warn("shadowed_cudnn", shadow)
    for why in filter(None, (comm.obstacle(group, mesh.device) for group in mesh.sequence_groups)):
        reporter.warn(
            "slower_transport",
            f"parts of sequences go through NCCL and not by copy engine: {why}; on two H200 attention took 1.2 times "
            "as long for it at 8,192 tokens, a training at 32,768 no longer",
        )
    if dataset.padded_share() > MUCH_PADDING:
        reporter.warn(
            "padding",
            f"{dataset.padded_share():.0%} of all positions are padding: documents are short; lower sequence_len",
        )


def _place(device: torch.device) -> dict[str, Any]:
    cuda = device.type == "cuda"
    properties = torch.cuda.get_device_properties(device) if cuda else None
    versions: dict[str, str | None] = {"python": platform.python_version(), "torch": torch.__version__}
    if cuda:
        versions["cuda"] = torch.version.cuda
        versions["cudnn"] = str(torch.backends.cudnn.version())
        versions["nccl"] = ".".join(map(str, nccl.version()))
    return {
        **process.identity(),
        "backend": "nccl" if cuda else "gloo",
        "device": properties.name if properties else "cpu",
        "gpu_uuid": f"GPU-{properties.uuid}" if properties else None,
        "versions": versions,
    }


def step(trainer: Trainer, result: StepResult, reporter: Reporter) -> None:
    """A finished step: its figures, the memory after it, what went round the ring."""
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
    # What lanes hold lies beside torch's allocator, which does not count it.
    reporter.emit("memory", **process.memory(trainer.mesh.device), messages_bytes=comm.held_bytes())
    _sequence_traffic(trainer.mesh, reporter)
    reporter.say(
        f"step {reporter.step}/{trainer.steps}  loss {result.loss:.4f}  grad norm {result.grad_norm:.3f}  "
        f"lr {result.learning_rate:.2e}  {speed:,.0f} tokens/s/GPU  {result.seconds:.2f} s"
    )


def _sequence_traffic(mesh: Mesh, reporter: Reporter) -> None:
    """One event for each group in which parts of sequences went from rank to rank."""
    kv_op = "all_gather" if mesh.sizes.method == "allgather" else "send_recv"
    for group, op in ((mesh.kv_group, kv_op), (mesh.heads_group, "all_to_all")):
        if group is None:
            continue
        sent = traffic.take(group.group_name)
        reporter.emit(
            "nccl",
            step=reporter.step,
            group="cp",
            op=op,
            count=sent.messages,
            bytes=sent.sent_bytes,
            wire_s=sent.wire_s(),
            exposed_s=sent.exposed_s(),
        )
