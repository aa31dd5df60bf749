"""Who holds memory of the GPUs: processes by NVML, their users and commands by psutil."""

import psutil

from cpadvisor.node import Holder, Node
from cpadvisor.probe.nvml_session import Device, Session
from cpadvisor.units import GIB, format_bytes

_LISTS = ("nvmlDeviceGetComputeRunningProcesses", "nvmlDeviceGetGraphicsRunningProcesses")
_UNKNOWN_BYTES = 1 << 63
"""NVML writes the largest number of 64 bits for a figure that it does not have."""

HIDDEN_BYTES = GIB
"""Memory in use without a visible holder that is worth a warning: above what an idle driver takes."""


def read_holders(session: Session, devices: list[Device]) -> tuple[Holder, ...]:
    """One entry a GPU and process, in the order of GPUs and process ids."""
    found: list[Holder] = []
    for device in devices:
        used: dict[int, int | None] = {}
        for function in _LISTS:
            for process in session.ask(function, device.handle) or ():
                held: int | None = process.usedGpuMemory
                known = held is not None and held < _UNKNOWN_BYTES
                used[process.pid] = held if known else used.get(process.pid)
        for pid in sorted(used):
            user, command = _identity(pid)
            found.append(Holder(gpu=device.index, pid=pid, user=user, command=command, used_bytes=used[pid]))
    return tuple(found)


def _identity(pid: int) -> tuple[str | None, str | None]:
    """User and command of a process; in a container the id may be the host's and mean nothing here."""
    try:
        process = psutil.Process(pid)
        user, command = process.username(), process.cmdline() or [process.name()]
    except (psutil.Error, KeyError, OSError):
        return None, None
    return user, " ".join(command)[:200]


def hidden_memory(node: Node) -> tuple[str, ...]:
    """A warning for each GPU whose memory is in use by processes that cannot be seen from here."""
    found: list[str] = []
    for gpu in node.gpus:
        mine = [holder for holder in node.holders if holder.gpu == gpu.index]
        if gpu.used_bytes is not None and gpu.used_bytes > HIDDEN_BYTES and not mine:
            found.append(f"GPU{gpu.index}: {format_bytes(gpu.used_bytes)} in use by processes not visible from here")
    return tuple(found)
