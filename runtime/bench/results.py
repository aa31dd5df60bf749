"""What was measured of a row, and what follows from it: medians, spread, rates, ratios to the ideal and to the peer."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from runtime.bench.shape import Shape
from runtime.bench.variants import Variant

ENOUGH_REPEATS = 10
"""A median of fewer is flagged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One variant of a row."""

    variant: Variant
    reason: str | None = None
    """Why it was not timed."""
    errors: Mapping[str, float] | None = None
    """Relative errors at the shortest length."""
    peak_bytes: int | None = None
    """Most that one call of both passes held above its inputs, on any rank."""
    seconds: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """By pass: of each repeat that of the slowest rank. An ideal's are divided by the number of ranks."""

    def median(self, one_pass: str) -> float | None:
        """Seconds of a pass; None where it was not timed."""
        return statistics.median(self.seconds[one_pass]) if one_pass in self.seconds else None

    def spread(self, one_pass: str) -> float | None:
        """(longest - shortest) / median: 0.02 is 2 %."""
        middle = self.median(one_pass)
        return None if middle is None else (max(self.seconds[one_pass]) - min(self.seconds[one_pass])) / middle

    @property
    def fewest_repeats(self) -> int | None:
        """Of the pass with the fewest."""
        return min((len(samples) for samples in self.seconds.values()), default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """All variants of one shape, measured in turns."""

    shape: Shape
    results: tuple[Result, ...]

    def best(self, role: str, one_pass: str) -> float | None:
        """Seconds of the fastest variant of a role in this pass."""
        medians = (result.median(one_pass) for result in self.results if result.variant.role == role)
        return min((seconds for seconds in medians if seconds is not None), default=None)

    def ratio(self, role: str, result: Result, one_pass: str) -> float | None:
        """Best seconds of a role / seconds of a variant: 0.9 of the ideal, 1.1 times as fast as the peer."""
        best, own = self.best(role, one_pass), result.median(one_pass)
        return None if best is None or own is None else best / own

    def seconds(self) -> dict[str, dict[str, float]]:
        """By role and variant: the seconds that tell which are the slower ones, those of the longest pass timed."""
        found: dict[str, dict[str, float]] = {}
        for result in self.results:
            if result.seconds:
                samples = result.seconds[list(result.seconds)[-1]]
                found.setdefault(result.variant.role, {})[result.variant.name] = statistics.median(samples)
        return found

    def as_dict(self) -> dict[str, Any]:
        """For the JSON file."""
        shape, passes = self.shape, list(dict.fromkeys(name for result in self.results for name in result.seconds))
        return {
            "tokens": shape.tokens,
            "heads": shape.heads,
            "kv_heads": shape.kv_heads,
            "head_dim": shape.head_dim,
            "ranks": shape.ranks,
            "flops": {name: shape.flops(name) for name in passes},
            "ideal_s": {name: self.best("ideal", name) for name in passes},
            "peer_s": {name: self.best("peer", name) for name in passes},
            "variants": [self._variant(result) for result in self.results],
        }

    def _variant(self, result: Result) -> dict[str, Any]:
        return {
            "role": result.variant.role,
            "method": result.variant.method,
            "kernel": result.variant.kernel,
            "notes": dict(result.variant.notes),
            "not_timed": result.reason,
            "errors": None if result.errors is None else _finite(result.errors),
            "peak_bytes": result.peak_bytes,
            "divided_by": self.shape.ranks if result.variant.is_whole else 1,
            "passes": {name: self._pass(result, name) for name in result.seconds},
        }

    def _pass(self, result: Result, name: str) -> dict[str, Any]:
        samples, middle = list(result.seconds[name]), result.median(name)
        assert middle is not None, f"{name} of {result.variant.name} was timed"
        return {
            "seconds": samples,
            "repeats": len(samples),
            "median_s": middle,
            "min_s": min(samples),
            "max_s": max(samples),
            "spread": result.spread(name),
            "tflops_per_gpu": self.shape.flops_per_s(name, middle) / 1e12,
            "ideal_ratio": self.ratio("ideal", result, name),
            "peer_ratio": self.ratio("peer", result, name),
        }


def _finite(errors: Mapping[str, float]) -> dict[str, float | None]:
    """JSON has no word for NaN."""
    return {name: error if math.isfinite(error) else None for name, error in errors.items()}
