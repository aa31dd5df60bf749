"""The command line: arguments to one stage, headless, or the app. A stage is imported only when it is called.

Data goes to stdout, prose to stderr. Exit status: 0 done, 1 infeasible, failed
or a finding of severity error, 2 usage, 3 environment, 130 interrupted.
"""

import argparse
import io
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from cpadvisor import __version__
from cpadvisor.errors import EXIT_DONE, EXIT_FAILED, EXIT_INTERRUPTED, EXIT_USAGE, CpadvisorError

EPILOG = """\
cpadvisor alone opens the app; where stdout is no terminal it prints the same facts, and without a GPU it
trains the tiny model on two CPU processes, from the machine to a trained model.
Exit status: 0 done, 1 infeasible or failed, 2 usage, 3 environment, 130 interrupted."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and give its exit status."""
    _replace_what_has_no_code()
    try:
        try:
            return _dispatch(_parser().parse_args(argv))
        finally:
            _flush()
    except CpadvisorError as error:
        print(f"cpadvisor: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("cpadvisor: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        _drop_output()  # its reader has gone; nothing more can be said to it
        return EXIT_DONE
    except OSError as error:
        _drop_output()
        print(f"cpadvisor: {error}", file=sys.stderr)
        return EXIT_FAILED


def _replace_what_has_no_code() -> None:
    """A terminal that is not UTF-8 shows `?` for a `×`, in place of an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _flush() -> None:
    """Meet a full disk or a closed pipe here, where it can be told, and not when the interpreter ends."""
    if sys.stdout is not None:  # None where stdout was closed
        sys.stdout.flush()


def _drop_output() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _dispatch(args: argparse.Namespace) -> int:
    command = args.command
    if command is None:
        from cpadvisor.commands import front

        return front.run(args)
    if command == "inspect":
        from cpadvisor.commands import machine

        return machine.inspect(args)
    if command in ("plan", "write", "check"):
        from cpadvisor.commands import planning

        return getattr(planning, command)(args)
    if command in ("runs", "doctor", "parity", "card", "settings"):
        return _call(command, args)
    from cpadvisor.commands import running

    return getattr(running, command)(args)


def _call(command: str, args: argparse.Namespace) -> int:
    """A command that has a module of its own, with one function `run`."""
    from importlib import import_module

    return import_module(f"cpadvisor.commands.{command}").run(args)


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """As wide as the terminal, without importing shutil: argparse makes a formatter for every flag."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=_columns() - 2)


def _columns() -> int:
    asked = os.environ.get("COLUMNS", "")
    try:
        return int(asked) if asked.isdecimal() and int(asked) else os.get_terminal_size().columns or 80
    except OSError:  # stdout is no terminal
        return 80


class _Parser(argparse.ArgumentParser):
    """argparse with one line for an error in place of the whole usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_USAGE, f"cpadvisor: {message}; see {self.prog} --help\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="cpadvisor",
        description="How to split a long-context training over the GPUs of this node, and proof by running it.",
        epilog=EPILOG,
        formatter_class=_Formatter,
    )
    parser.add_argument("--version", action="version", version=f"cpadvisor {__version__}")
    parser.add_argument("--node", metavar="N", help="a shipped machine or a JSON file of `inspect --json`")
    _add_app_flags(parser)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=_Parser)
    _add_inspect(commands)
    _add_planning(commands)
    _add_running(commands)
    _add_proving(commands)
    return parser


def _add_app_flags(parser: argparse.ArgumentParser, default: object = None) -> None:
    """What the app takes; left out, the settings file decides. A subcommand suppresses, so that both places count."""
    parser.add_argument(
        "--lang",
        choices=("en", "zh"),
        default=default,
        help="language of labels, keys and the card; reasons are English",
    )
    parser.add_argument("--theme", metavar="T", default=default, help="dark, light, high-contrast, or one of your own")
    parser.add_argument("--no-mouse", action="store_true", default=default, help="leave the mouse to the terminal")
    parser.add_argument("--read-only", action="store_true", default=default, help="look at everything, change nothing")


def _command(commands: "argparse._SubParsersAction[_Parser]", name: str, help_text: str) -> argparse.ArgumentParser:
    description = help_text[0].upper() + help_text[1:] + "."
    parser = commands.add_parser(name, help=help_text, description=description, formatter_class=_Formatter)
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    return parser


def _add_node_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--node", metavar="N", default=argparse.SUPPRESS, help="a shipped machine or a JSON file")
    parser.add_argument("--topo", metavar="FILE", help="the text of `nvidia-smi topo -m`, - for stdin")
    parser.add_argument("--gpu", metavar="NAME", help="the GPU product of a pasted topology, such as h100-80g")


def _add_inspect(commands: "argparse._SubParsersAction[_Parser]") -> None:
    parser = _command(commands, "inspect", "the GPUs of a machine, their links, islands and best ring")
    _add_node_flags(parser)


def _add_job_flags(parser: argparse.ArgumentParser) -> None:
    _add_node_flags(parser)
    parser.add_argument("--model", metavar="M", help="a catalogue name, a folder or a config.json")
    parser.add_argument("--seq", metavar="N", help="tokens of one sequence, such as 128k")
    parser.add_argument("--engine", default="cpadvisor", metavar="E", help="cpadvisor, axolotl-0.21 or axolotl-0.20")
    parser.add_argument("--method", default="full", metavar="M", help="full (fine-tuning of every parameter)")
    parser.add_argument(
        "--cp-method", metavar="M", help="ring, allgather, ulysses or usp where cp is above 1; left out, the fastest"
    )
    parser.add_argument("--nodes", type=int, default=1, metavar="K", help="machines of this kind")
    parser.add_argument("--nic", metavar="RATE", help="network rate of one GPU between nodes, such as 400g")
    parser.add_argument("--gpus", metavar="G", help="how many GPUs, or which: 8 or 0,1,4,5")
    parser.add_argument("--global-batch", type=int, metavar="B", help="sequences of one optimizer step")
    parser.add_argument("--objective", default="tokens_per_s", metavar="O", help="tokens_per_s or memory")
    parser.add_argument("--lock", metavar="SIZES", help="fix sizes, such as tp=1,cp=2")
    parser.add_argument("--headroom", metavar="SIZE", help="memory of each GPU to keep free, such as 5g")


def _add_planning(commands: "argparse._SubParsersAction[_Parser]") -> None:
    plan = _command(commands, "plan", "ranked layouts for a model and a length, with reasons")
    _add_job_flags(plan)
    plan.add_argument("--why", metavar="SIZES", help="explain one layout, such as tp=2,cp=4")
    plan.add_argument("--top", type=int, default=5, metavar="K", help="how many plans to show")
    write = _command(commands, "write", "the config of the first plan, with the diff; keeps FILE.bak")
    _add_job_flags(write)
    write.add_argument("-o", "--output", required=True, metavar="FILE", help="where to write, - for stdout")
    write.add_argument("--data", metavar="FILE", help="a text or JSONL file to train on")
    write.add_argument("--steps", type=int, metavar="S", help="optimizer steps")
    write.add_argument("--launcher", choices=("torchrun", "slurm"), default="torchrun", help="slurm: the job script")
    check = _command(commands, "check", "what would not start or is known to be wrong in a config")
    check.add_argument("file", metavar="FILE")
    check.add_argument("--gpus", type=int, metavar="N", help="GPUs that the file is meant for")
    check.add_argument("--engine", metavar="E", help="the trainer; left out, read off the file")
    check.add_argument("--strict", action="store_true", help="warnings count as errors")


def _add_running(commands: "argparse._SubParsersAction[_Parser]") -> None:
    launch = _command(commands, "launch", "check a config, train it and wait for the end")
    launch.add_argument("file", metavar="FILE", nargs="?")
    launch.add_argument("--resume", metavar="RUN", help="go on with a run that ended, from its last checkpoint")
    launch.add_argument("--detach", action="store_true", help="return once it is started")
    launch.add_argument("--python", metavar="PATH", help="the interpreter that has torch")
    launch.add_argument("--port", type=int, metavar="P", help="the port of torchrun's rendezvous; left out, a free one")
    launch.add_argument("--force", action="store_true", help="also on GPUs that others hold")
    attach = _command(commands, "attach", "the app on a run that goes on; without RUN the newest that lives")
    _add_app_flags(attach, argparse.SUPPRESS)
    stop = _command(commands, "stop", "end a run and see that nothing of it is left")
    runs = _command(commands, "runs", "all runs, newest last; `rm` deletes, `compare` lays two side by side")
    runs.add_argument("action", metavar="ACTION", nargs="?", choices=("rm", "compare"), help="rm or compare")
    runs.add_argument("names", metavar="RUN", nargs="*", help="the runs to delete, or the two to compare")
    logs = _command(commands, "logs", "what a rank printed")
    watch = _command(commands, "watch", "follow a run")
    attach.add_argument("run", metavar="RUN", nargs="?", help="the name of a run, or enough of its beginning")
    for parser in (stop, logs, watch):
        parser.add_argument("run", metavar="RUN", help="the name of a run, or enough of its beginning")
    logs.add_argument("--rank", type=int, default=0, metavar="R")
    logs.add_argument("--lines", type=int, default=100, metavar="N")
    watch.add_argument("--once", action="store_true", help="show where it stands and return")
    watch.add_argument("--replay", action="store_true", help="show an ended run again, from its events")
    watch.add_argument("--speed", type=float, default=10.0, metavar="X", help="of a replay, times the real one")
    for parser in (launch, attach, stop, runs, logs, watch):
        parser.add_argument("--runs", metavar="DIR", dest="runs_dir", help="the folder that holds the runs")


def _add_proving(commands: "argparse._SubParsersAction[_Parser]") -> None:
    doctor = _command(commands, "doctor", "what is wrong on this machine, in a config, or with a run; and the mend")
    doctor.add_argument("subject", metavar="RUN or FILE", nargs="?", help="left out, this machine")
    doctor.add_argument("--node", metavar="N", default=argparse.SUPPRESS, help="the machine that FILE is meant for")
    doctor.add_argument("--symptom", metavar="S", help="begin at oom, slow, nan, split, cp or hang")
    doctor.add_argument("--apply", metavar="RULE", help="apply the first mend of this finding to the config")
    doctor.add_argument("--strict", action="store_true", help="warnings count as errors")
    parity = _command(commands, "parity", "a few steps at cp 1 and at the file's cp, from one seed, side by side")
    parity.add_argument("file", metavar="FILE")
    parity.add_argument("--steps", type=int, default=4, metavar="S", help="optimizer steps of each")
    parity.add_argument("--seq", metavar="N", help="tokens of one sequence, where the file's do not fit at cp 1")
    for parser in (doctor, parity):
        parser.add_argument("--python", metavar="PATH", help="the interpreter that has torch")
        parser.add_argument("--runs", metavar="DIR", dest="runs_dir", help="the folder that holds the runs")
    card = _command(commands, "card", "the quick reference: the card's value and ours, each with its source")
    card.add_argument("rows", metavar="ID", nargs="*", help="rows to show, such as F3 or D; left out, all")
    card.add_argument("--lang", choices=("en", "zh"), default=argparse.SUPPRESS, help="language")
    settings = _command(commands, "settings", "every setting with its value and where it comes from")
    settings.add_argument("--default", action="store_true", help="print a settings file to start from")
