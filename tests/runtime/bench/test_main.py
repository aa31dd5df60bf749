import json
import statistics
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from runtime.bench.__main__ import main
from runtime.bench.shape import PASSES, forward_flops

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """Two gloo processes, two short rows."""
    path = tmp_path_factory.mktemp("bench") / "attention.json"
    result = subprocess.run(
        [sys.executable, "-m", "runtime.bench", "attention", "--sizes", "64,128", "--heads", "4:2", "--json", path],
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout, json.loads(path.read_text())


def timed(row):
    return {variant["role"]: variant for variant in row["variants"] if variant["passes"]}


def test_every_variant_has_its_line_and_the_peer_its_reason(measured):
    table, found = measured
    assert found["complete"]
    assert [row["tokens"] for row in found["rows"]] == [64, 128]
    assert table.count("ours    ring") == table.count("one rank / 2") == 2
    assert table.count("peer torch –: torch's context_parallel does not run on a CPU") == 2


def test_the_ring_is_checked_against_one_process(measured):
    for row in measured[1]["rows"]:
        errors = {variant["method"]: variant["errors"] for variant in row["variants"] if variant["role"] == "ours"}
        assert set(errors["ring"]) == {"out", "dq", "dk", "dv"}
        assert 0 < max(errors["ring"].values()) < 1e-5
        # Every head is computed by the same kernel on the same numbers.
        assert max(errors["ulysses"].values()) == 0


def test_medians_rates_and_ratios_follow_from_the_samples(measured):
    for row in measured[1]["rows"]:
        variants = timed(row)
        for name, factor in zip(PASSES, (1, 2.5, 3.5), strict=True):
            ideal, ours = (variants[role]["passes"][name] for role in ("ideal", "ours"))
            flops = factor * forward_flops(tokens=row["tokens"], heads=4, head_dim=128)
            for part in (ideal, ours):
                assert part["repeats"] == len(part["seconds"]) == 10
                assert part["median_s"] == statistics.median(part["seconds"])
                assert (part["min_s"], part["max_s"]) == (min(part["seconds"]), max(part["seconds"]))
                assert part["spread"] == pytest.approx((part["max_s"] - part["min_s"]) / part["median_s"])
                assert part["tflops_per_gpu"] == pytest.approx(flops / 2 / part["median_s"] / 1e12)
            assert ideal["ideal_ratio"] == 1
            assert ours["ideal_ratio"] == pytest.approx(ideal["median_s"] / ours["median_s"])
            assert row["ideal_s"][name] == ideal["median_s"]
            assert ours["peer_ratio"] is row["peer_s"][name] is None


def test_the_machine_is_named(measured):
    machine = measured[1]["machine"]
    assert machine["ranks"] == 2
    assert machine["device"] == "cpu"
    assert machine["versions"]["torch"]


def test_a_length_that_does_not_split_leaves_with_2_and_one_line(capsys):
    assert main(["attention", "--sizes", "1001"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "--sizes 1001 does not split into" in said


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="fewer than two GPUs")
def test_on_gpus_the_trainer_and_torch_are_sound_and_timed(tmp_path):
    path = tmp_path / "attention.json"
    words = ("--sizes", "8k", "--heads", "8:2", "--repeats", "3", "--json", path)
    result = subprocess.run(
        [sys.executable, "-m", "runtime.bench", "attention", *words], capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 0, result.stderr
    (row,) = json.loads(path.read_text())["rows"]
    assert row["ranks"] == torch.cuda.device_count()
    assert {variant["role"] for variant in row["variants"] if variant["passes"]} == {"ideal", "peer", "ours"}
    assert not [variant for variant in row["variants"] if "WRONG" in (variant["not_timed"] or "")]
    assert all(variant["peak_bytes"] > 0 for variant in row["variants"] if variant["passes"])
