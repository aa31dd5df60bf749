import math

from cpadvisor.watch.series import Series


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
