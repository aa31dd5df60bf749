import math

from hypothesis import given
from hypothesis import strategies as st

from cpadvisor.tui.widgets.braille import Canvas, Thinning, Window, plot, row_of, window

UNIT = Window(left=0, right=1, bottom=0, top=1)


def test_a_dot_sets_the_bit_that_unicode_gives_its_place() -> None:
    canvas = Canvas(1, 1)
    canvas.dot(0, 0)
    canvas.dot(1, 3)
    assert canvas.row(0) == chr(0x2800 + 0x01 + 0x80)


def test_dots_outside_the_canvas_are_ignored() -> None:
    canvas = Canvas(1, 1)
    canvas.dot(-1, 0)
    canvas.dot(2, 0)
    canvas.dot(0, 4)
    assert canvas.row(0) == " "


def test_a_rising_line_runs_from_the_lower_left_to_the_upper_right() -> None:
    canvas = plot([(0, 0), (1, 1)], UNIT, columns=2, rows=1)
    assert canvas.row(0) == "⡠⠊"


def test_a_gap_is_left_where_a_value_is_not_a_number() -> None:
    points = [(0, 0.5), (0.2, 0.5), (0.5, math.nan), (0.8, 0.5), (1, 0.5)]
    row = plot(points, UNIT, columns=10, rows=1).row(0)
    assert row[4:6] == "  "
    assert row[0] != " "
    assert row[-1] != " "


def test_a_constant_series_runs_through_the_middle() -> None:
    view = window([(0, 97.0), (1, 97.0)])
    assert (view.bottom, view.top) == (48.5, 145.5)
    assert row_of(97.0, view, rows=5) in (9, 10)


def test_a_constant_zero_has_room_above_and_below() -> None:
    view = window([(0, 0.0), (1, 0.0)])
    assert (view.bottom, view.top) == (-1.0, 1.0)


def test_the_predicted_level_lies_within_the_window() -> None:
    view = window([(0, 10.0), (1, 20.0)], levels=[40.0])
    assert view.bottom == 8.5
    assert view.top == 41.5


def test_a_series_that_grows_keeps_its_place_for_some_steps() -> None:
    ends = {window([(0, 1.0), (steps, 2.0)]).right for steps in range(297, 305)}
    assert ends == {304.0}
    assert window([(0, 1.0), (305, 2.0)]).right == 312.0


@given(st.floats(1e-3, 1e9), st.floats(-1e9, 1e9))
def test_the_air_at_the_right_is_at_most_a_thirty_second(span: float, left: float) -> None:
    view = window([(left, 1.0), (left + span, 2.0)])
    real = (left + span) - left
    assert view.right >= left + span or math.isclose(view.right, left + span)
    assert view.right - left <= real * (1 + 1 / 32) or math.isclose(view.right - left, real * (1 + 1 / 32)) or not real


def test_what_is_above_zero_is_shown_without_a_scale_below_it() -> None:
    assert window([(0, 10.0), (1, 1000.0)]).bottom == 0.0
    assert window([(0, 500.0), (1, 1000.0)]).bottom == 475.0
    assert window([(0, 0.0), (1, 1000.0)]).bottom == -50.0


def test_values_that_are_not_numbers_do_not_set_the_scale() -> None:
    view = window([(0, 1.0), (1, math.inf), (2, math.nan), (3, 2.0)])
    assert (view.left, view.right) == (0, 3)
    assert math.isclose(view.top, 2.05)


def test_no_points_give_a_window_of_its_own() -> None:
    assert window([]) == UNIT


def test_thinning_keeps_the_lowest_and_highest_of_each_bucket() -> None:
    points = [(float(x), float(x % 16)) for x in range(160)]
    assert Thinning().thin(points, 10) == tuple((float(x), float(x % 16)) for x in range(160) if x % 16 in (0, 15))


def test_the_ends_of_a_series_stay_whatever_their_height() -> None:
    points = [(float(x), float((x + 7) % 16)) for x in range(160)]
    thinned = Thinning().thin(points, 10)
    assert (thinned[0], thinned[-1]) == (points[0], points[-1])


def test_few_points_are_not_thinned() -> None:
    points = [(0.0, 1.0), (1.0, 2.0)]
    assert Thinning().thin(points, 1) == tuple(points)


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=1, max_size=300), st.integers(1, 20))
def test_a_series_that_grows_is_thinned_as_one_that_comes_whole(values: list[float], buckets: int) -> None:
    points = [(float(x), y) for x, y in enumerate(values)]
    growing = Thinning()
    for size in range(1, len(points) + 1):
        thinned = growing.thin(points[:size], buckets)
        assert thinned == Thinning().thin(points[:size], buckets)
        assert [x for x, _ in thinned] == sorted({x for x, _ in thinned})
        assert len(thinned) <= 2 * buckets + 4


def test_another_series_is_thinned_anew() -> None:
    thinning = Thinning()
    first = [(float(x), float(x)) for x in range(100)]
    second = [(float(x), float(-x)) for x in range(100)]
    thinning.thin(first, 10)
    assert thinning.thin(second, 10) == Thinning().thin(second, 10)


@given(
    st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(allow_nan=True, allow_infinity=True)), max_size=40),
    st.integers(1, 30),
    st.integers(1, 10),
)
def test_any_series_is_drawn_inside_its_canvas(points: list[tuple[float, float]], columns: int, rows: int) -> None:
    points = [(x, y) for x, y in points if not math.isfinite(y) or abs(y) < 1e300]
    canvas = plot(points, window(points), columns=columns, rows=rows)
    assert [len(canvas.row(row)) for row in range(rows)] == [columns] * rows
