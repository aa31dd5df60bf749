"""A read-only app shows everything and changes nothing."""

from pathlib import Path

import pytest
from pilot_support import app_of, until
from textual.pilot import Pilot
from tui_support import FakeWork, frame, run_view

from cpadvisor.settings import Settings
from cpadvisor.tui.app import CpadvisorApp
from cpadvisor.tui.home import Home
from cpadvisor.tui.screens.reader import Question
from cpadvisor.tui.stages import CHANGES

READ_ONLY = Home(settings=Settings(read_only=True))


async def ready(pilot: Pilot[int]) -> None:
    """Wait for the plan's file."""
    app = app_of(pilot)
    await until(lambda: app.session.draft is not None, app)
    await pilot.pause()


@pytest.mark.parametrize("keys", [("c", "L"), ("3", "w"), ("X",), ("6", "d"), ("6", "R")])
async def test_keys_that_change_something_do_nothing(keys: tuple[str, ...]) -> None:
    work = FakeWork()
    app = CpadvisorApp(work, home=READ_ONLY)
    async with app.run_test(size=(120, 36)) as pilot:
        await ready(pilot)
        await pilot.press(*keys)
        await ready(pilot)
        assert not isinstance(app.screen, Question)
        assert [call for call in work.calls if call.split()[0] not in ("machine", "answer", "draft", "histories")] == []


@pytest.mark.parametrize("stage", CHANGES)
async def test_no_stage_that_changes_something_is_started_whoever_asks(stage: str) -> None:
    app = CpadvisorApp(FakeWork(), home=READ_ONLY)
    asked: list[str] = []
    async with app.run_test(size=(120, 36)) as pilot:
        await ready(pilot)
        app._start(stage, lambda: asked.append(stage))
        await pilot.pause(0.2)
        assert asked == []
        assert app.session.busy is None


async def test_the_strip_and_the_help_say_so_and_the_keys_are_dimmed() -> None:
    app = CpadvisorApp(FakeWork(), home=READ_ONLY)
    async with app.run_test(size=(160, 60)) as pilot:
        await ready(pilot)
        assert "○ idle · read-only" in frame(app)
        enabled = {active.binding.id: active.enabled for active in app.screen.active_bindings.values()}
        assert not enabled["launch"]
        assert not enabled["stop"]
        assert enabled["help"]
        await pilot.press("question_mark")
        await pilot.pause()
        assert "Read-only: what changes something stands in brackets" in frame(app)
        assert "  (L) " in frame(app)
        assert "  q " in frame(app)


async def test_the_palette_offers_nothing_that_changes() -> None:
    app = CpadvisorApp(FakeWork(), home=READ_ONLY)
    async with app.run_test(size=(120, 36)) as pilot:
        await ready(pilot)
        await pilot.press("3")
        names = {command.title for command in app.get_system_commands(app.screen)}
        assert "Help" in names
        assert not names & {"Launch", "Stop", "Write"}


async def test_a_live_run_can_be_left_but_not_stopped() -> None:
    work = FakeWork(views=[run_view()])
    app = CpadvisorApp(work, home=READ_ONLY, run=Path("runs/20261123-tiny-1x1x1x2"))
    async with app.run_test(size=(120, 36)) as pilot:
        await ready(pilot)
        await pilot.press("q")
        await pilot.pause()
        assert isinstance(app.screen, Question)
        assert "stop it" not in frame(app)
        await pilot.press("x")
        await pilot.pause()
        assert "stop" not in work.calls
        await pilot.press("d")
    assert app.return_code == 0
