"""One line of the bench table: a measurement, its alternative, the ratio with its spread, the goal."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What was measured beside what. `skipped` says why nothing was."""

    name: str
    ours: float | None = None
    other: float | None = None
    unit: str = "s"
    ratio: float | None = None
    """Median of the pairs' ratios, ours / other."""
    ratio_low: float | None = None
    ratio_high: float | None = None
    goal: float | None = None
    """The ratio that is to stay at or below this; None where none is set."""
    note: str = ""
    skipped: str | None = None

    @property
    def met(self) -> bool | None:
        """Whether the goal is kept; None without a goal or a measurement."""
        return None if self.goal is None or self.ratio is None else self.ratio <= self.goal

    def as_dict(self) -> dict[str, object]:
        """For bench.json."""
        return {**asdict(self), "met": self.met}


def paired(
    name: str,
    ours: Callable[[], float],
    other: Callable[[], float],
    *,
    pairs: int,
    unit: str = "s",
    goal: float | None = None,
    note: str = "",
) -> Row:
    """Measure both in turn, so that a drift of the machine's speed hits both; the median of the ratios counts."""
    ours(), other()  # warm caches
    samples = [(ours(), other()) for _ in range(pairs)]
    ratios = sorted(a / b for a, b in samples)
    return Row(
        name=name,
        ours=statistics.median(a for a, _ in samples),
        other=statistics.median(b for _, b in samples),
        unit=unit,
        ratio=statistics.median(ratios),
        ratio_low=ratios[0],
        ratio_high=ratios[-1],
        goal=goal,
        note=note,
    )


def render(rows: Sequence[Row]) -> str:
    """The table, one line a row; a skipped row prints its reason."""
    from cpadvisor.report.table import table

    lines = [_cells(row) for row in rows]
    headers = ("benchmark", "ours", "other", "ratio", "min – max", "goal", "note")
    return table(headers, lines, right=frozenset({1, 2, 3, 4, 5}))


def _cells(row: Row) -> tuple[str, ...]:
    if row.skipped is not None:
        return (row.name, "–", "–", "–", "–", "–", f"skipped: {row.skipped}")
    spread = "–" if row.ratio_low is None else f"{row.ratio_low:.2f} – {row.ratio_high:.2f}"
    goal = "–" if row.goal is None else f"≤ {row.goal:g} {'met' if row.met else 'MISSED'}"
    numbers = (_number(row.ours, row.unit), _number(row.other, row.unit))
    return (row.name, *numbers, "–" if row.ratio is None else f"{row.ratio:.2f}", spread, goal, row.note)


def _number(value: float | None, unit: str) -> str:
    if value is None:
        return "–"
    return f"{value * 1e3:.1f} ms" if unit == "s" else f"{value:,.1f} {unit}"
