"""What is known of a run before it says anything itself: run.json, written whole before the first process starts."""

import json
import operator
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cpadvisor.errors import LaunchError
from cpadvisor.plan.layout import AXES, Layout
from cpadvisor.processes import ProcessId
from cpadvisor.rundir import RUN_FILE, write_atomically

SCHEMA = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """The facts of a launch. `agent` is None until torchrun has been started."""

    run: str
    argv: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=lambda: dict[str, str]())
    """Variables that bear on the training; never tokens or passwords."""
    interpreter: str | None = None
    config: str | None = None
    """The config as the user named it, absolute; the run directory holds the copy that runs."""
    engine: str | None = None
    model: str | None = None
    layout: Mapping[str, int] = field(default_factory=lambda: dict[str, int]())
    sequence_len: int | None = None
    world: int = 1
    steps: int | None = None
    started: float = 0.0
    """Unix seconds."""
    host: str | None = None
    boot_id: str | None = None
    agent: ProcessId | None = None
    prediction: Mapping[str, Any] | None = None
    gpus: tuple[int, ...] | None = None
    """GPU index of each local rank; None on CPU processes."""
    schema: int = SCHEMA

    @property
    def layout_label(self) -> str:
        """`1×2×1×4`: dp_replicate, dp_shard, tp, cp."""
        return Layout(**{axis: self.layout.get(axis, 1) for axis in AXES}).label


def record_json(record: RunRecord) -> dict[str, Any]:
    """The content of run.json."""
    agent = record.agent
    return {
        "schema": record.schema,
        "run": record.run,
        "argv": list(record.argv),
        "env": dict(record.env),
        "interpreter": record.interpreter,
        "config": record.config,
        "engine": record.engine,
        "model": record.model,
        "layout": dict(record.layout),
        "sequence_len": record.sequence_len,
        "world": record.world,
        "steps": record.steps,
        "started": record.started,
        "host": record.host,
        "boot_id": record.boot_id,
        "agent": None if agent is None else {"pid": agent.pid, "start_ticks": agent.start_ticks},
        "prediction": None if record.prediction is None else dict(record.prediction),
        "gpus": None if record.gpus is None else list(record.gpus),
    }


def write_record(run_dir: Path, record: RunRecord) -> None:
    """Replace run.json whole."""
    write_atomically(run_dir / RUN_FILE, json.dumps(record_json(record), indent=1) + "\n")


def read_record(run_dir: Path) -> RunRecord:
    """The record of a run directory. Keys that are missing read as unknown, keys of a newer version are left alone.

    Raises LaunchError where there is no record, it is no JSON object, or holds values of the wrong kind.
    """
    path = run_dir / RUN_FILE
    try:
        values = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise LaunchError(f"{run_dir} is no run: it has no {RUN_FILE}; `cpadvisor runs` lists the runs") from error
    except (OSError, ValueError) as error:
        raise LaunchError(f"cannot read {path}: {error}; the run can only be deleted") from error
    if not isinstance(values, dict):
        raise LaunchError(f"{path} holds a {type(values).__name__}, not an object; the run can only be deleted")
    try:
        return record_from_json(values, run=run_dir.name)
    except (KeyError, TypeError, ValueError) as error:
        raise LaunchError(f"{path} holds what no launch writes ({error}); the run can only be deleted") from error


def record_from_json(values: Mapping[str, Any], *, run: str) -> RunRecord:
    """A record from the content of run.json."""
    agent, prediction, gpus = values.get("agent"), values.get("prediction"), values.get("gpus")
    return RunRecord(
        run=values.get("run", run),
        argv=tuple(values.get("argv", ())),
        env=values.get("env", {}),
        interpreter=values.get("interpreter"),
        config=values.get("config"),
        engine=values.get("engine"),
        model=values.get("model"),
        layout=values.get("layout", {}),
        sequence_len=values.get("sequence_len"),
        world=operator.index(values.get("world", 1)),
        steps=values.get("steps"),
        started=values.get("started", 0.0),
        host=values.get("host"),
        boot_id=values.get("boot_id"),
        agent=ProcessId(pid=agent["pid"], start_ticks=agent["start_ticks"]) if agent else None,
        prediction=prediction,
        gpus=tuple(gpus) if gpus is not None else None,
        schema=values.get("schema", SCHEMA),
    )
