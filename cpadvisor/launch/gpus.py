"""Which GPUs a run takes: those of its plan, in the plan's order, that the user may see and nobody holds."""

from dataclasses import dataclass

from cpadvisor.errors import LaunchError, MissingError
from cpadvisor.node import Gpu, Holder, Node
from cpadvisor.units import GIB, format_bytes

HELD_BYTES = GIB
"""A process that holds more is in the way; display servers and monitors hold less."""


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
    visible: str | None,
    force: bool = False,
) -> Choice | None:
    """One GPU a process, or None for CPU processes. `visible` is the user's own CUDA_VISIBLE_DEVICES.

    Raises MissingError where the config needs GPUs and there are none, LaunchError where there are too few, where
    the plan's order names one that may not be used, or where others hold one and `force` is not given.
    """
    if wants_gpu is False:
        return None
    usable = () if node is None else visible_gpus(node, visible)
    if not usable:
        if wants_gpu is None:
            return None
        hidden = f"CUDA_VISIBLE_DEVICES={visible!r} hides them all"
        why = "this machine has no NVIDIA driver" if node is None else hidden
        raise MissingError(
            f"the config says bf16: true, which needs GPUs, and {why}; "
            "write `bf16: false` for CPU processes, or plan anew with `--node cpu`"
        )
    indices = _take(usable, world=world, order=order)
    if node is not None and not force:
        _refuse_held(node.holders, indices)
    return Choice(indices=indices)


def visible_gpus(node: Node, visible: str | None) -> tuple[int, ...]:
    """Indices of the GPUs that CUDA_VISIBLE_DEVICES leaves, in its order; all of them where it is not set.

    CUDA stops at the first entry that it does not know: `0,1,9,2` on a node of 8 shows 0 and 1.
    """
    if visible is None:
        return node.indices
    found: list[int] = []
    for entry in visible.split(","):
        index = _index_of(entry.strip(), node.gpus)
        if index is None:
            break
        if index not in found:
            found.append(index)
    return tuple(found)


def _index_of(entry: str, gpus: tuple[Gpu, ...]) -> int | None:
    if entry.isdigit():
        return next((gpu.index for gpu in gpus if gpu.index == int(entry)), None)
    matches = [gpu.index for gpu in gpus if entry and gpu.uuid is not None and gpu.uuid.startswith(entry)]
    return matches[0] if len(matches) == 1 else None


def _take(usable: tuple[int, ...], *, world: int, order: tuple[int, ...] | None) -> tuple[int, ...]:
    if world > len(usable):
        raise LaunchError(
            f"the sizes in the config multiply to {world} processes, and {len(usable)} GPUs may be used "
            f"({_names(usable)}); make the product {len(usable)}, or start it through Slurm on more nodes"
        )
    if order is None:
        return usable[:world]
    if len(order) != world or len(set(order)) != world:
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


def _refuse_held(holders: tuple[Holder, ...], indices: tuple[int, ...]) -> None:
    held = [
        f"  GPU {holder.gpu}: process {holder.pid} ({holder.user or 'unknown user'}, {holder.command or 'unknown'}) "
        f"holds {format_bytes(holder.used_bytes)}"
        for holder in holders
        if holder.gpu in indices and (holder.used_bytes or 0) > HELD_BYTES
    ]
    if held:
        raise LaunchError(
            "\n".join(("others hold memory of the GPUs of this run:", *held))
            + "\nwait for them, plan with `--gpus` on the others, or start it all the same with --force"
        )


def _names(indices: tuple[int, ...]) -> str:
    return ", ".join(str(index) for index in indices)
