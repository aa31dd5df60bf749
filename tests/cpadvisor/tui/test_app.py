import asyncio
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from pilot_support import patiently, seen, settled, until
from textual.binding import Binding
from textual.pilot import Pilot
from textual.widgets import Input
from tui_support import CONFIG_TEXT, FakeWork, frame, h100_node, run_view

from cpadvisor import units
from cpadvisor.errors import LaunchError
from cpadvisor.job import Request
from cpadvisor.report.run import comparison_rows, loss_label
from cpadvisor.settings import Settings
from cpadvisor.tui.app import CpadvisorApp
from cpadvisor.tui.home import Home
from cpadvisor.tui.keys import APP_KEYS
from cpadvisor.tui.screens.config import ConfigScreen
from cpadvisor.tui.screens.doctor import DoctorScreen
from cpadvisor.tui.screens.picker import ChangePreview, Picker
from cpadvisor.tui.screens.plan import PlanScreen
from cpadvisor.tui.screens.reader import Question, Reader
from cpadvisor.tui.screens.run import RunScreen
from cpadvisor.tui.screens.runs import RunsScreen
from cpadvisor.tui.session import Answer, Machine
from cpadvisor.tui.widgets.filter_line import FilterLine
from cpadvisor.tui.widgets.job_form import JobForm
from cpadvisor.tui.widgets.lines import Rows
from cpadvisor.tui.widgets.table import RowTable
from cpadvisor.watch.view import RunView

SIZES = [(80, 24), (160, 45)]


async def reading(pilot: Pilot[int], *wanted: str) -> str:
    """Everything that scrolling shows of the screen, once all of `wanted` are in it."""
    seen = ""
    for _ in patiently():
        await pilot.pause()
        seen = await scrolled(pilot)
        if all(text in seen for text in wanted):
            return seen
        await asyncio.sleep(0.02)
    missing = [text for text in wanted if text not in seen]
    raise AssertionError(f"not on the screen: {missing}\n{seen}")


async def scrolled(pilot: Pilot[int]) -> str:
    body = pilot.app.screen.query("#body").first()
    frames: list[str] = []
    body.scroll_home(animate=False)
    for _ in range(12):
        await pilot.pause()
        frames.append(frame(pilot.app))
        if body.scroll_offset.y >= body.max_scroll_y:
            break
        body.scroll_relative(y=8, animate=False)
    return "\n".join(frames)


@pytest.mark.parametrize("size", SIZES)
async def test_the_node_screen_shows_links_ring_memory_and_holders(size: tuple[int, int]) -> None:
    app = CpadvisorApp(FakeWork())
    async with app.run_test(size=size) as pilot:
        await settled(pilot)
        await reading(
            pilot,
            " 0    ·  NV18 NV18",
            "{0,1,2,3,4,5,6,7}",
            "0-1-2-3-4-5-6-7-0",
            "371 GB/s one way",
            "28 pairs",
            units.format_bytes(80 * units.GIB),
            "python [serve] --x",
            "GPU 6 is held by [alice]",
            "shown from a record",
        )


@pytest.mark.parametrize("size", SIZES)
async def test_the_plan_screen_shows_ranked_and_rejected_layouts_with_their_reasons(size: tuple[int, int]) -> None:
    app = CpadvisorApp(FakeWork())
    async with app.run_test(size=size) as pilot:
        await settled(pilot)
        await pilot.press("2")
        seen = await reading(
            pilot,
            "1×4×1×2",
            "14,900",
            "41 %",
            "46.1 GiB",
            "2 feasible · 1 rejected",
            "1×1×8×1",
            "Do the states fit on one GPU?",
            "119.7 GiB against 79.0 GiB",
            "41.5 GiB to 50.7 GiB, at backward",
            "differs from ours",
            "row L1 gives long lengths to cp",
            "matmul",
            "1.50 s",
        )
        assert seen.index("1×4×1×2") < seen.index("1×8×1×1")


@pytest.mark.parametrize("size", SIZES)
async def test_the_config_screen_shows_each_line_with_its_origin_and_the_change(size: tuple[int, int]) -> None:
    finding = SimpleNamespace(rule="F3", severity="warning", key="sequence_len", message="padded [to] 4", fix="use 8")
    app = CpadvisorApp(FakeWork(findings=(finding,)))
    async with app.run_test(size=size) as pilot:
        await settled(pilot)
        await pilot.press("3")
        seen = await reading(pilot, "-sequence_len: 8192", "+sequence_len: 32768", "[to] 4", "▲ 1", "not on disk")
        line = next(line for line in seen.splitlines() if " base_model: llama" in line)
        assert "job" in line
        assert "the model" in line


@pytest.mark.parametrize("size", SIZES)
async def test_a_live_run_stands_beside_its_prediction(size: tuple[int, int]) -> None:
    view = run_view()
    app = CpadvisorApp(FakeWork(views=[view]))
    async with app.run_test(size=size) as pilot:
        await settled(pilot)
        await pilot.press("c")
        await settled(pilot)
        await pilot.press("L")
        measured = [text for row in comparison_rows(view) for text in row[1:]]
        await reading(pilot, "● running 12/50", loss_label(view), "[rank0] step 12", "[b]not markup[/b]", *measured)


async def test_a_narrow_terminal_reaches_every_view_of_the_run_with_v() -> None:
    app = CpadvisorApp(FakeWork())
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await pilot.press("c")
        await settled(pilot)
        await pilot.press("L")
        for wanted in ("6.", "predicted 2,048", "5.0 GiB · predicted 6.0 GiB (4.0 GiB to 7.0 GiB)", "backward"):
            await reading(pilot, wanted)
            await pilot.press("v")


async def test_from_node_to_a_live_run_takes_four_keys() -> None:
    work = FakeWork()
    app = CpadvisorApp(work)
    async with app.run_test(size=(120, 36)) as pilot:
        await settled(pilot)
        await pilot.press("c", "2", "3", "L")
        await reading(pilot, "● running 12/50")
        assert isinstance(app.screen, RunScreen)
        assert [call for call in work.calls if call.startswith("launch")] == ["launch 1×4×1×2"]


async def test_launch_waits_for_the_plan_of_the_node_that_was_just_chosen() -> None:
    work = FakeWork()
    app = CpadvisorApp(work)
    async with app.run_test(size=(120, 36)) as pilot:
        await pilot.press("c", "L")
        await reading(pilot, "● running 12/50")
        order = [call.split()[0] for call in work.calls]
        assert order.index("launch") > max(place for place, call in enumerate(order) if call == "draft")
        assert "answer tiny 8k cp=2" in work.calls


async def test_an_answer_to_a_job_that_has_changed_is_void() -> None:
    class Slow(FakeWork):
        def answer(self, machine: Machine, request: Request) -> Answer:
            if request.model != "tiny":
                time.sleep(0.5)
            return super().answer(machine, request)

    app = CpadvisorApp(Slow())
    async with app.run_test(size=(120, 36)) as pilot:
        await pilot.pause(0.1)
        await pilot.press("c")
        await settled(pilot)
        await pilot.pause(0.8)
        assert app.session.answer is not None
        assert app.session.answer.advice.model == "tiny"


async def test_a_recorded_node_is_not_launched_and_says_which_key_helps() -> None:
    work = FakeWork()
    app = CpadvisorApp(work)
    async with app.run_test(size=(120, 36), notifications=True) as pilot:
        await settled(pilot)
        await pilot.press("L")
        await reading(pilot, "dgx-h100 is not this machine")
        assert not any(call.startswith("launch") for call in work.calls)


async def test_a_file_with_an_error_is_not_launched() -> None:
    finding = SimpleNamespace(rule="F1", severity="error", key=None, message="sizes make 16, not 8", fix=None)
    work = FakeWork(node=replace(h100_node(), source="nvml"), findings=(finding,))
    app = CpadvisorApp(work)
    async with app.run_test(size=(120, 36), notifications=True) as pilot:
        await settled(pilot)
        await pilot.press("L")
        await reading(pilot, "the file would not start: sizes make 16, not 8")


async def test_the_lock_is_shown_with_what_would_have_been_chosen() -> None:
    app = CpadvisorApp(FakeWork())
    async with app.run_test(size=(160, 45)) as pilot:
        await settled(pilot)
        await pilot.press("c", "2")
        await reading(pilot, "lock cp=2", "without it 1×8×1×1, dp_shard 8")


async def test_a_wrong_length_is_told_and_nothing_is_lost() -> None:
    app = CpadvisorApp(FakeWork())
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await pilot.press("2", "e", "tab")
        await pilot.press(*"32q", "enter")
        await settled(pilot)
        seen = await reading(pilot, "length '32q' is not a number")
        assert app.screen.query_one("#job-length", Input).value == "32q"
        assert app.screen.query_one("#job-model", Input).value == "llama-3.1-8b"
        assert "1×4×1×2" in seen
        await pilot.press("home", *["delete"] * 3, *"64k", "enter")
        await reading(pilot, "llama-3.1-8b · 64K")
        assert "plan" not in app.session.problems


async def test_escape_leaves_the_job_for_the_candidates() -> None:
    app = CpadvisorApp(FakeWork())
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await pilot.press("2", "e", "escape")
        assert app.focused is app.screen.query_one("#candidates")


async def test_the_chosen_plan_is_the_one_that_is_drafted() -> None:
    work = FakeWork()
    app = CpadvisorApp(work)
    async with app.run_test(size=(160, 45)) as pilot:
        await settled(pilot)
        await pilot.press("2", "down")
        await settled(pilot)
        assert work.calls[-1] == "draft 1×8×1×1"
        await reading(pilot, "· 1×8×1×1 ·")
        await pilot.press("enter")
        assert isinstance(app.screen, ConfigScreen)


async def test_w_writes_the_file_and_tells_where_the_old_one_is() -> None:
    work = FakeWork()
    app = CpadvisorApp(work)
    async with app.run_test(size=(160, 45), notifications=True) as pilot:
        await settled(pilot)
        await pilot.press("3", "w")
        await reading(pilot, "cpadvisor.yaml.bak", "saved")
        assert work.on_disk == CONFIG_TEXT
        assert app.session.draft is not None
        assert app.session.draft.is_saved


async def test_stop_asks_first_and_escape_lets_the_run_go_on() -> None:
    work = FakeWork()
    app = CpadvisorApp(work)
    async with app.run_test(size=(120, 36)) as pilot:
        await settled(pilot)
        await pilot.press("c", "L")
        await reading(pilot, "● running")
        await pilot.press("X")
        assert isinstance(app.screen, Question)
        await pilot.press("escape")
        assert "stop" not in work.calls
        await pilot.press("X", "X")
        await until(lambda: "stop" in work.calls, app)


async def test_q_asks_about_a_live_run_and_d_leaves_it_running() -> None:
    work = FakeWork()
    app = CpadvisorApp(work)
    async with app.run_test(size=(120, 36)) as pilot:
        await settled(pilot)
        await pilot.press("c", "L")
        await reading(pilot, "● running")
        await pilot.press("q", "d")
        await pilot.pause()
    assert app.return_code == 0
    assert "stop" not in work.calls


async def test_x_stops_the_run_and_quits_once_it_has_ended() -> None:
    work = FakeWork()
    app = CpadvisorApp(work)
    async with app.run_test(size=(120, 36)) as pilot:
        await settled(pilot)
        await pilot.press("c", "L")
        await reading(pilot, "● running")
        await pilot.press("q", "x")
        await until(lambda: app.return_code is not None)
    assert app.return_code == 0
    assert work.calls.count("stop") == 1


async def test_a_stop_that_fails_is_told_and_the_app_stays() -> None:
    class Stubborn(FakeWork):
        def stop(self, run_dir: Path) -> RunView:
            super().stop(run_dir)
            raise LaunchError("processes 7 of r outlive SIGKILL")

    work = Stubborn()
    app = CpadvisorApp(work)
    async with app.run_test(size=(120, 36), notifications=True) as pilot:
        await settled(pilot)
        await pilot.press("c", "L")
        await reading(pilot, "● running")
        await pilot.press("q", "x")
        await seen(pilot, "outlive SIGKILL")
        await pilot.press("X", "X")  # a plain stop later does not quit
        await until(lambda: work.calls.count("stop") == 2, app)
        await pilot.pause(0.2)
        assert app.return_code is None


async def test_pause_holds_the_picture_and_shows_the_newest_when_it_ends() -> None:
    work = FakeWork(views=[run_view(steps=3), run_view(steps=30)], shown=0)
    app = CpadvisorApp(work)
    async with app.run_test(size=(120, 36)) as pilot:
        await settled(pilot)
        await pilot.press("c", "L")
        await reading(pilot, "● running 3/50")
        await pilot.press("space")
        work.shown = 1
        await asyncio.sleep(1.2)
        seen = await reading(pilot, "paused", "● running 3/50")
        assert "30/50" not in seen
        await pilot.press("space")
        await reading(pilot, "● running 30/50")


async def test_r_follows_the_log_of_the_next_rank() -> None:
    app = CpadvisorApp(FakeWork())
    async with app.run_test(size=(120, 36)) as pilot:
        await settled(pilot)
        await pilot.press("c", "L")
        await reading(pilot, "[rank0]", "rank 0 of 2")
        await pilot.press("r")
        await reading(pilot, "[rank1]", "rank 1 of 2")


async def test_an_error_of_our_own_becomes_a_message_and_the_app_lives() -> None:
    class Broken(FakeWork):
        def answer(self, machine: object, request: object) -> object:  # pyright: ignore
            raise ZeroDivisionError("division by zero")

    app = CpadvisorApp(Broken())
    async with app.run_test(size=(120, 36)) as pilot:
        await settled(pilot)
        await pilot.press("2")
        await reading(pilot, "plan met an error of its own (ZeroDivisionError: division by zero)")


async def test_theme_switch_recolours_what_is_drawn_by_hand() -> None:
    app = CpadvisorApp(FakeWork())
    async with app.run_test(size=(120, 36)) as pilot:
        await settled(pilot)
        before = app.screen.query_one("#links").tone("link-nvlink").color
        await pilot.press("t")
        await pilot.pause()
        assert app.theme == "light"
        assert app.screen.query_one("#links").tone("link-nvlink").color != before
        await pilot.press("t", "t")
        assert app.theme == "dark"


async def test_foreign_themes_work_with_the_defaults_of_our_colours() -> None:
    app = CpadvisorApp(FakeWork())
    async with app.run_test(size=(120, 36)) as pilot:
        await settled(pilot)
        app.theme = "nord"
        await pilot.pause()
        await reading(pilot, "NV18")


async def test_help_lists_every_key_of_the_screen_and_the_way_to_a_run() -> None:
    app = CpadvisorApp(FakeWork())
    async with app.run_test(size=(160, 60)) as pilot:
        await settled(pilot)
        await pilot.press("2", "question_mark")
        assert isinstance(app.screen, Reader)
        await pilot.pause()
        seen = frame(app)
        for key in ("2 3 w L", "c 2 3 L", *(binding.tooltip for binding in APP_KEYS)):
            assert key in seen
        await pilot.press("q")
        assert isinstance(app.screen, PlanScreen)


async def test_the_palette_offers_every_action_and_theme() -> None:
    app = CpadvisorApp(FakeWork())
    async with app.run_test(size=(120, 36)) as pilot:
        await settled(pilot)
        await pilot.press("3")
        names = {command.title for command in app.get_system_commands(app.screen)}
        assert {"Node", "Plan", "Config", "Run", "Launch", "Stop", "Write", "Theme dark", "Theme light"} <= names
        write = next(command for command in app.get_system_commands(app.screen) if command.title == "Write")
        await write.callback()  # pyright: ignore
        await reading(pilot, "saved")


async def test_a_terminal_below_the_smallest_size_says_so() -> None:
    app = CpadvisorApp(FakeWork())
    async with app.run_test(size=(50, 12)) as pilot:
        await settled(pilot)
        assert "needs 60x16, this terminal is 50x12" in frame(app)
        assert "NV18" not in frame(app)
        await pilot.resize_terminal(80, 24)
        await pilot.pause()
        assert "NV18" in frame(app)


async def test_chinese_titles_stand_where_the_english_ones_do() -> None:
    app = CpadvisorApp(FakeWork(), home=Home(settings=Settings(lang="zh")))
    async with app.run_test(size=(160, 45)) as pilot:
        await settled(pilot)
        await reading(pilot, "节点", "互联", "最佳环")


async def test_zoom_shows_the_focused_panel_alone_and_escape_brings_all_back() -> None:
    app = CpadvisorApp(FakeWork())
    async with app.run_test(size=(160, 45)) as pilot:
        await settled(pilot)
        await pilot.press("z")
        await pilot.pause()
        assert "Links" not in frame(app)
        await pilot.press("escape")
        await pilot.pause()
        assert "Links" in frame(app)


async def test_help_lists_the_keys_of_the_focused_panel_also_where_it_inherits_them() -> None:
    app = CpadvisorApp(FakeWork())
    async with app.run_test(size=(160, 70)) as pilot:
        await settled(pilot)
        await pilot.press("4", "question_mark")
        await pilot.pause()
        assert "A line up" in frame(app)


def test_every_binding_has_an_id_a_description_and_a_tooltip() -> None:
    screens = (PlanScreen, ConfigScreen, RunScreen, DoctorScreen, RunsScreen, Reader, Question, Picker, ChangePreview)
    owners = (CpadvisorApp, *screens, RowTable, Rows, JobForm, FilterLine)
    bindings = [binding for owner in owners for binding in owner.__dict__["BINDINGS"]]
    assert all(isinstance(binding, Binding) for binding in bindings)
    assert [binding for binding in bindings if not (binding.id and binding.description and binding.tooltip)] == []
    ids = [binding.id for binding in set(bindings)]  # one that several screens share is one
    assert len(ids) == len(set(ids))
