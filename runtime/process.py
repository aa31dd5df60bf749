"""What the system knows of this process: its name for good, its host, its memory."""

import os
import resource
import socket
from pathlib import Path
from typing import Any

import torch


def identity() -> dict[str, Any]:
    """Pid, start and host: together no other process ever has them."""
    return {"pid": os.getpid(), "pid_start": start_ticks(), "host": socket.gethostname()}


def start_ticks() -> int | None:
    """When this process started, in clock ticks since boot: with the pid it names the process for good."""
    try:
        # Field 22; the name in field 2 may hold blanks, so count after its closing bracket.
        return int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None


def memory(device: torch.device) -> dict[str, int]:
    """Bytes now and at their peak: torch's allocator on a GPU, the process's resident memory on a CPU."""
    if device.type == "cuda":
        stats = torch.cuda.memory_stats(device)
        return {
            "allocated_bytes": stats.get("allocated_bytes.all.current", 0),
            "reserved_bytes": stats.get("reserved_bytes.all.current", 0),
            "peak_allocated_bytes": stats.get("allocated_bytes.all.peak", 0),
            "peak_reserved_bytes": stats.get("reserved_bytes.all.peak", 0),
        }
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    resident = pages * resource.getpagesize()
    # The kernel brings its high-water mark up to date now and then, so the present size can lie above it.
    peak = max(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, resident)
    return {
        "allocated_bytes": resident,
        "reserved_bytes": resident,
        "peak_allocated_bytes": peak,
        "peak_reserved_bytes": peak,
    }
