"""`launch`, `attach`, `stop`, `logs` and `watch`: the life of a run."""

import argparse
import math
import shlex
from pathlib import Path

from cpadvisor import launch as launching
from cpadvisor.commands.output import is_terminal, print_json, say
from cpadvisor.commands.places import any_run, named_run, newest_living, runs_dir
from cpadvisor.errors import EXIT_DONE, EXIT_INTERRUPTED, LaunchError, UsageError
from cpadvisor.report.run import resumed_text, step_text, view_text
from cpadvisor.rundir import CONFIG_FILE, RUN_FILE, command_name
from cpadvisor.runrecord import read_record
from cpadvisor.watch.logs import tail
from cpadvisor.watch.monitor import Monitor
from cpadvisor.watch.report import exit_status, logs_json, run_json, watch_json
from cpadvisor.watch.view import RunView


class StepPrinter:
    """Prints each step once, as it comes; a resumed run goes back to its checkpoint and makes some of them again."""

    def __init__(self, known: RunView | None = None) -> None:
        """`known` is the run as it was before: what it had done then is not news."""
        self._shown = None if known is None else _newest(known)

    def __call__(self, view: RunView) -> None:
        """Say the newest step where it is new."""
        if view.step and _newest(view) != self._shown:
            self._shown = _newest(view)
            say(step_text(view))


def _newest(view: RunView) -> tuple[object, ...]:
    """What tells a step from the same one made again after a resume: its own duration."""
    return view.step, view.step_s[-1:]


def launch(args: argparse.Namespace) -> int:
    """Check the file, start it, or an ended run again, and follow it to the end unless detached."""
    if (args.file is None) == (args.resume is None):
        given = "neither was" if args.file is None else "both were"
        raise UsageError(f"launch takes a config FILE or --resume RUN, and {given} given; see cpadvisor launch --help")
    directory, known = _resume(args) if args.file is None else (_start(args), None)
    say(f"run {directory.name} in {directory}")
    if args.detach:
        return _finish(Monitor(directory).poll(), args.json)
    return _finish(launching.wait(directory, StepPrinter(known)), args.json)


def _start(args: argparse.Namespace) -> Path:
    if not args.file.strip():
        raise UsageError("FILE is empty; name a config, such as one that `cpadvisor write -o FILE` makes")
    file = Path(args.file)
    refuse_errors(file)
    return launching.start(file, runs=runs_dir(args), python=args.python, force=args.force, port=args.port)


def _resume(args: argparse.Namespace) -> tuple[Path, RunView]:
    """The run that goes on, and how it stood before."""
    directory = named_run(args, args.resume)
    refuse_errors(directory / CONFIG_FILE)
    known = Monitor(directory).poll()
    launching.resume(directory, python=args.python, force=args.force, port=args.port)
    say(resumed_text(known))
    return directory, known


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


def attach(args: argparse.Namespace) -> int:
    """The app on a run; where there is no terminal, or with --json, the run followed as `watch` does."""
    directory = newest_living(args) if args.run is None else any_run(args, args.run)
    if args.json or not is_terminal():
        return _follow(args, directory)
    if not (directory / RUN_FILE).exists():
        raise LaunchError(
            f"the directory of run {directory.name} has vanished, and with it all that the app could show; its "
            f"processes live: end them with `cpadvisor stop {shlex.quote(command_name(directory))}`"
        )
    from cpadvisor.commands.front import open_app

    return open_app(args, runs=runs_dir(args), run=directory)


def stop(args: argparse.Namespace) -> int:
    """End a run and see that no process of it is left."""
    view = launching.stop(any_run(args, args.run))
    _show(view, args.json)
    return EXIT_DONE


def logs(args: argparse.Namespace) -> int:
    """Print the end of what a rank wrote."""
    if args.lines < 1:
        raise UsageError(f"--lines {args.lines} shows nothing; use 1 or more")
    directory = named_run(args, args.run)
    _require_rank(directory, args.rank)
    lines = tail(directory, args.rank, args.lines)
    if args.json:
        print_json(logs_json(Monitor(directory).poll(), rank=args.rank, lines=lines))
    else:
        print("\n".join(lines))
    return EXIT_DONE


def _require_rank(directory: Path, rank: int) -> None:
    record = read_record(directory)
    if not 0 <= rank < record.world:
        there = "rank 0 alone" if record.world == 1 else f"ranks 0 to {record.world - 1}"
        raise UsageError(f"--rank {rank}: {record.run} has {there}; use {0 if rank < 0 else record.world - 1}")


def watch(args: argparse.Namespace) -> int:
    """Follow a run to its end, show once where it stands, or show it again as it went."""
    if args.replay:
        return _replay(args)
    directory = any_run(args, args.run)
    if not args.once:
        return _follow(args, directory)
    _show_figures(launching.open_monitor(directory).poll(), args.json)
    return EXIT_DONE


def _follow(args: argparse.Namespace, directory: Path) -> int:
    """To the end of the run, whose exit status it gives as `launch` does; Ctrl-C leaves the run alone."""
    view = launching.wait(directory, StepPrinter(), stop_on_interrupt=False)
    _show_figures(view, args.json)
    return exit_status(view) if view.is_final else EXIT_INTERRUPTED


def _replay(args: argparse.Namespace) -> int:
    """Each step again in its time, divided by the speed; in JSON the last frame alone, at once."""
    if not (math.isfinite(args.speed) and args.speed > 0):
        raise UsageError(f"--speed {args.speed:g} is no speed: give a number above 0, times the real one, such as 10")
    from cpadvisor.watch.replay import Replay

    replay = Replay(named_run(args, args.run))
    if args.json:
        _show_figures(replay.at(replay.duration_s), as_json=True)
        return EXIT_DONE
    show = StepPrinter()
    for view in replay.play(args.speed):
        show(view)
    _show_figures(view, as_json=False)
    return EXIT_DONE


def _show_figures(view: RunView, as_json: bool) -> None:
    if as_json:
        print_json(watch_json(view))
    else:
        print(view_text(view))


def _finish(view: RunView, as_json: bool) -> int:
    _show(view, as_json)
    return exit_status(view)


def _show(view: RunView, as_json: bool) -> None:
    if as_json:
        print_json(run_json(view))
    else:
        print(view_text(view))
