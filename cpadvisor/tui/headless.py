"""The headless command that does what a key of the app does; the log shows it and `y` copies it."""

import shlex
from pathlib import Path

from cpadvisor.job import Request
from cpadvisor.plan.advice import Plan
from cpadvisor.plan.layout import AXES
from cpadvisor.tui.session import Machine

_FLAGS = {
    "gpu": "--gpu",
    "model": "--model",
    "sequence_len": "--seq",
    "engine": "--engine",
    "method": "--method",
    "cp_method": "--cp-method",
    "nodes": "--nodes",
    "nic": "--nic",
    "gpus": "--gpus",
    "global_batch": "--global-batch",
    "objective": "--objective",
    "lock": "--lock",
    "headroom": "--headroom",
}
"""Fields of a request as `plan` and `write` take them."""

_DEFAULT = Request()


def command(*words: str | Path) -> str:
    """`cpadvisor stop RUN`, quoted for a shell."""
    return shell("cpadvisor", *words)


def shell(*words: str | Path) -> str:
    """Any command, quoted for a shell."""
    return shlex.join(map(str, words))


def inspect(request: Request) -> str:
    """The look at the machine that is asked for."""
    return command("inspect", *_topology(request))


def plan(machine: Machine, request: Request) -> str:
    """The advice for a job on a machine."""
    return command("plan", *_job(machine, request))


def write(machine: Machine, request: Request, chosen: Plan, *, first: bool, path: Path) -> str:
    """The file of the chosen plan. One that is not the first is asked for by its sizes."""
    sizes = ",".join(f"{axis}={getattr(chosen.layout, axis)}" for axis in AXES)
    asked = _job(machine, request, lock=None if first else sizes)
    return command("write", *asked, "-o", path)


def _job(machine: Machine, request: Request, *, lock: str | None = None) -> list[str]:
    words = _topology(request) or _node(machine)
    for name, flag in _FLAGS.items():
        value = lock if name == "lock" and lock is not None else getattr(request, name)
        if value not in (None, "", getattr(_DEFAULT, name)) and not (name == "gpu" and flag in words):
            words += [flag, str(value)]
    return words


def _topology(request: Request) -> list[str]:
    """The machine as it was asked for; a pasted topology comes on standard input again."""
    if request.topo_text is not None:
        return ["--topo", "-", *(["--gpu", request.gpu] if request.gpu else [])]
    return [] if request.node is None else ["--node", request.node]


def _node(machine: Machine) -> list[str]:
    """The machine that is shown, where it was not asked for and is not this one."""
    return [] if machine.node.source == "nvml" else ["--node", machine.node.name]
