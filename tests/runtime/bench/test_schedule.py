from itertools import product

import pytest

from runtime.bench import schedule
from runtime.bench.shape import PASSES, Shape

SIZES = [8192 * 2**power for power in range(6)]


def call_flops(tokens, role):
    return Shape(tokens=tokens, heads=32, kv_heads=8, ranks=2).flops("both") / (1 if role == "ideal" else 2)


@pytest.mark.parametrize(
    ("tokens", "role", "count"),
    [(8192, "ideal", 10), (131_072, "ours", 10), (262_144, "ours", 5), (131_072, "ideal", 5), (262_144, "ideal", 3)],
)
def test_long_calls_are_repeated_less_but_ours_ten_times_up_to_128k(tokens, role, count):
    assert schedule.repeats(role, call_flops(tokens, role), 10) == count


def test_no_more_repeats_than_are_wanted():
    assert schedule.repeats("ideal", 1e18, 2) == 2


@pytest.mark.parametrize(("count", "turns"), [(10, [4, 3, 3]), (5, [2, 2, 1]), (3, [1, 1, 1]), (2, [1, 1])])
def test_repeats_come_in_turns(count, turns):
    assert schedule.turns(count) == turns


def test_short_rows_keep_every_variant_and_long_ones_those_near_the_best_of_their_role():
    before = {"ours": {"a": 1.0, "b": 1.04, "c": 1.9}, "ideal": {"d": 0.9}, "peer": {}}
    assert schedule.left_out(16_384, before) == {}
    assert schedule.left_out(65_536, before) == {"c": "left out: 1.90 x the best in a shorter row"}
    assert set(schedule.left_out(131_072, before)) == {"b", "c"}
    assert set(schedule.left_out(262_144, {"ours": {"a": 1.0, "e": 1.001}})) == {"e"}
    assert schedule.left_out(262_144, {"ideal": {"d": 0.9}}) == {}


def seconds_of_a_run(kernels, methods, peers):
    """Both passes at 590 TFLOP/s, each variant slower by its factor; one head setting."""
    variants = {("ideal", name): factor for name, factor in kernels.items()}
    variants |= {
        ("ours", f"{method} {name}"): factor * by
        for (name, factor), (method, by) in product(kernels.items(), methods.items())
    }
    variants |= {("peer", name): factor for name, factor in peers.items()}
    total = 0.0
    for tokens in SIZES:
        both = {variant: call_flops(tokens, variant[0]) / 590e12 * factor for variant, factor in variants.items()}
        for (role, _), seconds in both.items():
            work = call_flops(tokens, role)
            count = schedule.repeats(role, work, 10)
            turns = len(schedule.turns(count))
            # forward, backward and both are 2/7, 5/7 and 1; a turn of backward runs one forward first
            timed = (count + turns * schedule.lead_in(work)) * 2 + turns * 2 / 7
            total += seconds * (timed + schedule.warm_ups(work) + 2 / 7)
        before = {}
        for (role, name), seconds in both.items():
            before.setdefault(role, {})[name] = seconds
        gone = schedule.left_out(tokens * 2, before)
        variants = {variant: factor for variant, factor in variants.items() if variant[1] not in gone}
    return total


def test_two_head_settings_with_every_kernel_and_method_take_less_than_six_minutes():
    # Factors as measured on H200: flash-attn 4, cuDNN, FA2; torch's context_parallel with the latter two.
    kernels = {"flash_attn_4": 1.0, "cudnn": 1.13, "flash": 1.9}
    methods = {"ring": 1.02, "allgather": 1.0, "ulysses": 1.04}
    peers = {"cudnn allgather": 1.17, "cudnn alltoall": 1.18, "flash allgather": 1.95, "flash alltoall": 1.96}
    assert 2 * seconds_of_a_run(kernels, methods, peers) < 320, "40 s are left to start and to compile"


def test_every_pass_has_a_share_of_the_work():
    shape = Shape(tokens=8192, heads=32, kv_heads=8, ranks=2)
    assert [shape.flops(name) / shape.flops("both") for name in PASSES] == pytest.approx([2 / 7, 5 / 7, 1])
