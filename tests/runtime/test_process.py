import os
import socket
from pathlib import Path

import torch

from runtime.process import identity, memory, start_ticks


def test_memory_on_a_cpu_is_resident_bytes_and_their_peak() -> None:
    before = memory(torch.device("cpu"))
    block = torch.ones(64 * 2**20, dtype=torch.uint8)
    after = memory(torch.device("cpu"))
    assert after["allocated_bytes"] - before["allocated_bytes"] > 60 * 2**20
    assert after["peak_allocated_bytes"] >= after["allocated_bytes"]
    assert block.numel() == 64 * 2**20


def test_the_start_of_a_process_is_field_22_of_its_stat() -> None:
    fields = Path(f"/proc/{os.getpid()}/stat").read_text().rpartition(")")[2].split()
    assert start_ticks() == int(fields[22 - 3])


def test_a_process_is_named_by_pid_start_and_host() -> None:
    assert identity() == {"pid": os.getpid(), "pid_start": start_ticks(), "host": socket.gethostname()}
