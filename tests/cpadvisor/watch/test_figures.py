import math
from pathlib import Path

import pytest

from cpadvisor.units import GIB
from cpadvisor.watch.figures import Figures, expected_peak_bytes, measured, median_tail, relative_error
from cpadvisor.watch.view import RunView


def points(*values: float) -> tuple[tuple[int, float], ...]:
    return tuple(enumerate(values, start=1))


def test_the_median_leaves_out_the_steps_that_warm_up() -> None:
    assert median_tail(points(60.0, 9.0, 3.0, 1.0, 2.0)) == 2.0
    assert median_tail(points(60.0, 9.0)) is None
    assert median_tail(((3, 2.5),)) == 2.5
    assert median_tail(points(60.0, 9.0, 3.0, 4.0)) == 4.0
    assert median_tail(()) is None


def test_what_is_no_number_is_not_in_a_median() -> None:
    assert median_tail(points(1.0, 1.0, math.nan, 5.0, 7.0, 6.0)) == 6.0
    assert median_tail(points(math.nan)) is None


def test_more_than_predicted_is_positive_as_a_share_of_the_prediction() -> None:
    assert relative_error(47.0, 46.0) == pytest.approx(0.0217, abs=1e-4)
    assert relative_error(30.0, 40.0) == -0.25
    assert (relative_error(None, 46.0), relative_error(46.0, None), relative_error(46.0, 0.0)) == (None, None, None)


def test_the_allocator_knows_nothing_of_contexts_buffers_and_fragments() -> None:
    terms = {"parameters": 10 * GIB, "context": 2 * GIB, "nccl": GIB, "allocator": 3 * GIB}
    assert expected_peak_bytes({"peak_bytes": 16 * GIB, "terms_bytes": terms}) == 10 * GIB
    assert expected_peak_bytes({"peak_bytes": 16 * GIB}) == 16 * GIB
    assert expected_peak_bytes({"peak_bytes": "16"}) is None
    assert expected_peak_bytes(None) is None


def test_a_run_is_measured_against_its_own_prediction() -> None:
    view = RunView(
        run="r",
        directory=Path("r"),
        state="done",
        loss=points(5.0, 4.0, 3.5),
        peak_bytes=90,
        step_s=points(60.0, 9.0, 3.0, 2.0, 2.2),
        tokens_per_s_per_gpu=points(1.0, 2.0, 7.0, 9.0, 8.0),
        prediction={"peak_bytes": 100, "step_s": 2.0},
    )
    found = measured(view)
    assert (found.final_loss, found.step_s, found.tokens_per_s_per_gpu, found.peak_bytes) == (3.5, 2.2, 8.0, 90)
    assert found.peak_error == pytest.approx(-0.1)
    assert found.step_error == pytest.approx(0.1)


def test_a_last_loss_that_is_no_number_is_unknown() -> None:
    assert (
        measured(RunView(run="r", directory=Path("r"), state="failed", loss=points(5.0, math.nan))).final_loss is None
    )


def step(number: int, **more: object) -> dict[str, object]:
    return {"step": number, "loss": 4.0, "step_s": 2.0, **more}


def test_the_time_left_follows_the_median_of_the_last_twenty_steps() -> None:
    figures = Figures()
    assert (figures.step, figures.eta_s(100), figures.median_step_s()) == (None, None, None)
    for number in range(1, 11):
        figures.take(step(number, step_s=50.0))
    for number in range(11, 31):
        figures.take(step(number, step_s=3.0))
    assert figures.median_step_s() == 3.0
    assert figures.eta_s(100) == 70 * 3.0
    assert figures.eta_s(20) == 0.0
    assert figures.eta_s(None) is None


def test_a_null_is_what_is_no_number_and_another_shape_is_left_out() -> None:
    figures = Figures()
    figures.take(step(1, loss=None))
    figures.take(step(2, loss={"mean": 3.0}, grad_norm="x", split_s={"loss": 0.5, "odd": "x"}))
    ((number, value),) = figures.points("loss")
    assert number == 1 and math.isnan(value)
    assert (figures.step, figures.grad_norm, figures.split_s) == (2, None, {"loss": 0.5})
