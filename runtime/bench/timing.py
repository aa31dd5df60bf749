"""Seconds of a pass, call by call, with the host ahead of its GPU as in training; and the memory that a call takes."""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import TypeVar, cast

import torch

from runtime import comm
from runtime.bench.inputs import Inputs
from runtime.bench.launch import RankError, Ranks
from runtime.bench.variants import Variant
from runtime.shortage import is_shortage
from runtime.stopwatch import Mark

T = TypeVar("T")


class ShortageError(Exception):
    """The GPUs have no memory for a variant of this row."""


def prepared(one_pass: str, variant: Variant, inputs: Inputs) -> Callable[[], object]:
    """A function that runs the pass once. The graph that backward alone walks is built here."""
    if one_pass == "backward":
        out = variant.attend(*inputs.qkv)
        return lambda: torch.autograd.grad(out, inputs.qkv, inputs.dout, retain_graph=True)
    return {"forward": _forward, "both": _both}[one_pass](variant, inputs)


def _forward(variant: Variant, inputs: Inputs) -> Callable[[], object]:
    def call() -> None:
        with torch.no_grad():
            variant.attend(*inputs.qkv)

    return call


def _both(variant: Variant, inputs: Inputs) -> Callable[[], object]:
    def call() -> None:
        torch.autograd.grad(variant.attend(*inputs.qkv), inputs.qkv, inputs.dout)

    return call


def warm(variant: Variant, inputs: Inputs, device: torch.device, calls: int) -> int | None:
    """Call both passes, then forward alone, untimed; the most bytes that a call held above what stood before.

    None on a CPU, where nobody counts.
    """
    with variant.context():
        both = prepared("both", variant, inputs)
        peak = _peak_bytes(both, device)
        for _ in range(calls - 1):
            both()
        prepared("forward", variant, inputs)()
        _wait(device)
    return peak


def _peak_bytes(call: Callable[[], object], device: torch.device) -> int | None:
    if device.type != "cuda":
        call()
        return None
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    call()
    _wait(device)
    return torch.cuda.max_memory_allocated(device) - before + comm.held_bytes()


def turn(
    one_pass: str, variant: Variant, inputs: Inputs, device: torch.device, *, repeats: int, lead_in: int
) -> list[float]:
    """Seconds of each of `repeats` calls, back to back; the host waits for its GPU only after the last."""
    with variant.context(), _no_collection():
        call = prepared(one_pass, variant, inputs)
        for _ in range(lead_in):
            call()
        marks = [Mark(device)]
        for _ in range(repeats):
            call()
            marks.append(Mark(device))
        _wait(device)
    return [after.since(before) for before, after in pairwise(marks)]


@contextmanager
def _no_collection() -> Iterator[None]:
    """Python collects no garbage meanwhile, as timeit has it: that stops the host for milliseconds."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def together(ranks: Ranks, variant: Variant, work: Callable[[], T]) -> list[T]:
    """What `work` gave on each rank. Every rank calls it at the same point.

    Raises ShortageError where the GPUs have no memory for it, RankError where some have while others wait for them.
    """
    value, is_short = _attempt(work)
    answers = ranks.gather((value, is_short))
    short = [rank for rank, (_, said) in enumerate(answers) if said]
    if not short:
        return [cast(T, found) for found, _ in answers]
    comm.forget(ranks.group)
    gc.collect()
    if ranks.device.type == "cuda":
        torch.cuda.empty_cache()
    if not variant.is_whole and len(short) < ranks.size:
        raise RankError(f"{variant.name}: out of GPU memory on ranks {short} alone, and the others wait for them")
    raise ShortageError


def _attempt(work: Callable[[], T]) -> tuple[T | None, bool]:
    try:
        return work(), False
    except RuntimeError as error:
        if not is_shortage(error):
            raise
        return None, True
