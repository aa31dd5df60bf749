"""Going on with a run that ended: the same directory, config and trainer, another torchrun, from the last checkpoint.

What tells how the earlier attempt ended is put aside into `attempt-<n>/`; events
and the ranks' logs are appended to.
"""

import contextlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from cpadvisor.errors import LaunchError, WriteError
from cpadvisor.launch.interpreter import find_python, modules_of
from cpadvisor.launch.jobfile import read_job
from cpadvisor.launch.lock import LOCK_FILE, held
from cpadvisor.launch.port import require_free_port
from cpadvisor.launch.spawning import Launch, ask_trainer, spawn
from cpadvisor.launch.starting import choose, copy_trainer, sharing_out
from cpadvisor.launch.stopping import abandon, run_processes
from cpadvisor.rundir import (
    AGENT_FILE,
    AGENT_LOG,
    BALLAST_FILE,
    CODE_FOLDER,
    CONFIG_FILE,
    ERROR_FILE,
    EXIT_FILE,
    RUN_FILE,
    STOP_FILE,
    TORCHRUN_FOLDER,
    is_file,
    shell_name,
    stat_of,
    write_ballast,
)
from cpadvisor.runrecord import RunRecord, read_record
from cpadvisor.watch.monitor import Monitor
from cpadvisor.watch.view import state_label

_PUT_ASIDE = (AGENT_FILE, EXIT_FILE, STOP_FILE, ERROR_FILE, AGENT_LOG, TORCHRUN_FOLDER)
"""What says how one attempt ended."""


def resume(run_dir: Path, *, python: str | None = None, force: bool = False, port: int | None = None) -> Path:
    """Start torchrun again in the directory of a run that ended; gives the directory.

    The trainer takes the newest whole checkpoint there, and begins anew without one. GPUs are chosen and refused as
    in `start`, and so are its errors; besides, LaunchError for a run that lives, is done, or is axolotl's.
    """
    run_dir = run_dir.absolute()
    with held(run_dir / LOCK_FILE):
        record = read_record(run_dir)
        _refuse(run_dir, record)
        job = read_job(run_dir / CONFIG_FILE, engine=record.engine)
        interpreter = find_python(python, modules=modules_of(job.engine), preferred=record.interpreter)
        if port is not None:
            require_free_port(port)
        with sharing_out(run_dir.parent, job):
            choice = choose(run_dir.parent, job, force=force)
            launch = Launch(
                job=job,
                run_dir=run_dir,
                interpreter=interpreter,
                choice=choice,
                code=_code(run_dir),
                port=port,
                resume=True,
            )
            ask_trainer(launch)
            with _earlier_attempt_aside(run_dir, record):
                spawn(launch, replace(record, attempt=record.attempt + 1))
    return run_dir


def _refuse(run_dir: Path, record: RunRecord) -> None:
    name, named, view = record.run, shell_name(run_dir), Monitor(run_dir).poll()
    if not view.is_final:
        raise LaunchError(
            f"run {name} is {state_label(view.state)}; `cpadvisor attach {named}` shows it, "
            f"`cpadvisor stop {named}` ends it"
        )
    if run_processes(run_dir, record):
        raise LaunchError(
            f"run {name} is {state_label(view.state)} and left processes behind; end them with `cpadvisor stop {named}`"
        )
    if view.state == "done":
        raise LaunchError(
            f"run {name} is done: all its steps are trained; to train more, raise max_steps in a copy of "
            f"{run_dir / CONFIG_FILE} and launch that"
        )
    if record.engine == "axolotl":
        raise LaunchError(
            f"run {name} is axolotl's, which resumes by its own rules: set `auto_resume_from_checkpoints: true` in "
            f"{record.config} and launch that"
        )


def _code(run_dir: Path) -> Path:
    """The run's own copy of the trainer; a run that has lost it gets the trainer as it is now."""
    code = run_dir / CODE_FOLDER
    return code if code.is_dir() else copy_trainer(run_dir)


@contextlib.contextmanager
def _earlier_attempt_aside(run_dir: Path, record: RunRecord) -> Iterator[None]:
    """Move what tells of the earlier attempt into a folder of its own; all is as it was where the start fails."""
    aside = _free_folder(run_dir, record.attempt)
    sizes = _sizes(run_dir)
    moved: list[str] = []
    try:
        aside.mkdir(mode=0o700)
        shutil.copy2(run_dir / RUN_FILE, aside / RUN_FILE)
        for name in _PUT_ASIDE:
            if (run_dir / name).exists():
                (run_dir / name).rename(aside / name)
                moved.append(name)
        if not (run_dir / BALLAST_FILE).exists():
            write_ballast(run_dir)
        yield
    except BaseException as error:
        abandon(run_dir)
        _bring_back(run_dir, aside, moved)
        _cut_back(run_dir, sizes)
        if isinstance(error, OSError):
            raise WriteError(f"cannot write {aside}: {error.strerror}; free some space") from error
        raise


def _free_folder(run_dir: Path, attempt: int) -> Path:
    while (run_dir / f"attempt-{attempt}").exists():
        attempt += 1
    return run_dir / f"attempt-{attempt}"


def _sizes(run_dir: Path) -> dict[Path, int]:
    """Bytes of each file of the run that a further attempt may append to, or begin."""
    names = ("events-*", "log-*", "nccl-*")
    told = {path: stat_of(path) for name in names for path in run_dir.glob(name) if is_file(path)}
    return {path: found.st_size for path, found in told.items() if found is not None}


def _cut_back(run_dir: Path, sizes: dict[Path, int]) -> None:
    """Take out what ranks wrote before their start failed: a new beginning would hide how the attempt before ended."""
    for path, size in _sizes(run_dir).items():
        with contextlib.suppress(OSError):
            if path not in sizes:
                path.unlink()
            elif size > sizes[path]:
                os.truncate(path, sizes[path])


def _bring_back(run_dir: Path, aside: Path, moved: list[str]) -> None:
    """Put each thing back where it was, as far as it goes: why the start failed is told, not why this does."""
    for name in (*moved, RUN_FILE):
        with contextlib.suppress(OSError):
            if (aside / name).exists():
                shutil.rmtree(run_dir / name, ignore_errors=True)
                (aside / name).replace(run_dir / name)
    shutil.rmtree(aside, ignore_errors=True)
