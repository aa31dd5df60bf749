"""How long a command takes beside the interpreter alone: `--help` and `inspect` are typed often."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from tempfile import TemporaryDirectory

from benchmarks.row import Row, paired

PAIRS = 15


def rows() -> list[Row]:
    """`--help` at most 4 times, `inspect` at most 6 times `python -c pass`."""
    with TemporaryDirectory() as bytecode:
        empty = _timed(bytecode, "-c", "pass")
        command = ("-m", "cpadvisor")
        return [
            paired(
                "cpadvisor --help / python -c pass", _timed(bytecode, *command, "--help"), empty, pairs=PAIRS, goal=4
            ),
            paired(
                "cpadvisor inspect --node dgx-h100 / python -c pass",
                _timed(bytecode, *command, "inspect", "--node", "dgx-h100", "--json"),
                empty,
                pairs=PAIRS,
                goal=6,
            ),
        ]


def _timed(bytecode: str, *arguments: str) -> Callable[[], float]:
    """A run of this interpreter that finds compiled modules in `bytecode`, as those of an installed package are."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    env["PYTHONPYCACHEPREFIX"] = bytecode

    def measure() -> float:
        start = time.perf_counter()
        subprocess.run((sys.executable, *arguments), stdout=subprocess.DEVNULL, env=env, check=True)
        return time.perf_counter() - start

    return measure
