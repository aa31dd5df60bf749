"""Run directories of runs that have ended, written by hand event by event; times are seconds from the launch."""

import json
from dataclasses import replace
from pathlib import Path

from cpadvisor.runrecord import RunRecord, write_record
from runtime.telemetry import events_path

STARTED = 1_795_348_800.0
PREDICTION = {"peak_bytes": 200, "step_s": 2.0, "tokens_per_s_per_gpu": 1000.0}


class WrittenRun:
    """Two ranks of `tiny` whose processes are gone: of another boot, on no host in particular."""

    def __init__(self, directory: Path, **facts: object) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        record = RunRecord(
            run=directory.name,
            model="tiny",
            layout={"cp": 2},
            sequence_len=8192,
            world=2,
            steps=5,
            started=STARTED,
            prediction=PREDICTION,
        )
        self.record = replace(record, **facts)  # pyright: ignore[reportArgumentType]
        write_record(directory, self.record)

    def event(self, rank: int, seconds: float, kind: str, **fields: object) -> None:
        """Append one event of a rank."""
        line = json.dumps({"v": 1, "seq": 0, "t": STARTED + seconds, "kind": kind, **fields})
        with events_path(self.directory, rank).open("a") as file:
            file.write(line + "\n")

    def begin(self, seconds: float, **fields: object) -> None:
        """Both ranks announce their process, and a second later their model."""
        for rank in range(2):
            self.event(rank, seconds, "process", pid=100 + rank, pid_start=7, door=None, host="h")
            self.event(rank, seconds + 1, "start", pid=100 + rank, pid_start=7, steps=5, **fields)

    def step(self, seconds: float, step: int, loss: float = 4.0, step_s: float = 2.0) -> None:
        """Both ranks finish a step."""
        for rank in range(2):
            speed = 2000.0 / step_s
            self.event(rank, seconds, "step", step=step, loss=loss, step_s=step_s, tokens_per_s_per_gpu=speed)
            self.event(rank, seconds, "memory", allocated_bytes=100, peak_allocated_bytes=180 + 10 * rank)

    def end(self, seconds: float, state: str, **fields: object) -> None:
        """Both ranks say their last word."""
        for rank in range(2):
            self.event(rank, seconds, "end", state=state, **fields)

    def file(self, name: str, **values: object) -> None:
        """A small JSON file beside the events."""
        (self.directory / name).write_text(json.dumps(values))
