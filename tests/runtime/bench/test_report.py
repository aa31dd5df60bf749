from runtime.bench import report
from runtime.bench.results import Result, Row
from runtime.bench.shape import Shape
from runtime.bench.variants import Variant


def result(role, kernel, **facts):
    variant = Variant(role=role, method="ring", kernel=kernel, attend=lambda q, k, v: q)
    return Result(variant=variant, **facts)


def lines(*results):
    return report.lines(Row(shape=Shape(tokens=16384, heads=32, kv_heads=8, ranks=2), results=results)).splitlines()


def test_a_timed_variant_has_a_line_with_its_times_rates_and_ratios():
    ideal, ours = lines(
        result("ideal", "fa4", seconds={"both": [6.37e-3] * 10}),
        result("ours", "fa4", seconds={"forward": [2e-3] * 9, "both": [7.55e-3] * 10}),
    )
    assert " ".join(ideal.split()) == "16,384 32:8 ideal ring / 2 fa4 – – 6.370 0% –/–/604 1.000 –"
    assert " ".join(ours.split()) == "16,384 32:8 ours ring fa4 2.000 – 7.550 0% 550/–/510 0.844 – 9 repeats"


def test_variants_that_were_not_timed_for_one_reason_share_a_line():
    found = lines(
        result("ours", "a", reason="out of memory"),
        result("ours", "b", reason="out of memory"),
        result("ours", "c", reason="WRONG: dq 3.0e-01 relative"),
    )
    assert [line.split(maxsplit=2)[2] for line in found] == [
        "ours ring a, ours ring b: out of memory",
        "ours ring c: WRONG: dq 3.0e-01 relative",
    ]


def test_headings_stand_above_their_columns():
    line, *_ = lines(result("ours", "fa4", seconds={"both": [7.55e-3] * 10}))
    for heading, text in (("tokens", "16,384"), ("heads", "32:8"), ("both ms", "7.550")):
        assert report.header().index(heading) + len(heading) == line.index(text) + len(text)
