from pathlib import Path

import pytest

from cpadvisor.report.accuracy import memory_error, relative_error, step_error
from cpadvisor.watch.view import RunView


def test_more_than_predicted_is_positive_as_a_share_of_the_prediction() -> None:
    assert relative_error(47.0, 46.0) == pytest.approx(0.0217, abs=1e-4)
    assert relative_error(30.0, 40.0) == -0.25


def test_what_is_unknown_or_predicted_as_nothing_has_no_error() -> None:
    assert relative_error(None, 46.0) is None
    assert relative_error(46.0, None) is None
    assert relative_error(46.0, 0.0) is None


def test_a_run_is_held_against_its_own_prediction_by_peak_and_by_median_step() -> None:
    view = RunView(
        run="r",
        directory=Path("r"),
        state="done",
        peak_bytes=90,
        # The first two steps warm up and do not count.
        step_s=((1, 60.0), (2, 9.0), (3, 3.0), (4, 2.0), (5, 2.2)),
        prediction={"peak_bytes": 100, "step_s": 2.0},
    )
    assert memory_error(view) == pytest.approx(-0.1)
    assert step_error(view) == pytest.approx(0.1)


def test_a_run_without_a_prediction_has_no_error() -> None:
    view = RunView(run="r", directory=Path("r"), state="done", peak_bytes=90)
    assert memory_error(view) is None
    assert step_error(view) is None
