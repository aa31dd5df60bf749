from cpadvisor.tui.widgets.bar import fill, memory_bar


def text(runs: list[tuple[str, str]]) -> str:
    return "".join(part for part, _ in runs)


def test_half_of_four_cells_is_two_full_ones() -> None:
    assert fill(0.5, 4) == "██  "


def test_a_sixteenth_of_four_cells_is_a_quarter_of_one() -> None:
    assert fill(1 / 16, 4) == "▎   "


def test_shares_beyond_one_fill_the_bar() -> None:
    assert fill(7.0, 3) == "███"


def test_the_predicted_band_is_marked_between_the_peak_and_the_limit() -> None:
    runs = memory_bar(40, limit=80, low=35, high=60, width=8)
    assert text(runs) == "████▒▒·│"
    assert [tone for _, tone in runs] == ["accent"] * 3 + ["predicted"] * 3 + ["faint", "muted"]


def test_a_peak_beyond_the_limit_is_bad_and_the_rule_stands_within() -> None:
    runs = memory_bar(100, limit=50, low=90, high=100, width=10)
    assert runs[4] == ("│", "bad")
    assert runs[9] == ("█", "bad")


def test_a_band_beyond_the_limit_turns_the_rule_bad() -> None:
    assert ("│", "bad") in memory_bar(40, limit=50, low=38, high=60, width=12)


def test_an_unknown_use_is_an_empty_bar() -> None:
    assert text(memory_bar(None, limit=80, width=6)) == "·····│"


def test_an_unknown_limit_is_blank() -> None:
    assert text(memory_bar(None, limit=None, width=6)) == "      "


def test_without_a_limit_there_is_no_rule() -> None:
    assert text(memory_bar(5, limit=None, end=10, width=4)) == "██··"
