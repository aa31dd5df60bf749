"""Which run a command means: a name, enough of its beginning, or a path; also where only its processes are left."""

import argparse
from pathlib import Path

from cpadvisor import launch, rundir
from cpadvisor.errors import LaunchError
from cpadvisor.watch.monitor import Monitor


def runs_dir(args: argparse.Namespace) -> Path | None:
    """The folder of `--runs`, None for the usual one."""
    return None if args.runs_dir is None else Path(args.runs_dir)


def runs_root(args: argparse.Namespace) -> Path:
    """The folder that holds the runs."""
    return rundir.runs_root(runs_dir(args))


def named_run(args: argparse.Namespace, name: str) -> Path:
    """The directory of a run that has one. Raises LaunchError naming those that there are."""
    return rundir.find_run(runs_root(args), name)


def any_run(args: argparse.Namespace, name: str) -> Path:
    """The same, also where the directory has vanished and only processes carry its name."""
    try:
        return named_run(args, name)
    except LaunchError:
        orphan = launch.find_orphan(runs_root(args), name)
        if orphan is None:
            raise
        return orphan.directory


def newest_living(args: argparse.Namespace) -> Path:
    """The newest run that lives. Raises LaunchError where none does."""
    root = runs_root(args)
    for directory in reversed(rundir.list_runs(root)):
        try:
            if not Monitor(directory).poll().is_final:
                return directory
        except LaunchError:  # a damaged record; `cpadvisor runs` names it
            continue
    raise LaunchError(
        f"no run lives in {root}; `cpadvisor runs` lists those that have ended, `cpadvisor launch FILE` starts one"
    )
