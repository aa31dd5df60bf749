from textual.app import App, ComposeResult

from cpadvisor.tui.theme import VARIABLE_DEFAULTS
from cpadvisor.tui.widgets.facts import Fact, Facts, laid_out


def texts(facts: tuple[Fact, ...], width: int) -> list[str]:
    return ["".join(text for text, _ in row).rstrip() for row in laid_out(facts, width)]


def test_a_long_text_wraps_under_itself_beside_its_name() -> None:
    facts = (
        Fact(name="effect", lines=((("one two three four", "plain"),),)),
        Fact(name="a", lines=((("b", "plain"),),)),
    )
    assert texts(facts, 20) == ["effect  one two", "        three four", "a       b"]


def test_what_has_no_name_takes_the_whole_width() -> None:
    facts = (Fact(name="effect", lines=((("x", "plain"),),)), Fact(lines=((("one two three four", "plain"),),)))
    assert texts(facts, 20) == ["effect  x", "one two three four"]


def test_the_chosen_entry_is_marked_on_each_of_its_rows() -> None:
    facts = (Fact(name="mend", lines=((("one two three", "plain"),),), chosen=True),)
    assert texts(facts, 14) == ["mend ▌one two", "     ▌three"]


def test_chinese_names_keep_the_texts_in_line() -> None:
    facts = (Fact(name="证据", lines=((("x", "plain"),),)), Fact(name="card", lines=((("y", "plain"),),)))
    assert texts(facts, 20) == ["证据  x", "card  y"]


class FactsApp(App[None]):
    CSS_PATH = None
    CSS = "Facts { width: 20; height: auto; }"

    def get_theme_variable_defaults(self) -> dict[str, str]:
        return dict(VARIABLE_DEFAULTS)

    def compose(self) -> ComposeResult:
        facts = Facts(id="facts")
        facts.facts = (Fact(name="effect", lines=((("one two three four", "plain"),),)),)
        yield facts


async def test_the_panel_is_as_tall_as_its_wrapped_text_and_follows_a_change() -> None:
    app = FactsApp()
    async with app.run_test(size=(40, 12)) as pilot:
        await pilot.pause()
        panel = app.query_one(Facts)
        assert panel.size.height == 2
        panel.facts = (Fact(name="effect", lines=((("one two three four five six seven", "plain"),),)),)
        await pilot.pause()
        assert panel.size.height == 4
        rows = [strip.text.rstrip() for strip in app.screen._compositor.render_strips()]
        assert rows[:4] == ["effect  one two", "        three four", "        five six", "        seven"]
