"""The CPU side of this machine, and the pseudo-node `cpu` that trains on it."""

import os
from pathlib import Path

import psutil

from cpadvisor.node import Gpu, Host, Node

CPU_PROCESSES = 2
"""Gloo processes of the node `cpu`: the least that makes a ring."""

_MEMORY_LIMITS = ("memory.max", "memory/memory.limit_in_bytes")
"""Where version 2 and version 1 of control groups keep the limit of a container."""


def read_host(*, cgroup: Path = Path("/sys/fs/cgroup")) -> Host:
    """Logical CPUs and memory; a container's memory limit counts where it is the lower one."""
    total = psutil.virtual_memory().total
    return Host(cpus=os.cpu_count() or 1, memory_bytes=min([total, *_limits(cgroup)]))


def _limits(cgroup: Path) -> list[int]:
    limits: list[int] = []
    for name in _MEMORY_LIMITS:
        try:
            text = (cgroup / name).read_text(encoding="ascii").strip()
        except OSError:
            continue
        if text.isdigit():  # version 2 writes `max` where there is none
            limits.append(int(text))
    return limits


def cpu_node(host: Host) -> Node:
    """Two processes of this host as two GPUs named `cpu`, half of its memory each, SYS between them."""
    share = host.memory_bytes // CPU_PROCESSES
    return Node(
        name="cpu",
        source="recorded",
        gpus=tuple(Gpu(index=index, name="cpu", memory_bytes=share) for index in range(CPU_PROCESSES)),
        links=((None, "SYS"), ("SYS", None)),
        host=host,
    )


def nvidia_devices(*, pci: Path = Path("/sys/bus/pci/devices")) -> int:
    """GPUs of NVIDIA that stand on the PCI bus, with or without a driver."""
    found = 0
    for device in pci.glob("*"):
        try:
            vendor = (device / "vendor").read_text(encoding="ascii").strip()
            kind = (device / "class").read_text(encoding="ascii").strip()
        except OSError:
            continue
        # PCI vendor 10de is NVIDIA, class 03 a display controller (0302 on cards without an output).
        found += vendor == "0x10de" and kind.startswith("0x03")
    return found
