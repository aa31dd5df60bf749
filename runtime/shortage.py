"""Out of GPU memory: which errors say so, and where the memory was when they did.

torch's allocator puts its figures of that moment into the message of its error.
When Python gets to see the error, much of what was held has been freed already,
so the message is read before the allocator is asked.
"""

import re
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from runtime.process import memory
from runtime.progress import Progress
from runtime.weights import local

_SIZE = r"([\d.]+) (bytes|[KMG]iB)"
_UNITS = {"bytes": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_PATTERNS = {
    "requested_bytes": rf"Tried to allocate {_SIZE}",
    "limit_bytes": rf"total capacity of {_SIZE}",
    "free_bytes": rf"of which {_SIZE} is free",
    "allocated_bytes": rf"{_SIZE} is allocated by PyTorch",
    "unused_bytes": rf"{_SIZE} is reserved by PyTorch but unallocated",
}
"""As torch 2.11 and 2.13 word them, each rounded to two decimals of its unit."""

_OTHER_WORDS = re.compile(
    r"CUDA (?:driver )?error: out of memory|Cuda failure \d+ 'out of memory'|CU\w+_STATUS_ALLOC_FAILED"
    r"|CUDA_ERROR_OUT_OF_MEMORY"
)
"""What CUDA itself, NCCL, cuBLAS and cuDNN say when they, not torch's allocator, get no memory."""


def is_shortage(error: BaseException) -> bool:
    """Whether an error says that a GPU has too little memory left."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and _OTHER_WORDS.search(str(error)) is not None


def reason(error: BaseException) -> str:
    """One line for the end of the run: torch's first two sentences, what it tried to allocate and what there was."""
    first, *_ = str(error).removeprefix("CUDA out of memory. ").splitlines() or [""]
    return "out of GPU memory: " + ". ".join(first.split(". ")[:2]).rstrip(".")


def figures(message: str) -> dict[str, int]:
    """The sizes that torch's message names, in bytes; a size that it does not name is absent.

    `7.83 GiB` is 7.83 x 2^30 bytes, so a figure of gibibytes is right to 5 MiB.
    """
    found = {name: re.search(pattern, message) for name, pattern in _PATTERNS.items()}
    return {name: round(float(match[1]) * _UNITS[match[2]]) for name, match in found.items() if match}


def measured(
    error: BaseException, progress: Progress, *, device: torch.device, optimizer: torch.optim.Optimizer | None
) -> dict[str, Any]:
    """The fields of the `out_of_memory` event; None where nothing tells. `optimizer` is None before it is built."""
    told = {**_held_now(device), **figures(str(error))}
    allocated, reserved = told.get("allocated_bytes"), _sum(told, "allocated_bytes", "unused_bytes")
    taken = _sum(told, "allocated_bytes", "unused_bytes", "free_bytes")
    limit = told.get("limit_bytes")
    return {
        "step": progress.step,
        "phase": progress.phase,
        "requested_bytes": told.get("requested_bytes"),
        "free_bytes": told.get("free_bytes"),
        "limit_bytes": limit,
        "allocated_bytes": allocated,
        "reserved_bytes": reserved,
        # What neither is free nor of this allocator: contexts, communicators, other processes.
        "other_bytes": None if limit is None or taken is None else max(limit - taken, 0),
        "terms_bytes": None if allocated is None else terms(allocated, optimizer),
    }


def _sum(told: dict[str, int], *names: str) -> int | None:
    values = [told[name] for name in names if name in told]
    return sum(values) if len(values) == len(names) else None


def _held_now(device: torch.device) -> dict[str, int]:
    """What the allocator and the driver say after the error; nothing where they fail too."""
    try:
        held = memory(device)
        unused = held["reserved_bytes"] - held["allocated_bytes"]
        sizes = {"allocated_bytes": held["allocated_bytes"], "unused_bytes": unused}
        if device.type == "cuda":
            sizes["free_bytes"], sizes["limit_bytes"] = torch.cuda.mem_get_info(device)
        return sizes
    except RuntimeError:
        return {}


def terms(allocated: int, optimizer: torch.optim.Optimizer | None) -> dict[str, int]:
    """What `allocated` bytes are made of on this rank: shards of parameters, gradients and moments, and the rest.

    The rest counts as activations: gathered weights and buffers of FSDP and of the ring are in it. Before there is
    an optimizer nothing but parameters is held.
    """
    if optimizer is None:
        return {"parameters": allocated, "gradients": 0, "optimizer": 0, "activations": 0}
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    moments = [value for state in optimizer.state.values() for value in state.values() if isinstance(value, Tensor)]
    states = {
        "parameters": _bytes(parameters),
        "gradients": _bytes(parameter.grad for parameter in parameters if parameter.grad is not None),
        "optimizer": _bytes(moments),
    }
    return {**states, "activations": max(allocated - sum(states.values()), 0)}


def _bytes(tensors: Iterable[Tensor]) -> int:
    shards = [local(tensor) for tensor in tensors]
    return sum(shard.numel() * shard.element_size() for shard in shards)
