from dataclasses import replace

import torch
import torch.distributed as dist

from runtime.bench import attention, schedule, variants
from runtime.bench.inputs import draw
from runtime.bench.launch import Ranks
from runtime.bench.request import Request
from runtime.bench.results import Result, Row
from runtime.bench.shape import Shape

REQUEST = Request(
    sizes=(32_768, 65_536),
    heads=((4, 2),),
    methods=("ring",),
    kernels=("cpu",),
    passes=("forward", "both"),
    repeats=4,
    leaves_out=True,
)


def result(kernel, **facts):
    variant = variants.Variant(role="ours", method="ring", kernel=kernel, attend=lambda q, k, v: q)
    return Result(variant=variant, **facts)


def carried(request):
    shape = Shape(tokens=32_768, heads=4, kv_heads=2, ranks=2)
    standing = [result("quick"), result("slow"), result("large"), result("off", reason="WRONG: out 1.0e+00 relative")]
    row = Row(
        shape=shape,
        results=(
            replace(standing[0], seconds={"both": [1.0]}),
            replace(standing[1], seconds={"both": [1.5]}),
            replace(standing[2], reason="out of memory"),
            standing[3],
        ),
    )
    return [after.reason for after in attention._carried(row, standing, request)]


def test_a_longer_row_does_without_the_slower_the_larger_and_the_wrong():
    slower = "left out: 1.50 x the best in a shorter row"
    assert carried(REQUEST) == [None, slower, "out of memory", "WRONG: out 1.0e+00 relative"]


def test_all_of_them_are_measured_on_demand_but_for_those_that_cannot_be():
    assert carried(replace(REQUEST, leaves_out=False))[:3] == [None, None, "out of memory"]


def row_with_shortage(rank, world, calls_until_short):
    """A row of the ring, and of one that finds no memory from some call on."""
    group = dist.group.WORLD
    ranks = Ranks(rank=rank, size=world, device=torch.device("cpu"), group=group, control=group)
    shape = Shape(tokens=64, heads=4, kv_heads=2, ranks=world, head_dim=8)
    alone, ring = variants.own({"cpu": None}, ("ring",), group.group_name)
    calls = []

    def short(q, k, v):
        calls.append(None)
        if len(calls) > calls_until_short:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return ring.attend(q, k, v)

    standing = [Result(variant=variant) for variant in (alone, replace(ring, attend=short, kernel="short"), ring)]
    run = attention.RowRun(ranks=ranks, shape=shape, inputs=draw(shape, ranks), request=REQUEST)
    row = attention._measured(run, standing)
    return [(found.reason, {name: len(seconds) for name, seconds in found.seconds.items()}) for found in row.results]


def test_a_variant_without_memory_is_told_so_and_the_others_go_on(gloo_pool):
    timed = {"forward": 4, "both": 4}
    for calls in (0, schedule.WARM_UPS + 6):
        for found in gloo_pool.run(2, row_with_shortage, calls):
            assert found == [(None, timed), ("out of memory", {}), (None, timed)]


def test_a_wrong_variant_gives_way_to_its_fallback_or_is_not_timed(gloo_pool):
    for reasons, notes in gloo_pool.run(2, judged_with_fallback):
        assert reasons[0] is None
        assert reasons[1].startswith("WRONG: out ")
        assert reasons[2] is None
        assert notes["because"].startswith("WRONG: out ")


def judged_with_fallback(rank, world):
    group = dist.group.WORLD
    ranks = Ranks(rank=rank, size=world, device=torch.device("cpu"), group=group, control=group)
    shape = Shape(tokens=64, heads=4, kv_heads=2, ranks=world, head_dim=8)
    alone, ring = variants.own({"cpu": None}, ("ring",), group.group_name)
    off = replace(ring, attend=lambda q, k, v: ring.attend(q, k, v) * 2)
    found = attention._checked(ranks, [alone, off, replace(off, fallback=ring)], draw(shape, ranks))
    return [one.reason for one in found], found[2].variant.notes
