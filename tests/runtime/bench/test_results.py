import json

import pytest

from runtime.bench import report
from runtime.bench.results import Result, Row
from runtime.bench.shape import Shape
from runtime.bench.variants import Variant


def variant(role, kernel, method="ring"):
    return Variant(role=role, method=method, kernel=kernel, attend=lambda q, k, v: q)


def row():
    """Times of 32:8 heads on two H200, both passes, as medians of three."""
    return Row(
        shape=Shape(tokens=16384, heads=32, kv_heads=8, ranks=2),
        results=(
            Result(variant=variant("ideal", "fa4", "one rank"), seconds={"both": [6.36e-3, 6.37e-3, 6.4e-3]}),
            Result(variant=variant("ideal", "flash", "one rank"), seconds={"both": [12e-3] * 10}),
            Result(variant=variant("peer", "cudnn", "torch allgather"), seconds={"both": [9.45e-3] * 10}),
            Result(variant=variant("peer", "flash", "torch allgather"), reason="out of memory"),
            Result(variant=variant("ours", "fa4"), seconds={"both": [7.5e-3, 7.6e-3, 7.55e-3]}, peak_bytes=2**30),
            Result(variant=variant("ours", "flash"), reason="WRONG: dq nan relative", errors={"dq": float("nan")}),
        ),
    )


def test_ratios_are_quotients_of_medians_with_the_best_ideal_and_the_best_peer():
    measured = row()
    ours = measured.results[4]
    assert ours.median("both") == 7.55e-3
    assert measured.ratio("ideal", ours, "both") == pytest.approx(0.844, abs=5e-4)
    assert measured.ratio("peer", ours, "both") == pytest.approx(1.252, abs=5e-4)
    assert ours.spread("both") == pytest.approx(0.1 / 7.55)
    assert measured.ratio("ideal", ours, "forward") is None
    assert measured.ratio("ideal", measured.results[5], "both") is None


def test_the_row_tells_what_each_role_took_for_the_choice_of_the_next():
    assert row().seconds() == {
        "ideal": {"ideal one rank fa4": 6.37e-3, "ideal one rank flash": 12e-3},
        "peer": {"peer torch allgather cudnn": 9.45e-3},
        "ours": {"ours ring fa4": 7.55e-3},
    }


def test_the_json_has_no_word_that_json_lacks(tmp_path):
    path = tmp_path / "out.json"
    report.write_json(path, {"ranks": 2}, [row()], complete=True)

    def refuse(word):
        raise AssertionError(word)

    found = json.loads(path.read_text(), parse_constant=refuse)
    ours, wrong = found["rows"][0]["variants"][4:]
    assert ours["passes"]["both"]["tflops_per_gpu"] == pytest.approx(509.7, abs=0.1)
    assert ours["passes"]["both"]["repeats"] == 3
    assert ours["peak_bytes"] == 2**30
    assert wrong["errors"] == {"dq": None}
    assert wrong["passes"] == {}
    assert wrong["not_timed"].startswith("WRONG")
    assert [entry["divided_by"] for entry in found["rows"][0]["variants"]] == [2, 2, 1, 1, 1, 1]
