"""A question put to a child process, which may hang or crash in the place of the one who asks."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from cpadvisor.doctor.facts import Answer
from cpadvisor.doctor.libraries_child import LIFELINE
from cpadvisor.processes import signal_name

REAP_S = 2.0
"""A killed child is waited for so long and then left: one that hangs inside the driver ends only with the driver."""


def ask(argv: Sequence[str], *, timeout_s: float, environ: Mapping[str, str] = os.environ) -> Answer:
    """The JSON object that a program prints as its last line, within a time; never raises for what the child does.

    The child leads a session of its own, so that what it started ends with it. A program of ours learns through its
    lifeline that we are gone, however we went (`end_with_asker`).
    """
    try:
        with _lifeline() as end:
            return _asked(argv, end, timeout_s=timeout_s, environ=environ)
    except OSError as error:
        return Answer(why=f"{argv[0]} cannot be started: {error.strerror or error}", given_s=timeout_s)


@contextlib.contextmanager
def _lifeline() -> Iterator[int]:
    """The end of a pipe for a child to hold; the kernel closes the other one with us."""
    theirs, ours = os.pipe()
    try:
        yield theirs
    finally:
        os.close(theirs)
        os.close(ours)


def _asked(argv: Sequence[str], lifeline: int, *, timeout_s: float, environ: Mapping[str, str]) -> Answer:
    started = time.monotonic()
    child = subprocess.Popen(
        list(argv),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**environ, "PYTHONSAFEPATH": "1", LIFELINE: str(lifeline)},
        pass_fds=(lifeline,),
        start_new_session=True,
    )
    try:
        out, err = child.communicate(timeout=timeout_s)
    except BaseException as stop:
        _end(child)
        if not isinstance(stop, subprocess.TimeoutExpired):
            raise
        return Answer(why=f"no answer within {timeout_s:g} s", took_s=timeout_s, given_s=timeout_s)
    return _read(out, err, child.returncode, took_s=time.monotonic() - started, given_s=timeout_s)


def ask_ourselves(module: str, *arguments: str, timeout_s: float, environ: Mapping[str, str] = os.environ) -> Answer:
    """The same of a module of this package, in a child of this interpreter."""
    ours = str(Path(__file__).parents[2])
    path = os.pathsep.join(filter(None, (ours, environ.get("PYTHONPATH"))))
    return ask([sys.executable, "-m", module, *arguments], timeout_s=timeout_s, environ={**environ, "PYTHONPATH": path})


def _end(child: "subprocess.Popen[bytes]") -> None:
    """End a child that runs, with all that it started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(timeout=REAP_S)
    for pipe in (child.stdout, child.stderr):
        if pipe is not None:
            pipe.close()


def _read(out: bytes, err: bytes, status: int, *, took_s: float, given_s: float) -> Answer:
    lines = out.decode(errors="replace").strip().splitlines()
    try:
        data = json.loads(lines[-1]) if lines else None
    except ValueError:
        data = None
    if status == 0 and isinstance(data, dict):
        return Answer(data=data, took_s=took_s, given_s=given_s)
    how = f"was ended by {signal_name(-status)}" if status < 0 else f"ended with exit status {status}"
    words = next((line.strip() for line in reversed(err.decode(errors="replace").splitlines()) if line.strip()), "")
    return Answer(why=f"it {how}" + (f": {words[:300]}" if words else ""), took_s=took_s, given_s=given_s)
