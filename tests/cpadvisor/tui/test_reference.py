import pytest
from tui_support import FakeWork

from cpadvisor.report.table import cell_width
from cpadvisor.settings import Settings
from cpadvisor.tui.app import CpadvisorApp
from cpadvisor.tui.home import Home
from cpadvisor.tui.reference import card_lines
from cpadvisor.tui.screens.reader import Reader, reader_width
from cpadvisor.tui.widgets.prose import Prose


@pytest.mark.parametrize(("language", "label"), [("en", "  ours"), ("zh", "  本工具")])
def test_heads_and_labels_have_tones_of_their_own(language: str, label: str) -> None:
    lines = card_lines(language, 74)
    tones = {text: tone for line in lines for text, tone in line}
    head = next(text for text in tones if text.startswith("F3  "))
    assert (tones[head], tones[label]) == ("accent", "muted")
    assert lines[0][0][1] == "accent" and lines[1][0][1] == "muted"


def test_the_text_is_that_of_the_command_and_fits_a_reader_on_80_columns() -> None:
    assert (reader_width(80), reader_width(109), reader_width(120), reader_width(200)) == (74, 94, 90, 94)
    rows = ["".join(text for text, _ in line) for line in card_lines("zh", reader_width(80))]
    assert max(cell_width(row) for row in rows) <= 74
    assert sum(row.startswith("P2  ") for row in rows) == 1


@pytest.mark.parametrize(("lang", "title"), [("en", "The quick reference card"), ("zh", "CP 速查卡")])
async def test_a_key_opens_the_card_in_the_language_of_the_app(lang: str, title: str) -> None:
    app = CpadvisorApp(FakeWork(), home=Home(settings=Settings(lang=lang)))
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("C")
        await app.workers.wait_for_complete()
        await pilot.pause()
        assert isinstance(app.screen, Reader)
        panel = app.screen.query_one("#reader", Prose)
        assert panel.border_title == title
        assert any("D5  " in text for line in panel.lines for text, _ in line)
        await pilot.press("escape")
        assert not isinstance(app.screen, Reader)
