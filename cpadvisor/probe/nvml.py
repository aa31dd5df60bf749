"""This machine's GPUs as the NVIDIA driver describes them, through NVML.

Every call may fail on some product, driver or container and then gives None:
one missing figure never hides the rest. NVML's index is that of `nvidia-smi`
and of CUDA under CUDA_DEVICE_ORDER=PCI_BUS_ID.
"""

import os
import socket
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from cpadvisor.errors import MissingError
from cpadvisor.node import Gpu, Node
from cpadvisor.probe.host import read_host
from cpadvisor.probe.nvml_holders import hidden_memory, read_holders
from cpadvisor.probe.nvml_links import read_links
from cpadvisor.probe.nvml_session import Device, NoGpuError, Session
from cpadvisor.probe.visible import visible_indices
from cpadvisor.probe.witness import Witness, compare

CPU_WORDS, NUMA_WORDS = 32, 8
"""Words of 64 bits in the masks asked for: up to 2,048 CPUs and 512 memory nodes."""


def read_node(
    *, library: Any = None, environment: Mapping[str, str] | None = None, witness: Witness | None = None
) -> Node:
    """The GPUs that this process may use, their links, NICs and holders of memory.

    Raises NoGpuError where there is nothing to read, MissingError where the driver is there and does not answer or
    leaves no GPU that can be used. `library` (pynvml), `environment` and `witness` (`nvidia-smi topo -m`, started
    first because it takes a second) stand in for the machine's own.
    """
    if library is None:
        import pynvml as library
    environment = os.environ if environment is None else environment
    session = _open(library)
    witness = Witness.start() if witness is None else witness
    try:
        return _read(session, environment, witness)
    finally:
        witness.close()
        session.ask("nvmlShutdown")


def _open(library: Any) -> Session:
    try:
        library.nvmlInit()
    except library.NVMLError_LibraryNotFound as error:
        raise NoGpuError("no NVIDIA driver") from error
    except library.NVMLError as error:
        raise MissingError(f"the NVIDIA driver does not answer ({error})") from error
    return Session(library)


def _read(session: Session, environment: Mapping[str, str], witness: Witness) -> Node:
    devices, warnings = session.devices()
    if not devices and not warnings:
        raise NoGpuError("the NVIDIA driver lists no GPU")
    whole = [device for device in devices if not _in_mig_mode(session, device)]
    sliced = [device.index for device in devices if device not in whole]
    if sliced:
        names = ", ".join(f"GPU{index}" for index in sliced)
        warnings.append(
            f"{names} in MIG mode and left out: slices of a GPU have no peer-to-peer; "
            f"`nvidia-smi -i {sliced[0]} -mig 0` makes it whole"
        )
    if not whole:
        raise MissingError("; ".join(warnings))
    links, link_warnings = read_links(session, whole)
    node = Node(
        name=socket.gethostname(),
        source="nvml",
        gpus=tuple(_gpu(session, device) for device in whole),
        links=links,
        host=read_host(),
        holders=read_holders(session, whole),
        warnings=(*warnings, *link_warnings),
    )
    node = compare(node, witness.node())
    node = replace(node, warnings=(*node.warnings, *hidden_memory(node)))
    return _visible(node, environment)


def _in_mig_mode(session: Session, device: Device) -> bool:
    mode = session.ask("nvmlDeviceGetMigMode", device.handle)
    return mode is not None and mode[0] == session.constant("NVML_DEVICE_MIG_ENABLE", 1)


def _gpu(session: Session, device: Device) -> Gpu:
    # Version 2 counts what the driver keeps for itself apart from `used`, as nvidia-smi shows it.
    memory = session.ask("nvmlDeviceGetMemoryInfo", device.handle, version=session.constant("nvmlMemory_v2", None))
    if memory is None:
        memory = session.ask("nvmlDeviceGetMemoryInfo", device.handle)
    cpus = session.ask("nvmlDeviceGetCpuAffinity", device.handle, CPU_WORDS)
    numa = session.ask("nvmlDeviceGetMemoryAffinity", device.handle, NUMA_WORDS, 0)
    return Gpu(
        index=device.index,
        name=session.text("nvmlDeviceGetName", device.handle),
        memory_bytes=None if memory is None else int(memory.total),
        used_bytes=None if memory is None else int(memory.used),
        numa=next(iter(_bits(numa)), None),
        cpus=_ranges(_bits(cpus)) or None,
        uuid=session.text("nvmlDeviceGetUUID", device.handle),
    )


def _bits(words: Any) -> list[int]:
    """Positions of the bits that are set in a mask of 64-bit words, lowest first."""
    if words is None:
        return []
    return [64 * place + bit for place, word in enumerate(words) for bit in range(64) if word >> bit & 1]


def _ranges(numbers: list[int]) -> str:
    """`0-31,64-95` for rising numbers."""
    runs: list[tuple[int, int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], number)
        else:
            runs.append((number, number))
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def _visible(node: Node, environment: Mapping[str, str]) -> Node:
    wanted = environment.get("CUDA_VISIBLE_DEVICES")
    if wanted is None:
        return node
    indices, warnings = visible_indices(wanted, node.gpus)
    by_number = not any(part.strip().startswith("GPU-") for part in wanted.split(","))
    if len({gpu.name for gpu in node.gpus}) > 1 and by_number and environment.get("CUDA_DEVICE_ORDER") != "PCI_BUS_ID":
        warnings = (
            *warnings,
            "the GPUs differ and CUDA numbers them fastest first; set CUDA_DEVICE_ORDER=PCI_BUS_ID so that "
            "CUDA_VISIBLE_DEVICES means the GPUs shown here",
        )
    return replace(node.subset(indices), warnings=(*node.warnings, *warnings))
