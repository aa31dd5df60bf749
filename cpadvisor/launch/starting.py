"""Starting a run: choose interpreter and GPUs, fill the run directory, start torchrun in a session of its own."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cpadvisor import catalog
from cpadvisor.errors import EXIT_USAGE, ConfigError, LaunchError, MissingError, ModelError, WriteError
from cpadvisor.launch.command import axolotl_argv, trainer_argv
from cpadvisor.launch.environment import recorded, run_environment
from cpadvisor.launch.gpus import Choice, choose_gpus, refuse_crowd, refuse_running
from cpadvisor.launch.interpreter import AXOLOTL_MODULES, TRAINER_MODULES, find_python
from cpadvisor.launch.jobfile import JobFile, read_job, with_absolute_paths
from cpadvisor.launch.stopping import abandon
from cpadvisor.model import ModelSpec
from cpadvisor.node import Node
from cpadvisor.processes import identify
from cpadvisor.rundir import (
    AGENT_LOG,
    CONFIG_FILE,
    EXIT_FILE,
    boot_id,
    create_run,
    runs_root,
    write_atomically,
)
from cpadvisor.runrecord import RunRecord, write_record
from runtime import telemetry

_CODE_FOLDER = "code"
_ASK_S = 60.0


def start(
    config: Path,
    *,
    runs: Path | None = None,
    python: str | None = None,
    force: bool = False,
    engine: str | None = None,
) -> Path:
    """Start the training that a config file describes; gives its run directory at once.

    The run outlives this process: it has its own session, no terminal and no inherited descriptors. `force` takes
    GPUs that others hold. Raises ConfigError, MissingError (no torch, no GPU), LaunchError (too few or held GPUs) or
    WriteError, each before anything was started.
    """
    job = read_job(config, engine=engine)
    modules = TRAINER_MODULES if job.engine == "cpadvisor" else AXOLOTL_MODULES
    interpreter = find_python(python, modules=modules)
    choice = choose_gpus(
        None if job.wants_gpu is False else _node(required=job.wants_gpu is True),
        world=job.world,
        wants_gpu=job.wants_gpu,
        order=job.rank_order,
        force=force,
    )
    root = runs_root(runs)
    if not force:
        _refuse_what_is_taken(root, choice, job.world)
    model = _model(job)
    run_dir = create_run(root, model=_model_name(job, model), layout=_layout_name(job))
    try:
        code = _fill(run_dir, job, model)
        launch = _Launch(job=job, run_dir=run_dir, interpreter=interpreter, choice=choice, code=code)
        _ask_trainer(launch)
        _spawn(launch, model=_model_name(job, model))
    except BaseException:
        abandon(run_dir)
        shutil.rmtree(run_dir, ignore_errors=True)
        raise
    return run_dir


def _refuse_what_is_taken(root: Path, choice: Choice | None, world: int) -> None:
    if choice is None:
        refuse_crowd(world, cpus=os.cpu_count() or 1)
    else:
        refuse_running(root, choice.indices)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Launch:
    """One run, decided and not yet started."""

    job: JobFile
    run_dir: Path
    interpreter: str
    choice: Choice | None
    code: Path | None

    @property
    def argv(self) -> tuple[str, ...]:
        make = trainer_argv if self.job.engine == "cpadvisor" else axolotl_argv
        config = self.run_dir / CONFIG_FILE
        return make(python=self.interpreter, world=self.job.world, run_dir=self.run_dir, config=config)

    @property
    def env(self) -> dict[str, str]:
        return run_environment(
            os.environ,
            run_dir=self.run_dir,
            python=self.interpreter,
            world=self.job.world,
            devices=None if self.choice is None else self.choice.devices,
            code=self.code,
        )


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
    """Write config and model shape, and copy the trainer: an upgrade in mid-run then changes nothing."""
    write_atomically(run_dir / CONFIG_FILE, with_absolute_paths(job))
    if model is not None:
        text = json.dumps(catalog.config_json(model), indent=1) + "\n"
        write_atomically(run_dir / "model" / "config.json", text)
    if job.engine != "cpadvisor":
        return None
    code = run_dir / _CODE_FOLDER
    source = Path(telemetry.__file__).parent
    try:
        shutil.copytree(source, code / source.name, ignore=shutil.ignore_patterns("__pycache__"))
    except (OSError, shutil.Error) as error:
        raise WriteError(f"cannot copy the trainer into {code}: {error}; free some space or give --runs DIR") from error
    return code


def _ask_trainer(launch: _Launch) -> None:
    """Let the trainer read the config before anything is started. Raises ConfigError with its reasons.

    The trainer is asked in its own interpreter, so its rules stand in one place. Only a clear no counts: whatever
    else keeps it from answering shows when it is started.
    """
    if launch.job.engine != "cpadvisor":
        return
    config = launch.run_dir / CONFIG_FILE
    argv = (launch.interpreter, "-m", "runtime.config", str(config), str(launch.job.world))
    try:
        asked = subprocess.run(
            argv,
            cwd=launch.run_dir,
            env=launch.env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_ASK_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return
    if asked.returncode == EXIT_USAGE:
        said = asked.stderr.strip().replace(str(config), str(launch.job.path))
        raise ConfigError(said.replace(f"{launch.run_dir}/", ""))


def _spawn(launch: _Launch, *, model: str) -> None:
    """Write the record, start the agent, write it again with the agent's process."""
    argv, env = launch.argv, launch.env
    record = _record(launch, model=model, argv=argv, env=env)
    write_record(launch.run_dir, record)
    try:
        with (launch.run_dir / AGENT_LOG).open("ab") as log:
            process = subprocess.Popen(
                argv,
                cwd=launch.run_dir,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                close_fds=True,
            )
    except OSError as error:
        raise LaunchError(f"cannot start {argv[0]}: {error.strerror}; name another with --python") from error
    agent = identify(process.pid)
    if agent is not None:
        write_record(launch.run_dir, replace(record, agent=agent))
    # Last, so that it writes nothing into the directory of a start that failed.
    threading.Thread(target=_collect, args=(process, launch.run_dir), name="collect-exit", daemon=True).start()


def _collect(process: subprocess.Popen[bytes], run_dir: Path) -> None:
    """Keep the agent's exit status for those who look later, then let the process go.

    The file is written while the process can still be asked, so that no look falls between the two.
    """
    ended = os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    if ended is not None and run_dir.is_dir():
        status = ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status
        with contextlib.suppress(WriteError):  # a full disk; the exit status is then unknown to others
            write_atomically(run_dir / EXIT_FILE, json.dumps({"exit": status, "t": time.time()}) + "\n")
    process.wait()


def _record(launch: _Launch, *, model: str, argv: tuple[str, ...], env: Mapping[str, str]) -> RunRecord:
    job = launch.job
    prediction: Any = job.own.get("prediction")
    length, steps = job.values.get("sequence_len"), job.values.get("max_steps")
    return RunRecord(
        run=launch.run_dir.name,
        argv=argv,
        env=recorded(env),
        interpreter=launch.interpreter,
        config=str(job.path),
        engine=job.engine,
        model=model,
        layout=job.layout,
        sequence_len=length if isinstance(length, int) else None,
        world=job.world,
        steps=steps if isinstance(steps, int) else None,
        started=time.time(),
        host=socket.gethostname(),
        boot_id=boot_id(),
        prediction=prediction if isinstance(prediction, dict) else None,
        gpus=None if launch.choice is None else launch.choice.indices,
    )
