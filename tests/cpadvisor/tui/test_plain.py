import pytest
from pilot_support import until
from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.color import Color
from tui_support import FakeWork, frame, run_view

from cpadvisor.settings import Settings
from cpadvisor.tui.app import CpadvisorApp
from cpadvisor.tui.exam import MARKS
from cpadvisor.tui.home import Home
from cpadvisor.tui.plain import _TABLE, Ascii, Colourless, in_ascii
from cpadvisor.tui.screens.base import STATES
from cpadvisor.tui.terminal import is_utf8, wants_ascii

BLACK = Color.parse("black")


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("╭─ GPUs ─╮", "+- GPUs -+"),
        ("████▌▒▒·│", "####>::.|"),
        ("● running · 1×2×1×4", "* running . 1x2x1x4"),
        ("⠉⠒⠤⣀⣿ ", "''..# "),
        ("plain", "plain"),
    ],
)
def test_what_is_drawn_has_a_lookalike(text: str, plain: str) -> None:
    assert in_ascii(text, strict=False) == plain


def test_every_lookalike_has_the_width_of_what_it_replaces() -> None:
    assert [code for code, to in _TABLE.items() if cell_len(chr(code)) != len(to)] == []
    assert all(to.isascii() for to in _TABLE.values())


def test_letters_stay_where_the_terminal_has_them_and_keep_their_width_where_not() -> None:
    assert in_ascii("é 节点", strict=False) == "é 节点"
    assert in_ascii("é 节点", strict=True) == "e ????"


def test_marks_of_state_stay_apart_in_ascii() -> None:
    marks = {mark for mark, _ in STATES.values()} | {mark for mark, _ in MARKS.values()}
    assert len({in_ascii(mark, strict=True) for mark in marks}) == len(marks)


def test_a_segment_loses_its_colours_and_keeps_the_rest() -> None:
    style = Style.parse("bold red on blue")
    (segment,) = Colourless().apply([Segment("x", style)], BLACK)
    assert segment.style == Style(bold=True)
    (segment,) = Ascii(strict=True).apply([Segment("●", style)], BLACK)
    assert (segment.text, segment.style) == ("*", style)


@pytest.mark.parametrize(
    ("environ", "utf8"),
    [
        ({}, True),
        ({"LANG": "C.UTF-8"}, True),
        ({"LANG": "en_US.utf8"}, True),
        ({"LANG": "C"}, False),
        ({"LANG": "en_US.ISO-8859-1"}, False),
        ({"LC_ALL": "C", "LANG": "C.UTF-8"}, False),
        ({"LC_ALL": "", "LC_CTYPE": "C.UTF-8", "LANG": "C"}, True),
    ],
)
def test_the_locale_that_counts_is_the_first_that_is_set(environ: dict[str, str], utf8: bool) -> None:
    assert is_utf8(environ) is utf8


@pytest.mark.parametrize(
    ("environ", "wanted"),
    [
        ({"TERM": "xterm-256color", "LANG": "C.UTF-8"}, False),
        ({"TERM": "linux", "LANG": "C.UTF-8"}, True),
        ({"TERM": "vt100"}, True),
        ({"TERM": "xterm", "LANG": "C"}, True),
    ],
)
def test_poor_fonts_and_other_encodings_want_ascii(environ: dict[str, str], wanted: bool) -> None:
    assert wants_ascii(environ) is wanted


@pytest.mark.parametrize("mode", list(CpadvisorApp.MODES))
async def test_in_ascii_every_screen_is_ascii(mode: str) -> None:
    home = Home(settings=Settings(), ascii=True, utf8=False)
    app = CpadvisorApp(FakeWork(views=[run_view()]), home=home)
    async with app.run_test(size=(160, 45)) as pilot:
        await until(lambda: app.session.draft is not None, app)
        await app.action_stage(mode)
        await pilot.pause(0.3)
        strange = {character for character in frame(app) if not character.isascii()}
        assert strange == set()
        assert "+-" in frame(app)
