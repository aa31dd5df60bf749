"""What a change redraws: the lines that it changes, and no other."""

from textual.app import App, ComposeResult
from textual.content import Content
from textual.strip import Strip

from cpadvisor.tui.theme import VARIABLE_DEFAULTS
from cpadvisor.tui.widgets.chart import Chart, Curve
from cpadvisor.tui.widgets.lines import Lines
from cpadvisor.tui.widgets.table import Column, Grid, RowTable, cell


class Counting:
    """Notes which content lines are drawn."""

    drawn: list[int]

    def render_line(self, y: int) -> Strip:
        self.__dict__.setdefault("drawn", []).append(y)
        return super().render_line(y)  # pyright: ignore[reportAttributeAccessIssue]


class CountedTable(Counting, RowTable):
    pass


class CountedLines(Counting, Lines):
    pass


class CountedChart(Counting, Chart):
    pass


class PanelsApp(App[None]):
    CSS_PATH = None
    CSS = "RowTable, Lines, Chart { border: round white; width: 30; height: 8; }"

    def get_theme_variable_defaults(self) -> dict[str, str]:
        return dict(VARIABLE_DEFAULTS)

    def compose(self) -> ComposeResult:
        yield CountedTable(id="table")
        yield CountedLines(id="lines")
        yield CountedChart(scale=lambda value: f"{value:.0f}", tone="series-1", id="chart")

    def on_mount(self) -> None:
        self.query_one(RowTable).grid = grid("a", "b", "c")
        self.query_one(Lines).lines = tuple(((text, "plain"),) for text in "xyz")
        self.query_one(Chart).curve = Curve(points=((0, 1.0), (40, 9.0)))


def grid(*names: str) -> Grid:
    return Grid(columns=(Column(title="name"),), rows=tuple((cell(name),) for name in names))


async def test_a_new_title_draws_no_line_of_the_content() -> None:
    app = PanelsApp()
    async with app.run_test(size=(40, 30)) as pilot:
        await pilot.pause()
        for panel in (app.query_one(CountedTable), app.query_one(CountedLines), app.query_one(CountedChart)):
            panel.drawn.clear()
            panel.entitle(Content("loss [x]"), Content("1.2345"))
            await pilot.pause()
            rows = [strip.text for strip in app.screen._compositor.render_strips()]
            assert any("loss [x]" in row for row in rows)
            assert any("1.2345" in row for row in rows)
            assert panel.drawn == []
            panel.entitle(Content("gone"), Content(""))
            await pilot.pause()
            assert not any("1.2345" in strip.text for strip in app.screen._compositor.render_strips())


async def test_a_table_redraws_the_row_that_changed() -> None:
    app = PanelsApp()
    async with app.run_test(size=(40, 30)) as pilot:
        await pilot.pause()
        table = app.query_one(CountedTable)
        table.drawn.clear()
        table.grid = grid("a", "B", "c")
        await pilot.pause()
        assert table.drawn == [2]


async def test_a_column_that_widens_redraws_all_rows() -> None:
    app = PanelsApp()
    async with app.run_test(size=(40, 30)) as pilot:
        await pilot.pause()
        table = app.query_one(CountedTable)
        table.drawn.clear()
        table.grid = grid("a", "a longer name", "c")
        await pilot.pause()
        assert {1, 2, 3} <= set(table.drawn)


async def test_lines_redraw_what_is_not_the_same() -> None:
    app = PanelsApp()
    async with app.run_test(size=(40, 30)) as pilot:
        await pilot.pause()
        lines = app.query_one(CountedLines)
        lines.drawn.clear()
        lines.lines = tuple(((text, "plain"),) for text in "xYz")
        await pilot.pause()
        assert lines.drawn == [1]


async def test_a_chart_redraws_the_rows_that_a_new_point_touches() -> None:
    app = PanelsApp()
    async with app.run_test(size=(40, 30)) as pilot:
        await pilot.pause()
        chart = app.query_one(CountedChart)
        chart.drawn.clear()
        # The window reaches to 40 and on to 41 in steps of one, the scale stays: the top row and the axis change.
        chart.curve = Curve(points=((0, 1.0), (40, 9.0), (41, 9.0)))
        await pilot.pause()
        assert chart.drawn
        assert len(set(chart.drawn)) < chart.content_size.height
        rows = [strip.text for strip in app.screen._compositor.render_strips()]
        assert any(row.rstrip(" │").endswith("41") for row in rows)
