"""How long a command takes beside the interpreter alone: `--help` and `inspect` are typed often."""

import subprocess
import sys
import time
from collections.abc import Callable

from benchmarks.row import Row, paired

PAIRS = 15


def rows() -> list[Row]:
    """`--help` at most 4 times, `inspect` at most 6 times `python -c pass`."""
    empty = _timed(sys.executable, "-c", "pass")
    command = (sys.executable, "-m", "cpadvisor")
    return [
        paired("cpadvisor --help / python -c pass", _timed(*command, "--help"), empty, pairs=PAIRS, goal=4.0),
        paired(
            "cpadvisor inspect --node dgx-h100 / python -c pass",
            _timed(*command, "inspect", "--node", "dgx-h100", "--json"),
            empty,
            pairs=PAIRS,
            goal=6.0,
        ),
    ]


def _timed(*argv: str) -> Callable[[], float]:
    def measure() -> float:
        start = time.perf_counter()
        subprocess.run(argv, stdout=subprocess.DEVNULL, check=True)
        return time.perf_counter() - start

    return measure
