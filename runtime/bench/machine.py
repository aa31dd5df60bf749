"""Where the figures come from: GPUs, driver, versions, and the variables that bear on speed."""

import os
import platform
import re
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch.cuda.nccl import version as nccl_version

from runtime.bench.launch import Ranks

PACKAGES = ("torch", "flash-attn", "flash-attn-4")
DRIVER = Path("/proc/driver/nvidia/version")
RECORDED = ("NCCL_", "TORCH_NCCL_", "CUDA_", "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF", "OMP_NUM_THREADS")
"""Beginnings of names; of the rest of the environment nothing is written down."""


def describe(ranks: Ranks) -> dict[str, Any]:
    """The machine of all ranks. Every rank calls it."""
    is_cuda = ranks.device.type == "cuda"
    return {
        "ranks": ranks.size,
        "device": ranks.device.type,
        "gpus": ranks.gather(torch.cuda.get_device_name(ranks.device) if is_cuda else platform.machine()),
        "driver": driver(DRIVER),
        "versions": versions(),
        "environment": {name: os.environ[name] for name in sorted(os.environ) if name.startswith(RECORDED)},
    }


def versions() -> dict[str, str | None]:
    """Python, torch and the libraries beneath it; None for what is not there."""
    found: dict[str, str | None] = {
        "python": platform.python_version(),
        **{name: _installed(name) for name in PACKAGES},
    }
    cudnn = torch.backends.cudnn.version() if torch.cuda.is_available() else None
    nccl = ".".join(map(str, nccl_version())) if torch.cuda.is_available() else None
    return {**found, "cuda": torch.version.cuda, "cudnn": None if cudnn is None else str(cudnn), "nccl": nccl}


def driver(path: Path) -> str | None:
    """NVIDIA's driver by the kernel's own file: `580.159.04`."""
    with suppress(OSError):
        match = re.search(r"\b\d{3}\.\d+(?:\.\d+)?\b", path.read_text(encoding="utf-8"))
        return match[0] if match else None
    return None


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
