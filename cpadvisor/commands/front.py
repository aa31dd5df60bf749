"""`cpadvisor` alone: the app on a terminal, elsewhere the same way once through, as text.

The way through: the machine, the plan, the file; and where the machine has no
GPU, a real training of the tiny model on two CPU processes. GPUs are not taken
unasked: there it ends with the command that would.
"""

import argparse
import os
from pathlib import Path
from typing import Any

from cpadvisor import rundir
from cpadvisor.commands.output import is_terminal, say
from cpadvisor.commands.planning import require_plan, unlocked_note
from cpadvisor.errors import EXIT_DONE, MissingError
from cpadvisor.job import CPU_LOCK, Job, Request, build_job, build_job_on
from cpadvisor.plan.search import advise

STDOUT = 1


def run(args: argparse.Namespace) -> int:
    """Open the app, or print the facts where there is no terminal to open it on."""
    if not is_terminal():
        return walk(args)
    if os.environ.get("TERM", "dumb") == "dumb":
        raise MissingError("TERM is dumb: no screen can be drawn; set TERM, or run `cpadvisor | cat` for the facts")
    return open_app(args, node_name=args.node)


def open_app(args: argparse.Namespace, **options: Any) -> int:
    """Open the app with the flags of `args`; `options` are those of `run_app`.

    The guard of the terminal is forked before the app is imported: of the
    40 MiB that this takes, each page that is written would be copied first.
    """
    from cpadvisor.tui import guard

    watch = guard.start(STDOUT)
    try:
        from cpadvisor.tui.app import run_app

        return run_app(watch=watch, **app_flags(args), **options)
    finally:
        watch.end()


def app_flags(args: argparse.Namespace) -> dict[str, Any]:
    """What the flags say of the app, None where they say nothing: then the settings decide."""
    return {
        "theme": args.theme,
        "lang": args.lang,
        "mouse": False if args.no_mouse else None,
        "read_only": True if args.read_only else None,
    }


def walk(args: argparse.Namespace) -> int:
    """From the machine to a trained model, every stage's facts as text."""
    job = build_job(Request(node=args.node))
    on_cpu = job.gpu.is_cpu
    if on_cpu:
        job = build_job_on(job.node, Request(lock=CPU_LOCK), notes=job.notes)
    say(*job.notes)
    _show_machine(job)
    config = _plan_and_write(job)
    if not on_cpu:
        print(f"\nto train it: cpadvisor launch {config}")
        return EXIT_DONE
    return _train(config)


def _show_machine(job: Job) -> None:
    from cpadvisor.report.node import node_text

    print(f"== the machine\n{node_text(job.node)}\n", flush=True)


def _plan_and_write(job: Job) -> Path:
    from cpadvisor.report.plan import advice_text
    from cpadvisor.write.config import WriteOptions, config_document

    advice = advise(job.node, job.gpu, job.workload)
    require_plan(advice)
    print(f"== the plan\n{advice_text(advice, top=3)}")
    for note in unlocked_note(job, advice):
        print(note)
    folder = rundir.runs_root().parent / "configs"
    target = folder / f"{job.workload.model.name}-{job.workload.sequence_len}.yaml"
    options = WriteOptions(path=str(target), bf16=job.gpu.precision == "bf16")
    text = config_document(advice, advice.plans[0], job.workload, options)
    rundir.replace_with_backup(target, text)
    print(f"\n== the file {target}\n{text}", flush=True)
    return target


def _train(config: Path) -> int:
    from cpadvisor import launch
    from cpadvisor.commands.running import StepPrinter, refuse_errors
    from cpadvisor.report.run import view_text
    from cpadvisor.watch.report import exit_status

    refuse_errors(config)
    directory = launch.start(config, runs=None, python=None, force=False)
    print(f"== the run {directory}", flush=True)
    view = launch.wait(directory, StepPrinter())
    print(view_text(view))
    return exit_status(view)
