"""Prose at a width: cells, not characters; marks stay with what they belong to."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cpadvisor.report.table import cell_width
from cpadvisor.report.wrap import indented, wrap

TEXTS = st.text(alphabet="ab -%。，（）中文字1", max_size=60)


def test_words_fill_a_line():
    assert wrap("one two three", 8) == ["one two", "three"]


def test_chinese_takes_two_cells_and_breaks_anywhere():
    assert wrap("环上传递显存", 5) == ["环上", "传递", "显存"]


@pytest.mark.parametrize("mark", ["，", "。", "）"])
def test_no_line_begins_with_a_closing_mark(mark):
    assert wrap(f"环上传{mark}递", 6) == ["环上", f"传{mark}递"]


def test_no_line_ends_with_an_opening_bracket():
    assert wrap("环上（传", 6) == ["环上", "（传"]


def test_a_figure_keeps_its_percent_sign():
    assert wrap("costs 29 % more", 8) == ["costs", "29 %", "more"]


def test_a_word_wider_than_a_line_is_cut():
    assert wrap("abcdefg hi", 3) == ["abc", "def", "g", "hi"]


def test_an_empty_text_is_one_empty_line():
    assert wrap("", 10) == [""]


def test_further_lines_stand_under_the_first():
    assert indented("one two three", width=14, label="card", column=6) == ["card  one two", "      three"]
    assert indented("one", width=20, label="本", column=6) == ["本    one"]


@given(text=TEXTS, width=st.integers(min_value=2, max_value=30))
def test_no_line_is_too_wide_and_nothing_is_lost(text, width):
    lines = wrap(text, width)
    assert all(cell_width(line) <= width for line in lines)
    assert "".join("".join(lines).split()) == "".join(text.split())
