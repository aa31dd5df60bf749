"""Which GPUs a run takes: those of its plan, in the plan's order, that the user may see and nobody holds."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cpadvisor.errors import LaunchError, MissingError
from cpadvisor.launch.stopping import marked_runs, may_live
from cpadvisor.node import Node
from cpadvisor.rundir import boot_id, list_runs, shell_name
from cpadvisor.runrecord import read_record
from cpadvisor.units import GIB, format_bytes
from cpadvisor.watch.monitor import Monitor
from cpadvisor.watch.view import LIVE_STATES

HELD_BYTES = GIB
"""A process that holds more is in the way; display servers and monitors hold less."""

PROCESSES_A_CPU = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The GPUs of a run, one a local rank."""

    indices: tuple[int, ...]

    @property
    def devices(self) -> tuple[str, ...]:
        """As CUDA_VISIBLE_DEVICES takes them under CUDA_DEVICE_ORDER=PCI_BUS_ID."""
        return tuple(str(index) for index in self.indices)


def choose_gpus(
    node: Node | None,
    *,
    world: int,
    wants_gpu: bool | None,
    order: tuple[int, ...] | None,
    force: bool = False,
) -> Choice | None:
    """One GPU a process, or None for CPU processes. `node` shows the GPUs that the user may use, None without any.

    Raises MissingError where the config needs GPUs and there are none, LaunchError where there are too few, where
    the plan's order names one that may not be used, or where others hold one and `force` is not given.
    """
    if wants_gpu is False:
        return None
    if node is None:
        if wants_gpu is None:
            return None
        raise MissingError(
            "the config says bf16: true, which needs GPUs, and this machine shows none; "
            "write `bf16: false` for CPU processes, or plan anew with `--node cpu`"
        )
    indices = _take(node.indices, world=world, order=order)
    if not force:
        _refuse_held(node.subset(indices))
    return Choice(indices=indices)


def _take(usable: tuple[int, ...], *, world: int, order: tuple[int, ...] | None) -> tuple[int, ...]:
    if world > len(usable):
        raise LaunchError(
            f"the sizes in the config multiply to {world} processes, and {len(usable)} GPUs may be used "
            f"({_names(usable)}); make the product {len(usable)}, or start it through Slurm on more nodes"
        )
    if order is None:
        return usable[:world]
    names = {index for index in order if isinstance(index, int)}  # a list of a config may hold anything
    if len(order) != world or len(names) != world:
        raise LaunchError(
            f"cpadvisor.rank_order {list(order)} does not name one GPU for each of the {world} processes; "
            f"use {list(usable[:world])}"
        )
    foreign = [index for index in order if index not in usable]
    if foreign:
        raise LaunchError(
            f"cpadvisor.rank_order names GPU {_names(tuple(foreign))}, and only {_names(usable)} may be used; "
            f"set CUDA_VISIBLE_DEVICES to include it, or use {list(usable[:world])}"
        )
    return order


def _refuse_held(node: Node) -> None:
    held = [
        f"  GPU {holder.gpu}: process {holder.pid} ({holder.user or 'unknown user'}, {holder.command or 'unknown'}) "
        f"holds {format_bytes(holder.used_bytes)}"
        for holder in node.holders
        if (holder.used_bytes or 0) > HELD_BYTES
    ]
    seen = {holder.gpu for holder in node.holders}
    held += [
        f"  GPU {gpu.index}: {format_bytes(gpu.used_bytes)} in use by processes that cannot be seen from here"
        for gpu in node.gpus
        if gpu.index not in seen and (gpu.used_bytes or 0) > HELD_BYTES
    ]
    if held:
        raise LaunchError(
            "\n".join(("others hold memory of the GPUs of this run:", *held))
            + "\nwait for them, plan with `--gpus` on the others, or start it all the same with --force"
        )


def refuse_running(root: Path, indices: tuple[int, ...]) -> None:
    """Refuse GPUs that a living run of ours was given; in its first seconds it holds no memory that NVML could show.

    Raises LaunchError naming the run and the command that ends it.
    """
    marks = marked_runs()
    for run_dir in list_runs(root):
        try:
            record = read_record(run_dir)
            shared = sorted(set(record.gpus or ()) & set(indices))
            if not shared or record.boot_id != boot_id() or not may_live(run_dir, record, marks):
                continue
            state = Monitor(run_dir).poll().state
        except LaunchError:  # no launch of ours can be told from it, or it is deleted just now
            continue
        if state in LIVE_STATES:
            raise LaunchError(
                f"run {record.run} is {state} on GPU {_names(shared)}; wait for it, end it with "
                f"`cpadvisor stop {shell_name(run_dir)}`, or start this one beside it with --force"
            )


def refuse_crowd(world: int, *, cpus: int) -> None:
    """Refuse more CPU processes than four a core: each holds half a GiB and all wait for the slowest.

    Raises LaunchError naming both numbers.
    """
    most = PROCESSES_A_CPU * cpus
    if world > most:
        raise LaunchError(
            f"the sizes in the config multiply to {world} processes, and this host has {cpus} CPUs, enough for {most}; "
            "lower context_parallel_size or dp_shard_size, or start them all the same with --force"
        )


def _names(indices: Iterable[int]) -> str:
    return ", ".join(str(index) for index in indices)
