import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cpadvisor.watch.series import Series, downsample


def test_points_come_back_in_order_and_only_change_when_one_is_added() -> None:
    series = Series()
    series.append(1, 4.0)
    first = series.points()
    assert series.points() is first
    series.append(2, 3.0)
    assert series.points() == ((1, 4.0), (2, 3.0))


def test_what_is_no_number_is_nan() -> None:
    series = Series()
    series.append(1, None)
    assert math.isnan(series.points()[0][1])


def test_steps_that_come_again_replace_what_followed() -> None:
    series = Series()
    for step in (1, 2, 3, 4):
        series.append(step, float(step))
    series.points()
    series.append(3, 30.0)
    series.append(4, 40.0)
    assert series.points() == ((1, 1.0), (2, 2.0), (3, 30.0), (4, 40.0))


def test_one_step_replaced_is_seen() -> None:
    series = Series()
    series.append(1, 1.0)
    series.points()
    series.append(1, 2.0)
    assert series.points() == ((1, 2.0),)


def test_above_the_limit_every_second_point_goes_and_the_ends_stay() -> None:
    series = Series(limit=8)
    for step in range(1, 10):
        series.append(step, float(step))
    assert [step for step, _ in series.points()] == [1, 3, 5, 7, 9]


def test_a_hundred_thousand_points_are_kept_complete() -> None:
    series = Series()
    for step in range(100_000):
        series.append(step, 0.0)
    assert len(series.points()) == 100_000


def test_an_outline_keeps_lows_and_highs_of_each_stretch() -> None:
    rising = tuple((step, float(step)) for step in range(8))
    assert downsample(rising, 4) == ((0, 0.0), (3, 3.0), (4, 4.0), (7, 7.0))
    spike = ((0, 1.0), (1, 9.0), (2, 1.0), (3, 1.0), (4, 1.0), (5, 1.0))
    assert (1, 9.0) in downsample(spike, 2)


def test_short_series_stay_as_they_are() -> None:
    points = ((1, 1.0), (2, 2.0))
    assert downsample(points, 2) is points


def test_an_outline_of_one_point_is_refused() -> None:
    with pytest.raises(ValueError, match="limit is 1; an outline needs at least 2 points"):
        downsample(((1, 1.0),), 1)


def test_stretches_without_a_number_keep_their_place() -> None:
    points = tuple((step, math.nan if step < 4 else 1.0) for step in range(8))
    steps = [step for step, _ in downsample(points, 4)]
    assert steps == [0, 4]


@given(
    values=st.lists(st.floats(allow_infinity=False) | st.just(math.nan), min_size=1, max_size=300),
    limit=st.integers(2, 50),
)
def test_an_outline_fits_rises_and_keeps_the_extremes(values: list[float], limit: int) -> None:
    points = tuple(enumerate(values))
    outline = downsample(points, limit)
    assert len(outline) <= max(limit, 2)
    assert [step for step, _ in outline] == sorted({step for step, _ in outline})
    numbers = [value for value in values if not math.isnan(value)]
    if numbers:
        kept = [value for _, value in outline if not math.isnan(value)]
        assert (min(kept), max(kept)) == (min(numbers), max(numbers))
