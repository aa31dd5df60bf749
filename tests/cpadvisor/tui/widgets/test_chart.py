from cpadvisor import units
from cpadvisor.tui.widgets.chart import Curve, draw

TONES = ("series-1", "series-3")


def lines_of(curve: Curve) -> list[str]:
    return ["".join(text for text, _ in line) for line in draw(curve, 40, 8, scale=units.format_count, tones=TONES)]


def test_the_scale_shows_the_top_the_middle_and_the_bottom() -> None:
    lines = lines_of(Curve(points=((1, 0.0), (10, 1000.0))))
    assert [line.split()[0] for line in (lines[0], lines[3], lines[6])] == ["1,050", "500", "-50"]


def test_the_first_and_the_last_step_stand_below() -> None:
    assert lines_of(Curve(points=((1, 5.0), (120, 6.0))))[-1].split() == ["1", "120"]


def test_the_prediction_is_a_dashed_level_where_the_curve_is_not() -> None:
    curve = Curve(points=((0, 10.0), (10, 10.0)), predicted=20.0)
    runs = [run for line in draw(curve, 40, 8, scale=units.format_count, tones=TONES) for run in line]
    assert any(set(text) == {"╌"} and tone == "predicted" for text, tone in runs)


def test_the_curve_wins_over_the_prediction() -> None:
    curve = Curve(points=((0, 20.0), (10, 20.0)), predicted=20.0)
    assert not any("╌" in line for line in lines_of(curve))


def test_every_line_fits_the_width() -> None:
    assert {len(line) for line in lines_of(Curve(points=((0, 1.0), (5, 99999.0)), predicted=3.0))} == {40}


def test_a_second_series_is_dashed_and_in_its_own_tone() -> None:
    curve = Curve(points=((0, 10.0), (10, 10.0)), second=((0, 20.0), (10, 20.0)))
    lines = draw(curve, 40, 8, scale=units.format_count, tones=TONES)
    first = next(text for line in lines for text, tone in line if tone == "series-1")
    second = next(text for line in lines for text, tone in line if tone == "series-3")
    assert " " not in first
    assert second[:6] == second[0] * 2 + " " + second[0] * 2 + " "


def test_both_series_share_one_scale() -> None:
    lines = lines_of(Curve(points=((1, 0.0), (10, 10.0)), second=((5, 90.0), (40, 100.0))))
    assert lines[0].split()[0] == "105"
    assert lines[-1].split() == ["1", "40"]


def test_the_first_series_wins_over_the_second() -> None:
    curve = Curve(points=((0, 20.0), (10, 20.0)), second=((0, 20.0), (10, 20.0)))
    assert not any(
        tone == "series-3" for line in draw(curve, 40, 8, scale=units.format_count, tones=TONES) for _, tone in line
    )
