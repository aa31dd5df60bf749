from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from cpadvisor.tui.widgets.wrap import wrap

TONES = st.sampled_from(["plain", "muted", "bad"])
TEXTS = st.text(alphabet="ab 显卡-", max_size=40)


def texts(*rows: tuple[tuple[str, str], ...]) -> list[str]:
    return ["".join(text for text, _ in row) for row in rows]


def test_a_row_ends_at_the_last_blank_that_fits() -> None:
    assert texts(*wrap((("one two three", "plain"),), 8)) == ["one two", "three"]


def test_a_word_longer_than_a_row_is_cut() -> None:
    assert texts(*wrap((("abcdefghij kl", "plain"),), 4)) == ["abcd", "efgh", "ij", "kl"]


def test_a_word_longer_than_a_row_fills_the_row_that_it_begins_in() -> None:
    assert texts(*wrap((("in /a/long/path", "plain"),), 8)) == ["in /a/lo", "ng/path"]


def test_each_piece_keeps_its_tone_over_the_break() -> None:
    rows = wrap((("one two ", "muted"), ("three", "bad")), 8)
    assert rows == ((("one two", "muted"),), (("three", "bad"),))


def test_an_indentation_stays_and_an_empty_line_is_one_row() -> None:
    assert texts(*wrap((("  in", "plain"),), 8)) == ["  in"]
    assert wrap((), 8) == ((),)


def test_between_chinese_characters_a_row_may_end_anywhere() -> None:
    assert texts(*wrap((("显卡互联很快", "plain"),), 5)) == ["显卡", "互联", "很快"]


def test_no_row_begins_with_what_closes_a_chinese_sentence() -> None:
    assert texts(*wrap((("显卡互联。很快", "plain"),), 8)) == ["显卡互", "联。很快"]


@given(line=st.lists(st.tuples(TEXTS, TONES), max_size=5), width=st.integers(2, 30))
def test_no_row_is_wider_than_asked_and_no_letter_is_lost(line: list[tuple[str, str]], width: int) -> None:
    rows = texts(*wrap(tuple(line), width))
    assert all(cell_len(row) <= width for row in rows)
    assert "".join(rows).replace(" ", "") == "".join(text for text, _ in line).replace(" ", "")


def test_a_word_that_changes_its_tone_is_not_torn() -> None:
    assert texts(*wrap((("see ", "muted"), ("half", "plain"), ("word", "bad")), 9)) == ["see", "halfword"]


def test_what_is_glued_stays_in_one_row_and_shows_blanks() -> None:
    line = (
        ("peak\u00a0memory\u00a0", "muted"),
        ("5\u00a0GiB", "plain"),
        ("   ", "plain"),
        ("step\u00a02\u00a0s", "plain"),
    )
    assert texts(*wrap(line, 20)) == ["peak memory 5 GiB", "step 2 s"]
