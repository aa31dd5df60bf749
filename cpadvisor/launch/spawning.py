"""The last step of a start: ask the trainer about its config, write the record, start torchrun under its keeper.

Keeper and torchrun get sessions of their own, no terminal and no descriptor of
ours, so that nothing that happens to this process or its terminal reaches the run.
"""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from cpadvisor.errors import EXIT_USAGE, ConfigError, CpadvisorError, LaunchError, WriteError
from cpadvisor.launch import keeper as keeping
from cpadvisor.launch.command import axolotl_argv, trainer_argv
from cpadvisor.launch.environment import keeper_environment, recorded, run_environment
from cpadvisor.launch.gpus import Choice
from cpadvisor.launch.jobfile import JobFile
from cpadvisor.processes import ProcessId, identify
from cpadvisor.rundir import AGENT_LOG, CONFIG_FILE, boot_id
from cpadvisor.runrecord import RunRecord, write_record
from cpadvisor.watch.host import oom_kills

_ASK_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """One run, decided and not yet started."""

    job: JobFile
    run_dir: Path
    interpreter: str
    choice: Choice | None
    code: Path | None
    """Where the run's copy of the trainer lies; None for axolotl."""
    port: int | None = None
    """Of torchrun's rendezvous; None for a free one."""
    resume: bool = False
    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    """What the user's environment is, to which the run adds its own."""

    @property
    def argv(self) -> tuple[str, ...]:
        """The command that starts torchrun."""
        make = trainer_argv if self.job.engine == "cpadvisor" else axolotl_argv
        config = self.run_dir / CONFIG_FILE
        return make(python=self.interpreter, world=self.job.world, run_dir=self.run_dir, config=config, port=self.port)

    @property
    def env(self) -> dict[str, str]:
        """The environment of torchrun and of all its ranks."""
        return run_environment(
            self.environ,
            run_dir=self.run_dir,
            python=self.interpreter,
            world=self.job.world,
            devices=None if self.choice is None else self.choice.devices,
            code=self.code,
            resume=self.resume,
        )


def ask_trainer(launch: Launch) -> None:
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


def spawn(launch: Launch, record: RunRecord) -> None:
    """Write the record, start torchrun, write the record again with its process.

    `record` tells what is trained; when, where and how it is started is filled in here.
    """
    argv, env = launch.argv, launch.env
    record = replace(
        record,
        argv=argv,
        env=recorded(env),
        interpreter=launch.interpreter,
        started=time.time(),
        host=socket.gethostname(),
        boot_id=boot_id(),
        agent=None,
        keeper=None,
        gpus=None if launch.choice is None else launch.choice.indices,
        oom_kills=oom_kills(),
    )
    write_record(launch.run_dir, record)
    keeper, agent = _start(argv, env, launch.run_dir)
    write_record(launch.run_dir, replace(record, keeper=keeper, agent=agent))


def _start(argv: tuple[str, ...], env: dict[str, str], run_dir: Path) -> tuple[ProcessId | None, ProcessId]:
    """Start the keeper, which starts torchrun; gives both."""
    keeper = _start_keeper(argv, env, run_dir)
    assert keeper.stdout is not None, "the keeper answers on a pipe"
    with keeper.stdout:
        line = keeper.stdout.read()
    # It is waited for only so that it leaves no zombie; the run needs neither this thread nor this process.
    threading.Thread(target=keeper.wait, name="keeper", daemon=True).start()
    try:
        said = json.loads(line)
    except ValueError as error:
        raise LaunchError(f"cannot start {argv[0]}: {sys.executable} ended without a word; try again") from error
    if "error" in said:
        raise _refused(said, argv, run_dir)
    return identify(keeper.pid), ProcessId(pid=said["pid"], start_ticks=said["start_ticks"])


def _start_keeper(argv: tuple[str, ...], env: dict[str, str], run_dir: Path) -> subprocess.Popen[bytes]:
    command = (sys.executable, "-I", keeping.__file__, str(run_dir), *argv)
    try:
        return subprocess.Popen(
            command,
            cwd=run_dir,
            env=keeper_environment(env, run_dir),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            close_fds=True,
        )
    except OSError as error:
        raise LaunchError(f"cannot start {sys.executable}: {error.strerror}; try again") from error


def _refused(said: Mapping[str, str], argv: tuple[str, ...], run_dir: Path) -> CpadvisorError:
    if said["error"] == keeping.CANNOT_WRITE:
        return WriteError(f"cannot write {run_dir / AGENT_LOG}: {said['why']}; free some space or give --runs DIR")
    return LaunchError(f"cannot start {argv[0]}: {said['why']}; name another with --python")
