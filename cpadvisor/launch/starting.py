"""Starting a run: choose interpreter and GPUs, fill the run directory, start torchrun in a session of its own."""

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from cpadvisor import catalog
from cpadvisor.errors import MissingError, ModelError, WriteError
from cpadvisor.launch.gpus import Choice, choose_gpus, refuse_crowd, refuse_running
from cpadvisor.launch.interpreter import find_python, modules_of
from cpadvisor.launch.jobfile import JobFile, read_job, with_absolute_paths
from cpadvisor.launch.lock import LOCK_FILE, held
from cpadvisor.launch.port import require_free_port
from cpadvisor.launch.spawning import Launch, ask_trainer, spawn
from cpadvisor.launch.stopping import abandon
from cpadvisor.model import ModelSpec
from cpadvisor.node import Node
from cpadvisor.rundir import CODE_FOLDER, CONFIG_FILE, create_run, make_root, runs_root, write_atomically, write_ballast
from cpadvisor.runrecord import RunRecord
from runtime import telemetry


def start(
    config: Path,
    *,
    runs: Path | None = None,
    python: str | None = None,
    force: bool = False,
    engine: str | None = None,
    port: int | None = None,
    purpose: str = "",
    environ: Mapping[str, str] = os.environ,
) -> Path:
    """Start the training that a config file describes; gives its run directory at once.

    The run outlives this process: it has its own session, no terminal and no inherited descriptors. `force` takes
    GPUs that others hold; `purpose` stands in the directory's name; `environ` is what the run inherits. Raises
    ConfigError, UsageError (no such port), MissingError (no torch, no GPU), LaunchError (too few or held GPUs, a port
    that is taken) or WriteError, each before anything was started.
    """
    job = read_job(config, engine=engine)
    interpreter = find_python(python, modules=modules_of(job.engine))
    if port is not None:
        require_free_port(port)
    root = runs_root(runs)
    with sharing_out(root, job):
        choice, model = choose(root, job, force=force), _model(job)
        with _fresh_run(root, job, model, purpose) as run_dir:
            code = _fill(run_dir, job, model)
            launch = Launch(
                job=job,
                run_dir=run_dir,
                interpreter=interpreter,
                choice=choice,
                code=code,
                port=port,
                environ=dict(environ),
            )
            ask_trainer(launch)
            spawn(launch, _record(job, run_dir, model))
    return run_dir


def sharing_out(root: Path, job: JobFile) -> AbstractContextManager[None]:
    """Let one launch at a time choose GPUs and record them, so that each sees what the one before it took.

    CPU processes share what there is, and need no turn.
    """
    if job.wants_gpu is False:
        return contextlib.nullcontext()
    make_root(root)
    return held(root / LOCK_FILE)


def choose(root: Path, job: JobFile, *, force: bool) -> Choice | None:
    """The GPUs of a run, None for CPU processes; what others hold or would be crowded is refused unless `force`."""
    choice = choose_gpus(
        None if job.wants_gpu is False else _node(required=job.wants_gpu is True),
        world=job.world,
        wants_gpu=job.wants_gpu,
        order=job.rank_order,
        force=force,
    )
    if force:
        return choice
    if choice is None:
        refuse_crowd(job.world, cpus=os.cpu_count() or 1)
    else:
        refuse_running(root, choice.indices)
    return choice


@contextlib.contextmanager
def _fresh_run(root: Path, job: JobFile, model: ModelSpec | None, purpose: str) -> Iterator[Path]:
    """A new run directory; neither it nor a process is left where the block fails."""
    named = "-".join(filter(None, (_model_name(job, model), purpose)))
    run_dir = create_run(root, model=named, layout=_layout_name(job))
    try:
        yield run_dir
    except BaseException:
        abandon(run_dir)
        shutil.rmtree(run_dir, ignore_errors=True)
        raise


def _node(*, required: bool) -> Node | None:
    """The GPUs that this user may use, None without any; what keeps them from being used is an error where required."""
    from cpadvisor.probe import nvml, witness  # NVML is asked only where the config may want GPUs

    try:
        return nvml.read_node(witness=witness.Witness(None))
    except nvml.NoGpuError:
        return None
    except MissingError:
        if required:
            raise
        return None


def _model(job: JobFile) -> ModelSpec | None:
    """The model's shape for the bundled trainer; None where base_model is a folder that holds it, or for axolotl."""
    if job.engine != "cpadvisor":
        return None
    base = job.values.get("base_model")
    if isinstance(base, str) and (job.path.parent / Path(base).expanduser()).is_dir():
        return None
    hub_ids = {spec.hub_id: spec for spec in catalog.load_models().values() if spec.hub_id is not None}
    if job.model in hub_ids:
        return hub_ids[job.model]
    try:
        return catalog.find_model(job.model)
    except ModelError as error:
        key = "cpadvisor.model" if job.own.get("model") else "base_model"
        raise ModelError(f"{job.path}: {key}: {error}") from error


def _model_name(job: JobFile, model: ModelSpec | None) -> str:
    return model.name if model is not None else Path(job.model).name


def _layout_name(job: JobFile) -> str:
    return "x".join(str(degree) for degree in job.layout.values())


def _fill(run_dir: Path, job: JobFile, model: ModelSpec | None) -> Path | None:
    """Write config and model shape, and copy the trainer; gives the folder of the copy, None for axolotl."""
    write_atomically(run_dir / CONFIG_FILE, with_absolute_paths(job))
    if model is not None:
        text = json.dumps(catalog.config_json(model), indent=1) + "\n"
        write_atomically(run_dir / "model" / "config.json", text)
    code = copy_trainer(run_dir) if job.engine == "cpadvisor" else None
    write_ballast(run_dir)
    return code


def copy_trainer(run_dir: Path) -> Path:
    """The trainer as it is now, beside the run: an upgrade in mid-run, or before a resume, then changes nothing."""
    code = run_dir / CODE_FOLDER
    source = Path(telemetry.__file__).parent

    def copy(file: str, target: str) -> None:
        # Told at once and as no OSError, which copytree would gather and go on.
        try:
            shutil.copy2(file, target)
        except OSError as error:
            raise _cannot_copy(code, error) from error

    try:
        shutil.copytree(source, code / source.name, ignore=shutil.ignore_patterns("__pycache__"), copy_function=copy)
    except OSError as error:
        raise _cannot_copy(code, error) from error
    return code


def _cannot_copy(code: Path, error: OSError) -> WriteError:
    why = error.strerror or str(error)
    return WriteError(f"cannot copy the trainer into {code}: {why}; free some space or give --runs DIR")


def _record(job: JobFile, run_dir: Path, model: ModelSpec | None) -> RunRecord:
    """What is trained; `spawn` adds when, where and how."""
    prediction: Any = job.own.get("prediction")
    length, steps = job.values.get("sequence_len"), job.values.get("max_steps")
    return RunRecord(
        run=run_dir.name,
        config=str(job.path),
        engine=job.engine,
        model=_model_name(job, model),
        layout=job.layout,
        sequence_len=length if isinstance(length, int) else None,
        world=job.world,
        steps=steps if isinstance(steps, int) else None,
        prediction=prediction if isinstance(prediction, dict) else None,
    )
