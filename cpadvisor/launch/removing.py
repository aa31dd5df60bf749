"""Deleting a run: its directory goes out of sight in one step, then piece by piece; never what a link leads to."""

import shlex
import shutil
import time
from pathlib import Path

from cpadvisor.errors import LaunchError, WriteError
from cpadvisor.launch.lock import LOCK_FILE, held_if_possible
from cpadvisor.launch.orphans import orphan_at
from cpadvisor.launch.stopping import marked_runs, may_live, run_processes
from cpadvisor.rundir import RUN_FILE, is_file, shell_name
from cpadvisor.runrecord import read_record
from cpadvisor.watch.monitor import Monitor
from cpadvisor.watch.view import state_label

_ASIDE = ".removed-"
"""Begins the names of directories on their way out; `rundir.list_runs` leaves hidden ones out."""


def remove(run_dir: Path) -> None:
    """Delete a run that has ended. A reader sees all of it or nothing.

    Raises LaunchError for a run that lives, a directory that is no run or a link to one, WriteError where the file
    system refuses; then all of it is still there, or what is left is named.
    """
    require_removable(run_dir)
    with held_if_possible(run_dir / LOCK_FILE):
        require_removable(run_dir)  # it may have been resumed, or deleted by another, in the meantime
        aside = run_dir.with_name(f"{_ASIDE}{run_dir.name}.{time.monotonic_ns()}")
        try:
            run_dir.rename(aside)
        except OSError as error:
            raise WriteError(f"cannot delete {run_dir}: {error.strerror} (nothing of it is gone)") from error
    _delete(aside)
    for forgotten in run_dir.parent.glob(f"{_ASIDE}*"):  # its deletion was cut short
        shutil.rmtree(forgotten, ignore_errors=True)


def require_removable(run_dir: Path) -> None:
    """Refuse what is no run, is a link, or lives. Raises LaunchError naming it and the command that ends it."""
    if run_dir.is_symlink():
        raise LaunchError(
            f"{run_dir} is a link to {run_dir.resolve()}; delete the link with `rm {shlex.quote(str(run_dir))}`"
        )
    if not is_file(run_dir / RUN_FILE):
        raise LaunchError(f"{run_dir} is no run: it has no {RUN_FILE}; `cpadvisor runs` lists the runs")
    state = _living_state(run_dir)
    if state is not None:
        command = f"cpadvisor stop {shell_name(run_dir)}"
        raise LaunchError(f"run {run_dir.name} is {state}; end it with `{command}`, then delete it")


def _living_state(run_dir: Path) -> str | None:
    """The state of a run that lives; None for one that has ended, also where its record cannot be read."""
    try:
        record = read_record(run_dir)
    except LaunchError:
        return "running" if orphan_at(run_dir) is not None else None
    if not may_live(run_dir, record, marked_runs()):
        return None
    view = Monitor(run_dir).poll()
    if view.is_final:
        return "not quite gone: processes of it live" if run_processes(run_dir.absolute(), record) else None
    return state_label(view.state)


def _delete(aside: Path) -> None:
    try:
        shutil.rmtree(aside)
    except FileNotFoundError:
        return  # another deletion swept it up
    except OSError as error:
        raise WriteError(
            f"the run is deleted, and of its directory {aside} is left: {error.strerror}; delete that with `rm -r`"
        ) from error
