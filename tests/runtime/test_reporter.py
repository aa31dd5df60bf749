import os
import time
from pathlib import Path

import pytest
import torch

from runtime.reporter import Reporter, memory, process_start_ticks
from runtime.telemetry import EventReader, events_path


def kinds(folder: Path) -> list[tuple[str, object]]:
    return [(event["kind"], event.get("state")) for event in EventReader(events_path(folder, 0)).poll()]


def test_the_end_is_written_once_and_nothing_after_it(tmp_path: Path) -> None:
    reporter = Reporter(tmp_path / "run", rank=0)
    reporter.emit("step", step=1)
    reporter.end("failed", "first")
    reporter.end("done")
    reporter.emit("step", step=2)
    assert kinds(tmp_path / "run") == [("step", None), ("end", "failed")]


def test_a_heartbeat_comes_only_after_silence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reporter = Reporter(tmp_path, rank=0)
    reporter.emit("step", step=1)
    reporter.heartbeat()
    assert kinds(tmp_path) == [("step", None)]
    monkeypatch.setattr("runtime.reporter.HEARTBEAT_S", 0.01)
    time.sleep(0.02)
    reporter.heartbeat()
    reporter.heartbeat()
    assert kinds(tmp_path) == [("step", None), ("heartbeat", None)]


def test_rank_0_alone_speaks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Reporter(tmp_path, rank=1).warn("rule", "from rank 1")
    Reporter(tmp_path, rank=0).warn("rule", "from rank 0")
    assert capsys.readouterr().out == "warning: from rank 0\n"


def test_memory_on_a_cpu_is_resident_bytes_and_their_peak() -> None:
    before = memory(torch.device("cpu"))
    block = torch.ones(64 * 2**20, dtype=torch.uint8)
    after = memory(torch.device("cpu"))
    assert after["allocated_bytes"] - before["allocated_bytes"] > 60 * 2**20
    assert after["peak_allocated_bytes"] >= after["allocated_bytes"]
    assert block.numel() == 64 * 2**20


def test_the_start_of_a_process_is_field_22_of_its_stat() -> None:
    fields = Path(f"/proc/{os.getpid()}/stat").read_text().rpartition(")")[2].split()
    assert process_start_ticks() == int(fields[22 - 3])
