"""A run that lives as long as the test, whose events are written by hand and come from second 10 of the run."""

import json
import os
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from cpadvisor.processes import ProcessId, identify
from cpadvisor.rundir import boot_id
from cpadvisor.runrecord import RunRecord
from cpadvisor.watch.monitor import Monitor
from runtime.telemetry import events_path

STARTED = 1_795_348_800.0


@pytest.fixture
def record() -> RunRecord:
    """A run whose agent is this very process."""
    return RunRecord(
        run="r",
        model="tiny",
        layout={"dp_shard": 2, "cp": 2},
        sequence_len=8192,
        world=4,
        steps=50,
        started=STARTED,
        host=socket.gethostname(),
        boot_id=boot_id(),
        agent=identify(os.getpid()),
        gpus=(3, 1, 2, 0),
    )


def gone(record: RunRecord) -> ProcessId:
    """An agent whose number another process has now."""
    assert record.agent is not None
    return replace(record.agent, start_ticks=1)


def append(run_dir: Path, rank: int, *events: dict[str, object]) -> None:
    """Write events of one rank."""
    with events_path(run_dir, rank).open("a") as file:
        for event in events:
            file.write(json.dumps({"v": 1, "seq": 0, "t": STARTED + 10, **event}) + "\n")


def monitor_at(run_dir: Path, seconds: float = 12.0) -> Monitor:
    """A monitor that looks so many seconds after the launch."""
    return Monitor(run_dir, clock=lambda: STARTED + seconds)


def step(number: int, **more: object) -> dict[str, object]:
    """A finished step."""
    return {"kind": "step", "step": number, "loss": 4.0, "step_s": 2.0, "tokens_per_s_per_gpu": 1000.0, **more}
