"""Context-parallel attention beside one GPU's part of the work and beside torch's own, on GPUs or on CPU processes."""

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.row import Row

NAME = "context-parallel attention"


def rows() -> list[Row]:
    """The trainer's fastest variant of each row; the table of all variants goes to stderr as it grows."""
    if find_spec("torch") is None:
        return [Row(name=NAME, skipped="torch is not installed")]
    with TemporaryDirectory() as folder:
        path = Path(folder) / "attention.json"
        command = (sys.executable, "-m", "runtime.bench", "attention", "--json", str(path))
        status = subprocess.run(command, stdout=sys.stderr, check=False).returncode
        measured = json.loads(path.read_text(encoding="utf-8"))["rows"] if path.exists() else []
    failed = [Row(name=NAME, skipped=f"python -m runtime.bench ended with exit status {status}")] if status else []
    return [row for one in measured for row in _rows(one)] + failed


def _rows(measured: dict[str, Any]) -> list[Row]:
    unit = "GPUs" if measured["peer_s"].get("both") else "ranks"
    place = (
        f"{measured['tokens']:,} tokens, heads {measured['heads']}:{measured['kv_heads']}, {measured['ranks']} {unit}"
    )
    timed = [one for one in measured["variants"] if one["role"] == "ours" and "both" in one["passes"]]
    if not timed:
        return [Row(name=f"attention, {place}", skipped="no variant of the trainer ran")]
    best = min(timed, key=lambda one: one["passes"]["both"]["median_s"])
    both, name = best["passes"]["both"], f"{best['method']} {best['kernel']}"
    note = f"{both['tflops_per_gpu']:.3g} TFLOP/s a rank, {both['repeats']} repeats"
    ideal = _row(f"{name} / ideal, {place}", both, measured["ideal_s"]["both"], note=note)
    peer = _row(f"{name} / torch context_parallel, {place}", both, measured["peer_s"]["both"], goal=1.0)
    return [ideal, peer]


def _row(name: str, both: dict[str, Any], other: float | None, *, goal: float | None = None, note: str = "") -> Row:
    if other is None:
        return Row(name=name, skipped="nothing to compare with ran here")
    low, middle, high = (both[key] / other for key in ("min_s", "median_s", "max_s"))
    return Row(
        name=name,
        ours=both["median_s"],
        other=other,
        ratio=middle,
        ratio_low=low,
        ratio_high=high,
        goal=goal,
        note=note,
    )
