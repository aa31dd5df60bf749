"""The machine and the interpreter that trains: every check of the node and its environment."""

import os
from collections.abc import Mapping
from pathlib import Path

from cpadvisor.doctor.diagnosis import Diagnosis


def examine_node(
    *, python: str | None = None, runs: Path | None = None, environ: Mapping[str, str] = os.environ
) -> tuple[Diagnosis, ...]:
    """Every check of this machine, worst first. Takes seconds: whatever may hang is asked in a child with a time-out.

    `python` is the interpreter that trains (left out, the one that `launch` would take), `runs` the folder of runs.
    """
    raise NotImplementedError
