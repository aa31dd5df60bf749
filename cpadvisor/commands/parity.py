"""`parity`: a few steps at cp 1 and at the file's cp, from one seed, side by side; the card's D5 as a proof."""

import argparse
from pathlib import Path

from cpadvisor.commands.output import print_json, say
from cpadvisor.commands.running import StepPrinter, refuse_errors, runs_dir
from cpadvisor.errors import EXIT_DONE, EXIT_FAILED
from cpadvisor.launch.jobfile import read_job
from cpadvisor.parity import make_pair, room_here, run_pair
from cpadvisor.report.parity import parity_json, parity_text
from cpadvisor.units import format_tokens, parse_tokens
from cpadvisor.watch.view import RunView


def run(args: argparse.Namespace) -> int:
    """Train both, compare them, print the verdict; exit status 0 for equal, 1 for anything else."""
    file = Path(args.file)
    job = read_job(file)
    asked = None if args.seq is None else parse_tokens(args.seq)
    make_pair(job, steps=args.steps, sequence_len=asked)  # what the flags get wrong is told before the GPUs are asked
    refuse_errors(file)
    room, doubt = room_here(job)
    pair = make_pair(job, steps=args.steps, sequence_len=asked, room=room)
    say(*filter(None, (doubt, *pair.notes)))
    say(f"{args.steps} steps of {format_tokens(pair.sequence_len)} tokens at cp {pair.cp}, then at cp 1")
    outcome = run_pair(pair, runs=runs_dir(args), python=args.python, on_start=_say_run, on_view=_EachRun())
    if args.json:
        print_json(parity_json(outcome))
    else:
        print(parity_text(outcome))
    return EXIT_DONE if outcome.verdict.is_equal else EXIT_FAILED


def _say_run(directory: Path) -> None:
    say(f"run {directory.name} in {directory}")


class _EachRun:
    """Prints the steps of one run after those of another."""

    def __init__(self) -> None:
        self._printers: dict[str, StepPrinter] = {}

    def __call__(self, view: RunView) -> None:
        """Say the newest step of a run where it is new."""
        self._printers.setdefault(view.run, StepPrinter())(view)
