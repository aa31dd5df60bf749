"""Context-parallel attention beside its ideal and torch's own: what every rank does, row after row."""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial

import torch

from runtime.bench import report, schedule, soundness, timing, variants
from runtime.bench.inputs import RowInputs, draw, dtype_of
from runtime.bench.launch import Ranks
from runtime.bench.machine import describe
from runtime.bench.request import Request
from runtime.bench.results import Result, Row
from runtime.bench.shape import Shape
from runtime.bench.torch_peer import peers
from runtime.bench.variants import Variant

OUT_OF_MEMORY = "out of memory"


def measure(ranks: Ranks, request: Request) -> None:
    """Measure every row; rank 0 prints each one and brings the JSON file up to date."""
    machine = describe(ranks)
    _print(ranks, f"{ranks.size} x {machine['gpus'][0]}, torch {torch.__version__}\n{report.LEGEND}\n{report.header()}")
    rows: list[Row] = []
    for row in _rows(ranks, request):
        rows.append(row)
        _print(ranks, report.lines(row))
        if ranks.rank == 0 and request.json_path is not None:
            complete = len(rows) == len(request.sizes) * len(request.heads)
            report.write_json(request.json_path, machine, rows, complete=complete)


def _print(ranks: Ranks, text: str) -> None:
    if ranks.rank == 0:
        print(text, flush=True)


def _rows(ranks: Ranks, request: Request) -> Iterator[Row]:
    for heads, kv_heads in request.heads:
        standing: list[Result] = []
        for tokens in request.sizes:
            shape = Shape(tokens=tokens, heads=heads, kv_heads=kv_heads, ranks=ranks.size)
            if ranks.rank == 0:
                print(f"{tokens:,} tokens, heads {heads}:{kv_heads} …", file=sys.stderr, flush=True)
            inputs = draw(shape, ranks)
            if not standing:
                standing = _checked(ranks, _candidates(ranks, request, shape), inputs)
            row = _measured(RowRun(ranks=ranks, shape=shape, inputs=inputs, request=request), standing)
            yield row
            standing = _carried(row, standing, request)


def _candidates(ranks: Ranks, request: Request, shape: Shape) -> list[Variant]:
    """All variants of these heads, with the reasons of those that do not run on some rank."""
    try_kernel = partial(
        variants.reason_not,
        device=ranks.device,
        dtype=dtype_of(ranks.device),
        heads=shape.heads,
        kv_heads=shape.kv_heads,
    )
    kernels = {name: next(filter(None, ranks.gather(try_kernel(name))), None) for name in request.kernels}
    own = variants.own(kernels, request.methods, ranks.group.group_name)
    theirs = peers(ranks, heads=shape.heads, kv_heads=shape.kv_heads)
    return sorted([*own, *theirs], key=lambda variant: ("ideal", "peer", "ours").index(variant.role))


def _checked(ranks: Ranks, candidates: list[Variant], inputs: RowInputs) -> list[Result]:
    """Each variant with its errors against the first kernel that runs alone, or why it is not to be timed."""
    reference = next((variant for variant in candidates if variant.is_whole and variant.skipped is None), None)
    if reference is None:
        return [Result(variant=variant, reason=variant.skipped or "no kernel to check it") for variant in candidates]
    truth = soundness.outcome(reference, inputs)

    def check(variant: Variant) -> Result:
        if variant.skipped is not None:
            return Result(variant=variant, reason=variant.skipped)
        found = soundness.errors(ranks, variant, inputs, truth)
        reason = found if isinstance(found, str) else soundness.wrong(found)
        if reason is not None and variant.fallback is not None:
            return check(replace(variant.fallback, notes={**variant.fallback.notes, "because": reason}))
        return Result(variant=variant, reason=reason, errors=None if isinstance(found, str) else found)

    return [check(variant) for variant in candidates]


def _carried(row: Row, standing: list[Result], request: Request) -> list[Result]:
    """How each variant goes into the next, longer row: one that found no memory never will."""
    before = {result.variant.name: result for result in row.results}
    short = {name for name, result in before.items() if result.reason == OUT_OF_MEMORY}
    tokens = min((size for size in request.sizes if size > row.shape.tokens), default=0)
    seconds = row.seconds() if request.leaves_out else {"peer": row.seconds().get("peer", {})}
    slower = schedule.left_out(tokens, seconds)
    reasons: Mapping[str, str] = {**slower, **dict.fromkeys(short, OUT_OF_MEMORY)}
    return [replace(result, reason=result.reason or reasons.get(result.variant.name)) for result in standing]


@dataclass(frozen=True, slots=True, kw_only=True)
class RowRun:
    """What the measurement of one row works on."""

    ranks: Ranks
    shape: Shape
    inputs: RowInputs
    request: Request

    def call_flops(self, variant: Variant) -> float:
        """What one rank computes in both passes."""
        return self.shape.flops("both") / (1 if variant.is_whole else self.ranks.size)


def _measured(run: RowRun, standing: list[Result]) -> Row:
    """Warm up all that stands, then time pass by pass, in turns."""
    results = [result if result.reason else _warmed(run, result) for result in standing]
    samples: dict[str, dict[str, list[float]]] = {}
    short: set[str] = set()
    for one_pass in run.request.passes:
        for index in range(schedule.ROUNDS):
            for result in results:
                name = result.variant.name
                if result.reason or name in short:
                    continue
                try:
                    seconds = _turn(run, result.variant, one_pass, index)
                except timing.ShortageError:
                    short.add(name)
                else:
                    samples.setdefault(name, {}).setdefault(one_pass, []).extend(seconds)
    timed = [_with_samples(result, samples, short) for result in results]
    return Row(shape=run.shape, results=tuple(timed))


def _warmed(run: RowRun, result: Result) -> Result:
    variant = result.variant
    calls = schedule.warm_ups(run.call_flops(variant))
    tensors, device = run.inputs.of(variant), run.ranks.device
    try:
        peaks = timing.together(run.ranks, variant, lambda: timing.warm(variant, tensors, device, calls))
    except timing.ShortageError:
        return replace(result, reason=OUT_OF_MEMORY)
    return replace(result, peak_bytes=max((peak for peak in peaks if peak is not None), default=None))


def _turn(run: RowRun, variant: Variant, one_pass: str, index: int) -> list[float]:
    """Seconds of the repeats of one turn: of each that of the slowest rank, an ideal's over the ranks."""
    work = run.call_flops(variant)
    turns = schedule.turns(schedule.repeats(variant.role, work, run.request.repeats))
    if index >= len(turns):
        return []
    time_own = partial(
        timing.turn,
        one_pass,
        variant,
        run.inputs.of(variant),
        run.ranks.device,
        repeats=turns[index],
        lead_in=schedule.lead_in(work),
    )
    of_ranks = timing.together(run.ranks, variant, time_own)
    parts = run.ranks.size if variant.is_whole else 1
    return [max(repeat) / parts for repeat in zip(*of_ranks, strict=True)]


def _with_samples(result: Result, samples: Mapping[str, dict[str, list[float]]], short: set[str]) -> Result:
    name = result.variant.name
    if name in short:
        return replace(result, reason=OUT_OF_MEMORY)
    return replace(result, seconds=samples.get(name, {}))
