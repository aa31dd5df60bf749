"""`doctor`: what is wrong on this machine, in a config or with a run, and the change that mends it."""

import argparse
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cpadvisor import doctor, rundir
from cpadvisor.commands.output import print_json, say, text_width
from cpadvisor.doctor import mending
from cpadvisor.doctor.diagnosis import Diagnosis, Mend
from cpadvisor.doctor.symptoms import require_symptom
from cpadvisor.errors import EXIT_DONE, EXIT_FAILED, LaunchError, UsageError
from cpadvisor.node import Node


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What is examined."""

    kind: str
    """`node`, `config` or `run`."""
    label: str
    path: Path | None = None
    """The file or the run directory."""
    target: str | None = None
    """As a command names it."""

    @property
    def config(self) -> Path | None:
        """The file that mends change."""
        return doctor.config_of(self.path) if self.kind == "run" and self.path is not None else self.path


def run(args: argparse.Namespace) -> int:
    """Examine, then show everything, the steps of a symptom, or the change that `--apply` makes."""
    if args.symptom is not None:
        require_symptom(args.symptom)
    subject = find_subject(args.subject, runs=None if args.runs_dir is None else Path(args.runs_dir))
    node = _node(args, subject)
    found = _examine(subject, args, node)
    if args.apply is not None:
        return _apply(subject, found, args, node)
    shown = found
    if args.symptom is not None:
        shown = doctor.guided(found, args.symptom, subject=shlex.quote(subject.target or ""))
    if args.json:
        print_json(doctor.diagnoses_json(shown, subject=subject.kind))
    else:
        print(_text(subject, shown, args.symptom))
    failing = ("error", "warning") if args.strict else ("error",)
    return EXIT_FAILED if any(one.severity in failing for one in shown) else EXIT_DONE


def find_subject(name: str | None, *, runs: Path | None) -> Subject:
    """A file, else a run, else this machine. Raises UsageError that says what was looked for under the name."""
    if name is None:
        return Subject(kind="node", label="this machine")
    path = Path(name).expanduser()
    if path.is_file():
        return Subject(kind="config", label=name, path=path, target=name)
    try:
        found = rundir.find_run(rundir.runs_root(runs), name)
    except LaunchError as error:
        raise UsageError(f"{name} is no file and no run: there is no file {path.absolute()}, and {error}") from error
    return Subject(kind="run", label=f"run {found.name}", path=found, target=rundir.command_name(found))


def _node(args: argparse.Namespace, subject: Subject) -> Node | None:
    """The machine that a file is meant for, where `--node` names one."""
    if args.node is None:
        return None
    if subject.kind != "config":
        raise UsageError(
            f"--node {args.node} judges a FILE for another machine, and this is {subject.label}; "
            f"`cpadvisor inspect --node {args.node}` shows that machine"
        )
    from cpadvisor.probe.machine import find_node

    return find_node(node=args.node, topo_text=None, gpu=None)[0]


def _examine(subject: Subject, args: argparse.Namespace, node: Node | None) -> tuple[Diagnosis, ...]:
    if subject.path is None:
        return doctor.examine_node(python=args.python, runs=None if args.runs_dir is None else Path(args.runs_dir))
    if subject.kind == "run":
        return doctor.examine_run(subject.path)
    return doctor.examine_config(subject.path, node=node)


def _text(subject: Subject, found: Sequence[Diagnosis], symptom: str | None) -> str:
    from cpadvisor.report.doctor import doctor_text, guided_text

    if symptom is None:
        return doctor_text(found, subject=subject.label, target=subject.target, width=text_width())
    return guided_text(found, subject=subject.label, symptom=symptom, target=subject.target, width=text_width())


def _apply(subject: Subject, found: Sequence[Diagnosis], args: argparse.Namespace, node: Node | None) -> int:
    if subject.config is None:
        raise UsageError(f"--apply {args.apply} changes a config, and this is {subject.label}; name a FILE or a RUN")
    one, mend = choose_mend(found, args.apply)
    diff, backup = mending.apply(subject.config, mend)
    if args.json:
        print_json(
            {
                "schema": 1,
                "path": str(subject.config),
                "rule": one.rule,
                "changed": bool(diff),
                "diff": diff,
                "backup": None if backup is None else str(backup),
            }
        )
        return EXIT_DONE
    say(f"{one.rule}: {mend.text}")
    print(diff or f"{subject.config} is like that already")
    if "\n-  prediction:" in diff:
        say("the prediction was of the old values and is out of the file; `cpadvisor write` makes a new one")
    if backup is not None:
        say(f"the old file is kept as {backup}")
    if subject.kind == "config":
        _say_what_is_left(subject, args, node)
    return EXIT_DONE


def choose_mend(found: Sequence[Diagnosis], rule: str) -> tuple[Diagnosis, Mend]:
    """The finding of a rule, by its name or the only one that begins so, and its first mend that changes a config.

    Raises UsageError naming the findings that have such a mend.
    """
    able = {one.rule: one for one in found if any(mend.changes for mend in one.mends)}
    names = [rule] if rule in able else [name for name in able if name.startswith((f"{rule}.", f"{rule}-"))]
    if len(names) == 1:
        one = able[names[0]]
        return one, next(mend for mend in one.mends if mend.changes)
    if names:
        raise UsageError(f"--apply {rule} could be {', '.join(names)}; name one of them")
    there = next((one for one in found if one.rule == rule), None)
    what = f"finding {rule!r} has no mend that changes a config" if there else f"there is no finding {rule!r} here"
    others = ", ".join(able) or "none"
    raise UsageError(f"{what}; those that have one: {others}")


def _say_what_is_left(subject: Subject, args: argparse.Namespace, node: Node | None) -> None:
    from cpadvisor.report.doctor import counts_label

    say(f"now: {counts_label(_examine(subject, args, node))}")
