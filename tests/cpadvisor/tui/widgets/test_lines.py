"""Lines follow their end until the reader scrolls up, however many come at once."""

import pytest
from pilot_support import until
from textual.app import App, ComposeResult
from textual.pilot import Pilot

from cpadvisor.tui.widgets.lines import Lines


class OneLog(App[None]):
    """A log of eight rows."""

    CSS = "Lines { height: 8; }"

    def compose(self) -> ComposeResult:
        yield Lines(id="log", follow=True)

    @property
    def log_lines(self) -> Lines:
        return self.query_one("#log", Lines)

    def get(self, count: int) -> None:
        """So many lines there are by now."""
        self.log_lines.lines = tuple(((f"line {number}", "plain"),) for number in range(1, count + 1))

    def shows(self, line: str) -> bool:
        return any(strip.text.strip() == line for strip in self.screen._compositor.render_strips())


async def shown(pilot: Pilot[None], line: str) -> None:
    app = pilot.app
    assert isinstance(app, OneLog)
    await until(lambda: app.shows(line))


@pytest.mark.parametrize("counts", [(6, 7, 8, 9, 10), (6, 20), (20,), (0, 300)], ids=str)
async def test_the_last_line_stays_in_sight(counts: tuple[int, ...]) -> None:
    app = OneLog()
    async with app.run_test(size=(40, 12)) as pilot:
        for count in counts:
            app.get(count)
            if count:
                await shown(pilot, f"line {count}")


async def test_a_reader_who_scrolled_up_is_left_there_and_follows_again_at_the_end() -> None:
    app = OneLog()
    async with app.run_test(size=(40, 12)) as pilot:
        app.log_lines.focus()
        app.get(40)
        await shown(pilot, "line 40")
        await pilot.press("home")
        await shown(pilot, "line 1")
        app.get(60)
        await pilot.pause(0.2)
        assert app.shows("line 1")
        await pilot.press("end")
        await shown(pilot, "line 60")
        app.get(80)
        await shown(pilot, "line 80")


async def test_a_smaller_terminal_keeps_the_last_line_in_sight_and_goes_on_following() -> None:
    app = OneLog()
    async with app.run_test(size=(40, 24)) as pilot:
        app.log_lines.styles.height = "1fr"
        app.get(40)
        await shown(pilot, "line 40")
        await pilot.resize_terminal(40, 10)
        await shown(pilot, "line 40")
        app.get(41)
        await shown(pilot, "line 41")


async def test_following_leaves_the_reader_where_he_looks_aside() -> None:
    app = OneLog()
    async with app.run_test(size=(40, 12)) as pilot:
        app.log_lines.lines = tuple(((f"{number:<60}end {number}", "plain"),) for number in range(1, 21))
        app.log_lines.focus()
        await until(lambda: app.log_lines.show_horizontal_scrollbar)
        await pilot.press("l", "l", "l", "l")
        await shown(pilot, "end 20")
        app.log_lines.lines = (*app.log_lines.lines, ((f"{21:<60}end 21", "plain"),))
        await shown(pilot, "end 21")
