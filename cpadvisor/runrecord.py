"""What is known of a run before it says anything itself: run.json, written whole before the first process starts."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cpadvisor.errors import LaunchError
from cpadvisor.plan.layout import AXES, Layout
from cpadvisor.processes import ProcessId
from cpadvisor.rundir import AGENT_FILE, RUN_FILE, is_file, write_atomically

SCHEMA = 1
MOST_RANKS = 1 << 16
"""Above what any one host starts; whoever reads a record makes room for each rank."""
MOST_SECONDS = 1 << 37
"""Beyond the year 6000; calendars end in 9999."""


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
    keeper: ProcessId | None = None
    """The process that started torchrun and writes its exit status."""
    prediction: Mapping[str, Any] | None = None
    gpus: tuple[int, ...] | None = None
    """GPU index of each local rank; None on CPU processes."""
    attempt: int = 1
    """How often torchrun was started in this directory; `launch --resume` adds one."""
    oom_kills: int | None = None
    """The kernel's count of processes killed for want of memory, at the launch."""
    schema: object = SCHEMA
    """The version that wrote it, a whole number for every version so far."""
    unread: tuple[str, ...] = ()
    """Keys of another version's record whose values have a shape that is unknown here."""

    @property
    def writes_events(self) -> bool:
        """Whether its trainer tells what it does; axolotl leaves nothing but logs."""
        return self.engine in (None, "cpadvisor")

    @property
    def layout_label(self) -> str:
        """`1×2×1×4`: dp_replicate, dp_shard, tp, cp."""
        return Layout(**{axis: self.layout.get(axis, 1) for axis in AXES}).label


def record_json(record: RunRecord) -> dict[str, Any]:
    """The content of run.json."""
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
        "agent": _process_json(record.agent),
        "keeper": _process_json(record.keeper),
        "prediction": None if record.prediction is None else dict(record.prediction),
        "gpus": None if record.gpus is None else list(record.gpus),
        "attempt": record.attempt,
        "oom_kills": record.oom_kills,
    }


_MEND = "mend the file, or stop the run and delete it"


def user_config(record: RunRecord) -> Path | None:
    """The config as the user wrote it, from which the run was started; None where it is gone."""
    return None if record.config is None or not is_file(Path(record.config)) else Path(record.config)


def _process_json(process: ProcessId | None) -> dict[str, int] | None:
    return None if process is None else {"pid": process.pid, "start_ticks": process.start_ticks}


def write_record(run_dir: Path, record: RunRecord) -> None:
    """Replace run.json whole. Raises WriteError, also where the directory is gone."""
    write_atomically(run_dir / RUN_FILE, json.dumps(record_json(record), indent=1) + "\n", makes_folder=False)


def read_record(run_dir: Path) -> RunRecord:
    """The record of a run directory. Keys that are missing read as unknown, keys of a newer version are left alone.

    Where it names no torchrun, what the keeper wrote of it counts: the launch was killed before it could name it.

    Raises LaunchError where there is no record, it is no JSON object, or it is of this version and holds values of the
    wrong kind; in a record of another version those read as unknown and are named in `unread`.
    """
    path = run_dir / RUN_FILE
    try:
        values = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise LaunchError(f"{run_dir} is no run: it has no {RUN_FILE}; `cpadvisor runs` lists the runs") from error
    except (OSError, ValueError, RecursionError) as error:
        raise LaunchError(f"cannot read {path}: {error}; {_MEND}") from error
    if not isinstance(values, dict):
        raise LaunchError(f"{path} holds a {type(values).__name__}, not an object; {_MEND}")
    try:
        record = record_from_json(values, run=run_dir.name)
    except ValueError as error:
        raise LaunchError(f"{path} holds what no launch writes ({error}); {_MEND}") from error
    return record if record.agent is not None else _with_kept_processes(record, run_dir)


def _with_kept_processes(record: RunRecord, run_dir: Path) -> RunRecord:
    try:
        told = json.loads((run_dir / AGENT_FILE).read_text())
        return replace(record, agent=_process(told["agent"]), keeper=_process(told["keeper"]))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return record


def record_from_json(values: Mapping[str, Any], *, run: str) -> RunRecord:
    """A record from the content of run.json. Raises ValueError naming the key for a value of the wrong kind."""
    schema = values.get("schema", SCHEMA)
    known: dict[str, Any] = {}
    unread: list[str] = []
    for key, read in _READERS.items():
        if values.get(key) is None:
            continue
        try:
            known[key] = read(values[key])
        except (KeyError, TypeError, ValueError) as error:
            if schema == SCHEMA:
                raise ValueError(f"{error} in {key}") from error
            unread.append(key)
    return RunRecord(**{"run": run, **known}, schema=schema, unread=tuple(unread))


def _of(*kinds: type) -> Callable[[Any], Any]:
    def read(value: Any) -> Any:
        if not isinstance(value, kinds) or isinstance(value, bool):
            raise TypeError(f"{value!r} is no {kinds[0].__name__}")
        return value

    return read


def _count(value: Any) -> int:
    if _of(int)(value) < 1:
        raise ValueError(f"{value} is below 1")
    return value


def _world(value: Any) -> int:
    if _count(value) > MOST_RANKS:
        raise ValueError(f"{value} is above {MOST_RANKS}, the most ranks of a run,")
    return value


def _finite(value: Any) -> float:
    if not abs(_of(float, int)(value)) < MOST_SECONDS:  # nor is NaN
        raise ValueError(f"{value} is no time, which lies below {MOST_SECONDS}")
    return value


def _process(value: Any) -> ProcessId:
    return ProcessId(pid=_of(int)(value["pid"]), start_ticks=_of(int)(value["start_ticks"]))


_text, _whole, _mapping, _list = _of(str), _of(int), _of(dict), _of(list)

_READERS: Mapping[str, Callable[[Any], Any]] = {
    "run": _text,
    "argv": lambda value: tuple(map(_text, _list(value))),
    "env": _mapping,
    "interpreter": _text,
    "config": _text,
    "engine": _text,
    "model": _text,
    "layout": lambda value: {_text(axis): _count(size) for axis, size in _mapping(value).items()},
    "sequence_len": _whole,
    "world": _world,
    "steps": _whole,
    "started": _finite,
    "host": _text,
    "boot_id": _text,
    "agent": _process,
    "keeper": _process,
    "prediction": _mapping,
    "gpus": lambda value: tuple(map(_whole, _list(value))),
    "attempt": _count,
    "oom_kills": _whole,
}
