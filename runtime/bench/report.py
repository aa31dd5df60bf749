"""The table of a measurement, row by row as they come, and the JSON file beside it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from runtime.bench.results import ENOUGH_REPEATS, Result, Row
from runtime.bench.shape import PASSES

DASH = "–"
COLUMNS = (
    ("tokens", 8),
    ("heads", 6),
    ("role", -6),
    ("method", -16),
    ("kernel", -13),
    ("fwd ms", 9),
    ("bwd ms", 9),
    ("both ms", 9),
    ("spread", 6),
    ("TFLOP/s/GPU", 14),
    ("of ideal", 8),
    ("to peer", 7),
    ("", -1),
)
"""Heading and width; a negative one aligns to the left."""
LEGEND = (
    "ms: median of the repeats, each that of its slowest rank. ideal: one GPU alone on the whole sequence, its time\n"
    "over the ranks. TFLOP/s/GPU: forward/backward/both, counting the causal half. of ideal: best ideal / this.\n"
    "to peer: best peer / this, above 1 this is faster. Ratios and spread are those of the last pass timed."
)


def header() -> str:
    """The line above the rows."""
    return _line([heading for heading, _ in COLUMNS])


def lines(row: Row) -> str:
    """One line a variant that was timed, one for each reason why others were not."""
    timed = [_line(_cells(row, result)) for result in row.results if result.seconds]
    reasons: dict[str, list[str]] = {}
    for result in row.results:
        if not result.seconds:
            reasons.setdefault(result.reason or "not asked for", []).append(result.variant.name)
    start = _line(_place(row) + [""] * (len(COLUMNS) - 2))
    return "\n".join([*timed, *(f"{start}  {', '.join(names)}: {reason}" for reason, names in reasons.items())])


def write_json(path: Path, machine: dict[str, Any], rows: Sequence[Row], *, complete: bool) -> None:
    """All that is known so far. `complete` tells a whole run from one that ended early."""
    report = {"schema": 1, "machine": machine, "complete": complete, "rows": [row.as_dict() for row in rows]}
    path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def _cells(row: Row, result: Result) -> list[str]:
    shape, variant = row.shape, result.variant
    last = list(result.seconds)[-1]
    return [
        *_place(row),
        variant.role,
        f"{variant.method} / {shape.ranks}" if variant.is_whole else variant.method,
        variant.kernel,
        *(_milliseconds(result.median(name)) for name in PASSES),
        _number(result.spread(last), ".0%"),
        "/".join(_tflops_per_s(row, result, name) for name in PASSES),
        _number(row.ratio("ideal", result, last), ".3f"),
        _number(row.ratio("peer", result, last), ".3f"),
        _few(result),
    ]


def _place(row: Row) -> list[str]:
    return [f"{row.shape.tokens:,}", f"{row.shape.heads}:{row.shape.kv_heads}"]


def _tflops_per_s(row: Row, result: Result, one_pass: str) -> str:
    seconds = result.median(one_pass)
    rate = None if seconds is None else row.shape.flops_per_s(one_pass, seconds) / 1e12
    return _number(rate, ".0f" if rate is None or rate >= 10 else ".2f")


def _few(result: Result) -> str:
    fewest = result.fewest_repeats
    return f"{fewest} repeats" if fewest is not None and fewest < ENOUGH_REPEATS else ""


def _milliseconds(seconds: float | None) -> str:
    return _number(None if seconds is None else seconds * 1e3, ".3f")


def _number(value: float | None, form: str) -> str:
    return DASH if value is None else format(value, form)


def _line(cells: Sequence[str]) -> str:
    widths = [width for _, width in COLUMNS]
    padded = [cell.rjust(width) if width > 0 else cell.ljust(-width) for cell, width in zip(cells, widths, strict=True)]
    return "  ".join(padded).rstrip()
