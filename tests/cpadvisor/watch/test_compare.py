import re
from dataclasses import replace
from pathlib import Path

import pytest

from cpadvisor.watch.compare import Difference, compare_runs, config_differences
from cpadvisor.watch.figures import Measured
from cpadvisor.watch.view import RunView

FIRST = RunView(
    run="a",
    directory=Path("/runs/a"),
    state="done",
    loss=((1, 5.0), (2, 4.0), (3, 3.5)),
    # The median without the first two steps: 2.0 of 1.9, 2.0, 2.2.
    step_s=((1, 60.0), (2, 9.0), (3, 2.2), (4, 1.9), (5, 2.0)),
    tokens_per_s_per_gpu=((1, 10.0), (2, 90.0), (3, 900.0), (4, 1100.0), (5, 1000.0)),
    peak_bytes=90,
    prediction={"peak_bytes": 120, "step_s": 2.5, "terms_bytes": {"activations": 100, "context": 12, "nccl": 8}},
)
SECOND = replace(FIRST, run="b", state="failed", peak_bytes=110, loss=((1, 5.0), (2, float("nan"))), prediction=None)


def difference(key: str, first: str | None, second: str | None) -> Difference:
    return Difference(key=key, first=first, second=second)


def test_keys_that_differ_come_with_both_values_and_in_the_order_of_the_first() -> None:
    found = config_differences(
        {"base_model": "tiny", "sequence_len": 8192, "bf16": True, "fsdp_config": {"reshard": True, "version": 2}},
        {"base_model": "tiny", "sequence_len": 4096, "fsdp_config": {"reshard": False, "version": 2}, "seed": 7},
    )
    assert found == (
        difference("sequence_len", "8192", "4096"),
        difference("bf16", "true", None),
        difference("fsdp_config.reshard", "true", "false"),
        difference("seed", None, "7"),
    )


def test_what_was_predicted_is_no_difference_of_the_training() -> None:
    first = {"cpadvisor": {"method": "ring", "prediction": {"peak_bytes": 1}}}
    second = {"cpadvisor": {"method": "none", "prediction": {"peak_bytes": 2}}}
    assert config_differences(first, second) == (difference("cpadvisor.method", "ring", "none"),)


@pytest.mark.parametrize(
    ("first", "second", "differ"),
    [(1, 1.0, False), (1, True, True), ([1, 2], [1, 2], False), ([1, 2], [2, 1], True), ({}, None, True)],
)
def test_values_are_compared_as_yaml_has_them(first: object, second: object, differ: bool) -> None:
    assert bool(config_differences({"key": first}, {"key": second})) == differ


def test_figures_stand_side_by_side_with_how_far_each_prediction_was_off() -> None:
    comparison = compare_runs(FIRST, SECOND, "seed: 1\n", "seed: 2\n")
    assert comparison.first_figures == Measured(
        final_loss=3.5,
        tokens_per_s_per_gpu=1000.0,
        step_s=2.0,
        peak_bytes=90,
        peak_error=pytest.approx(-0.1),  # 90 against 120 - 12 - 8
        step_error=pytest.approx(-0.2),  # 2.0 against 2.5
    )
    assert comparison.second_figures.final_loss is None
    assert (comparison.second_figures.peak_error, comparison.second_figures.step_error) == (None, None)
    assert comparison.differences == (difference("seed", "1", "2"),)
    assert comparison.notes == ()


@pytest.mark.parametrize(
    ("text", "note"),
    [
        (None, "b has no config any more, so what differs cannot be said"),
        ("a: [", "the config of b:1: not YAML: .*"),
        ("a: 1\na: 2\n", "the config of b:2: key 'a' on line 2 stands on line 1 already; .*"),
    ],
)
def test_a_config_that_cannot_be_read_is_noted_and_the_figures_are_compared(text: str | None, note: str) -> None:
    comparison = compare_runs(FIRST, SECOND, "seed: 1\n", text)
    assert comparison.differences == ()
    assert comparison.first_figures.peak_bytes == 90
    (told,) = comparison.notes
    assert re.fullmatch(note, told)
