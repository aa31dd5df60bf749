from dataclasses import replace

import pytest
import torch
import torch.distributed as dist

from runtime.bench import soundness, variants
from runtime.bench.inputs import draw
from runtime.bench.launch import Ranks
from runtime.bench.shape import Shape


def judged(rank, world):
    group = dist.group.WORLD
    ranks = Ranks(rank=rank, size=world, device=torch.device("cpu"), group=group, control=group)
    inputs = draw(Shape(tokens=64, heads=4, kv_heads=2, ranks=world, head_dim=8), ranks)
    alone, ring = variants.own({"cpu": None}, ("ring",), group.group_name)
    truth = soundness.outcome(alone, inputs)

    def astray(q, k, v):
        return ring.attend(q, k if rank else k * 1.5, v)

    def heads_first(q, k, v):
        return ring.attend(*(tensor.transpose(1, 2) for tensor in (q, k, v))).transpose(1, 2)

    def broken(q, k, v):
        raise ValueError("needs 4 heads\nand more")

    candidates = [
        alone,
        ring,
        replace(ring, attend=heads_first, heads_first=True),
        replace(ring, attend=astray),
        replace(ring, attend=broken),
    ]
    return [soundness.errors(ranks, variant, inputs, truth) for variant in candidates]


def test_a_sound_variant_is_told_from_one_that_is_off_on_a_single_rank_and_from_one_that_fails(gloo_pool):
    first, second = gloo_pool.run(2, judged)
    assert first == second
    alone, ring, heads_first, astray, broken = first
    assert set(alone.values()) == {0.0}
    assert max(ring.values()) < 1e-5
    assert max(heads_first.values()) < 1e-5
    assert soundness.wrong(ring) is None
    assert soundness.wrong(astray).startswith("WRONG: out ")
    assert broken == "does not run: ValueError: needs 4 heads"


@pytest.mark.parametrize(("error", "is_wrong"), [(2e-2, False), (2.1e-2, True), (float("nan"), True)])
def test_more_than_2_percent_and_what_is_no_number_are_wrong(error, is_wrong):
    assert (soundness.wrong({"out": 1e-3, "dk": error}) is not None) == is_wrong
