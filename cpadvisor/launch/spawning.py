"""The last step of a start: ask the trainer about its config, write the record, start torchrun, keep its exit status.

torchrun gets a session of its own, no terminal and no descriptor of ours, so
that nothing that happens to this process or its terminal reaches the run.
"""

import contextlib
import json
import os
import socket
import subprocess
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO

from cpadvisor.errors import EXIT_USAGE, ConfigError, LaunchError, WriteError
from cpadvisor.launch.command import axolotl_argv, trainer_argv
from cpadvisor.launch.environment import recorded, run_environment
from cpadvisor.launch.gpus import Choice
from cpadvisor.launch.jobfile import JobFile
from cpadvisor.processes import identify
from cpadvisor.rundir import AGENT_LOG, CONFIG_FILE, EXIT_FILE, boot_id, write_atomically
from cpadvisor.runrecord import RunRecord, read_record, write_record
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
        gpus=None if launch.choice is None else launch.choice.indices,
        oom_kills=oom_kills(),
    )
    write_record(launch.run_dir, record)
    process = _start(argv, env, launch.run_dir)
    agent = identify(process.pid)
    if agent is not None:
        write_record(launch.run_dir, replace(record, agent=agent))
    # Last, so that it writes nothing into the directory of a start that failed.
    threading.Thread(target=_collect, args=(process, launch.run_dir), name="collect-exit", daemon=True).start()


def _start(argv: tuple[str, ...], env: dict[str, str], run_dir: Path) -> subprocess.Popen[bytes]:
    with _agent_log(run_dir) as log:
        try:
            return subprocess.Popen(
                argv,
                cwd=run_dir,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                close_fds=True,
            )
        except OSError as error:
            raise LaunchError(f"cannot start {argv[0]}: {error.strerror}; name another with --python") from error


def _agent_log(run_dir: Path) -> BinaryIO:
    path = run_dir / AGENT_LOG
    try:
        return path.open("ab")
    except OSError as error:
        raise WriteError(f"cannot write {path}: {error.strerror}; free some space or give --runs DIR") from error


def _collect(process: subprocess.Popen[bytes], run_dir: Path) -> None:
    """Keep the agent's exit status for those who look later, then let the process go.

    The file is written while the process can still be asked, so that no look falls between the two.
    """
    ended = os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    if ended is not None and _is_still_its_run(process, run_dir):
        status = ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status
        with contextlib.suppress(WriteError):  # a full disk; the exit status is then unknown to others
            told = {"exit": status, "t": time.time(), "oom_kills": oom_kills()}
            write_atomically(run_dir / EXIT_FILE, json.dumps(told) + "\n")
    process.wait()


def _is_still_its_run(process: subprocess.Popen[bytes], run_dir: Path) -> bool:
    """Whether the directory is there, and was not given to another process by a resume."""
    try:
        agent = read_record(run_dir).agent
    except LaunchError:
        return False
    return agent is None or agent.pid == process.pid
