"""`runs`, `runs rm` and `runs compare`: all runs there are, fewer of them, two side by side."""

import argparse
from pathlib import Path

from cpadvisor import launch, rundir
from cpadvisor.commands.output import print_json, say
from cpadvisor.commands.places import named_run, runs_root
from cpadvisor.errors import EXIT_DONE, LaunchError, UsageError
from cpadvisor.report.run import runs_table
from cpadvisor.watch.monitor import Monitor
from cpadvisor.watch.report import SCHEMA, runs_json
from cpadvisor.watch.view import RunView


def run(args: argparse.Namespace) -> int:
    """List, delete or compare."""
    if args.action == "rm":
        return _remove(args)
    if args.action == "compare":
        return _compare(args)
    return _list(args)


def _list(args: argparse.Namespace) -> int:
    """All runs, oldest first, then those that live without a directory; one that cannot be read is named."""
    root = runs_root(args)
    views: list[RunView] = []
    for directory in rundir.list_runs(root):
        try:
            views.append(launch.open_monitor(directory).poll())
        except LaunchError as error:
            say(f"warning: {error}")
    views += [launch.orphan_view(orphan) for orphan in launch.find_orphans(root)]
    if args.json:
        print_json(runs_json(views))
        return EXIT_DONE
    print(runs_table(views) if views else "no runs yet; start one with `cpadvisor launch FILE`")
    for view in views:
        if view.failure is not None and view.failure.kind in ("vanished", "unreadable"):
            say(f"{view.run}: {view.failure.headline}; end it with `{view.failure.command}`")
    return EXIT_DONE


def _remove(args: argparse.Namespace) -> int:
    """Delete the runs that are named, or none of them where one may not be deleted."""
    if not args.names:
        raise UsageError("runs rm names no run to delete; `cpadvisor runs` lists them")
    directories = list(dict.fromkeys(named_run(args, name) for name in args.names))
    for directory in directories:
        launch.require_removable(directory)
    for directory in directories:
        launch.remove(directory)
        say(f"deleted {directory}")
    if args.json:
        print_json({"schema": SCHEMA, "removed": [directory.name for directory in directories]})
    return EXIT_DONE


def _compare(args: argparse.Namespace) -> int:
    """Two runs side by side."""
    if len(args.names) != 2:
        raise UsageError(f"runs compare takes two runs, and {len(args.names)} were named; `cpadvisor runs` lists them")
    from cpadvisor.report.compare import compare_json, compare_text
    from cpadvisor.watch.compare import compare_runs

    first, second = (named_run(args, name) for name in args.names)
    comparison = compare_runs(Monitor(first).poll(), Monitor(second).poll(), _config(first), _config(second))
    if args.json:
        print_json(compare_json(comparison))
    else:
        print(compare_text(comparison))
    return EXIT_DONE


def _config(run_dir: Path) -> str | None:
    return rundir.read_existing(run_dir / rundir.CONFIG_FILE)
