"""`launch`, `stop`, `runs`, `logs` and `watch`: the life of a run."""

import argparse
from pathlib import Path

from cpadvisor import launch as launching
from cpadvisor import rundir
from cpadvisor.commands.output import print_json, say
from cpadvisor.errors import EXIT_DONE, LaunchError, UsageError
from cpadvisor.report.run import runs_table, step_text, view_text
from cpadvisor.watch.logs import tail
from cpadvisor.watch.monitor import Monitor
from cpadvisor.watch.report import exit_status, logs_json, run_json, runs_json, watch_json
from cpadvisor.watch.view import RunView


class StepPrinter:
    """Prints each step once, as it comes."""

    def __init__(self) -> None:
        self._shown = 0

    def __call__(self, view: RunView) -> None:
        """Say the newest step where it is new."""
        if view.step and view.step > self._shown:
            self._shown = view.step
            say(step_text(view))


def launch(args: argparse.Namespace) -> int:
    """Check the file, start it, follow it to the end unless detached."""
    file = Path(args.file)
    refuse_errors(file)
    directory = launching.start(file, runs=runs_dir(args), python=args.python, force=args.force)
    say(f"run {directory.name} in {directory}")
    if args.detach:
        return _finish(Monitor(directory).poll(), args.json)
    return _finish(launching.wait(directory, StepPrinter()), args.json)


def refuse_errors(file: Path) -> None:
    """Say the findings on a config; raise LaunchError where one of them is an error."""
    from cpadvisor.check import check_file

    findings = check_file(file)
    for finding in findings:
        say(f"{finding.severity} {finding.rule}: {finding.message}")
    errors = [finding for finding in findings if finding.severity == "error"]
    if errors:
        fix = f"; {errors[0].fix}" if errors[0].fix else ""
        raise LaunchError(f"{file} would not start: {errors[0].message}{fix}")


def stop(args: argparse.Namespace) -> int:
    """End a run and see that no process of it is left."""
    view = launching.stop(_found(args))
    _show(view, args.json)
    return EXIT_DONE


def runs(args: argparse.Namespace) -> int:
    """List all runs; one whose record cannot be read is named and left out."""
    views: list[RunView] = []
    for directory in rundir.list_runs(rundir.runs_root(runs_dir(args))):
        try:
            views.append(Monitor(directory).poll())
        except LaunchError as error:
            say(f"warning: {error}")
    if args.json:
        print_json(runs_json(views))
    else:
        print(runs_table(views) if views else "no runs yet; start one with `cpadvisor launch FILE`")
    return EXIT_DONE


def logs(args: argparse.Namespace) -> int:
    """Print the end of what a rank wrote."""
    if args.lines < 1:
        raise UsageError(f"--lines {args.lines} shows nothing; use 1 or more")
    directory = _found(args)
    lines = tail(directory, args.rank, args.lines)
    if args.json:
        print_json(logs_json(Monitor(directory).poll(), rank=args.rank, lines=lines))
    else:
        print("\n".join(lines))
    return EXIT_DONE


def watch(args: argparse.Namespace) -> int:
    """Follow a run to its end, or show once where it stands."""
    directory = _found(args)
    follow = not args.once
    view = launching.wait(directory, StepPrinter(), stop_on_interrupt=False) if follow else Monitor(directory).poll()
    if args.json:
        print_json(watch_json(view))
    else:
        print(view_text(view))
    return EXIT_DONE


def runs_dir(args: argparse.Namespace) -> Path | None:
    """The folder of `--runs`, None for the usual one."""
    return None if args.runs_dir is None else Path(args.runs_dir)


def _found(args: argparse.Namespace) -> Path:
    return rundir.find_run(rundir.runs_root(runs_dir(args)), args.run)


def _finish(view: RunView, as_json: bool) -> int:
    _show(view, as_json)
    return exit_status(view)


def _show(view: RunView, as_json: bool) -> None:
    if as_json:
        print_json(run_json(view))
    else:
        print(view_text(view))
