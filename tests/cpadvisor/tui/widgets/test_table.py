from textual.app import App, ComposeResult

from cpadvisor.tui.theme import VARIABLE_DEFAULTS
from cpadvisor.tui.widgets.table import Column, Grid, RowTable, cell


class TableApp(App[None]):
    CSS_PATH = None
    CSS = "RowTable { width: 30; height: 6; }"

    def __init__(self, grid: Grid) -> None:
        super().__init__()
        self._grid = grid
        self.moved: list[int] = []
        self.picked: list[int] = []

    def get_theme_variable_defaults(self) -> dict[str, str]:
        return dict(VARIABLE_DEFAULTS)

    def compose(self) -> ComposeResult:
        yield RowTable(id="table")

    def on_mount(self) -> None:
        table = self.query_one(RowTable)
        table.grid = self._grid
        table.focus()

    def on_row_table_moved(self, event: RowTable.Moved) -> None:
        self.moved.append(event.index)

    def on_row_table_picked(self, event: RowTable.Picked) -> None:
        self.picked.append(event.index)

    def lines(self) -> list[str]:
        return [strip.text.rstrip() for strip in self.screen._compositor.render_strips()]


def grid(rows: int) -> Grid:
    columns = (Column(title="#", right=True), Column(title="name", flexible=True), Column(title="size", right=True))
    return Grid(columns=columns, rows=tuple((cell(str(n)), cell(f"row{n}"), cell(str(n * 100))) for n in range(rows)))


async def test_numbers_stand_to_the_right_and_the_flexible_column_takes_what_is_left() -> None:
    app = TableApp(grid(3))
    async with app.run_test(size=(40, 10)):
        assert app.lines()[0] == " #  " + "name".ljust(19) + "  size"
        assert app.lines()[3] == " 2  " + "row2".ljust(19) + "   200"


async def test_the_header_stays_when_rows_scroll() -> None:
    app = TableApp(grid(20))
    async with app.run_test(size=(40, 10)) as pilot:
        await pilot.press("end")
        await pilot.pause()
        assert app.lines()[0].split() == ["#", "name", "size"]
        assert "row19" in app.lines()[5]


async def test_the_cursor_stops_at_the_ends_and_tells_each_move_once() -> None:
    app = TableApp(grid(2))
    async with app.run_test(size=(40, 10)) as pilot:
        await pilot.press("up", "down", "down", "enter")
        await pilot.pause()
        assert app.moved == [1]
        assert app.picked == [1]


async def test_fewer_rows_pull_the_cursor_back() -> None:
    app = TableApp(grid(5))
    async with app.run_test(size=(40, 10)) as pilot:
        await pilot.press("end")
        app.query_one(RowTable).grid = grid(2)
        await pilot.pause()
        assert app.query_one(RowTable).cursor == 1


async def test_an_empty_table_says_why() -> None:
    app = TableApp(Grid(columns=(Column(title="a"),), empty="nothing here"))
    async with app.run_test(size=(40, 10)):
        assert app.lines()[1].strip() == "nothing here"


async def test_what_does_not_fit_its_column_ends_in_an_ellipsis() -> None:
    app = TableApp(Grid(columns=(Column(title="a", most=5),), rows=((cell("abcdefgh"),),)))
    async with app.run_test(size=(40, 10)):
        assert app.lines()[1] == "▌abcd…"


async def test_wide_characters_keep_the_columns_in_line() -> None:
    rows = ((cell("显卡"), cell("x")), (cell("gpus"), cell("x")))
    app = TableApp(Grid(columns=(Column(title="a"), Column(title="b")), rows=rows))
    async with app.run_test(size=(40, 10)):
        assert app.lines()[1].index("x") + 2 == app.lines()[2].index("x")


async def test_a_click_puts_the_cursor_on_its_row_and_a_second_one_picks() -> None:
    app = TableApp(grid(4))
    async with app.run_test(size=(40, 10)) as pilot:
        await pilot.click(RowTable, offset=(3, 3), times=2)
        await pilot.pause()
        assert app.query_one(RowTable).cursor == 2
        assert app.picked == [2]
