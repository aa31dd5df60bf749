"""The app at home: themes, what it remembers, and how it is told what is odd."""

import json
from pathlib import Path

import pytest
from pilot_support import until
from tui_support import FakeWork, frame

from cpadvisor.errors import ConfigError
from cpadvisor.settings import Settings
from cpadvisor.tui import house
from cpadvisor.tui.app import CpadvisorApp
from cpadvisor.tui.home import Home, come_home
from cpadvisor.tui.remembered import Remembered, recall, remember, state_path
from cpadvisor.tui.user_themes import read_user_themes

MINE = "name: mine\nprimary: '#112233'\nforeground: '#445566'\n"
SCREENS = tuple(CpadvisorApp.MODES)


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Empty homes for settings and state."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "config" / "cpadvisor" / "themes").mkdir(parents=True)
    return tmp_path / "config" / "cpadvisor"


def test_the_default_home_reads_and_remembers_nothing() -> None:
    assert CpadvisorApp(FakeWork()).home.state is None


def test_theme_and_screen_come_back_at_the_next_start(folders: Path) -> None:
    remember(state_path(), Remembered(theme="light", screen="plan"))
    home = come_home({}, screens=SCREENS)
    assert (home.theme, home.screen) == ("light", "plan")
    assert home.settings.source("theme") == "remembered"


def test_the_settings_file_wins_over_memory_and_a_flag_over_both(folders: Path) -> None:
    remember(state_path(), Remembered(theme="light"))
    (folders / "config.yaml").write_text("theme: high-contrast\n")
    assert come_home({}, screens=SCREENS).theme == "high-contrast"
    assert come_home({"theme": "dark"}, screens=SCREENS).theme == "dark"


@pytest.mark.parametrize("text", ["{", "[]", '{"theme": 3, "screen": []}', "\x00", ""])
def test_a_memory_that_cannot_be_read_does_not_stop_the_app(folders: Path, text: str) -> None:
    state_path().parent.mkdir(parents=True)
    state_path().write_text(text)
    home = come_home({}, screens=SCREENS)
    assert (home.theme, home.screen) == ("dark", "node")
    broken = text not in ('{"theme": 3, "screen": []}',)
    assert any("state.json is ignored" in note for note in home.notes) == broken


def test_a_screen_that_is_no_more_is_forgotten(folders: Path) -> None:
    remember(state_path(), Remembered(screen="teapot"))
    assert come_home({}, screens=SCREENS).screen == "node"


def test_memory_is_one_small_file_that_is_read_as_it_was_written(folders: Path) -> None:
    remember(state_path(), Remembered(theme="light", screen="runs"))
    assert recall(state_path()) == (Remembered(theme="light", screen="runs"), None)
    assert json.loads(state_path().read_text()) == {"v": 1, "theme": "light", "screen": "runs"}


def test_read_only_remembers_nothing(folders: Path) -> None:
    assert come_home({"read_only": True}, screens=SCREENS).state is None


def test_a_theme_that_nothing_has_is_refused_before_anything_is_drawn(folders: Path) -> None:
    with pytest.raises(ConfigError, match="--theme: no theme 'lihgt', did you mean 'light'"):
        come_home({"theme": "lihgt"}, screens=SCREENS)


async def test_the_app_opens_on_the_screen_it_was_left_on() -> None:
    app = CpadvisorApp(FakeWork(), home=Home(screen="plan"))
    async with app.run_test(size=(120, 36)) as pilot:
        await until(lambda: app.session.draft is not None)
        await pilot.pause()
        assert app.current_mode == "plan"
        assert "1×4×1×2" in frame(app)


async def test_what_fails_while_the_app_ends_is_no_news() -> None:
    app = CpadvisorApp(FakeWork())
    async with app.run_test(size=(120, 36)) as pilot:
        await pilot.pause()
        app.exit(return_code=0)
        app._handle_exception(RuntimeError("its screens have gone"))
        await pilot.pause()
    assert app.return_code == 0


async def test_a_broken_theme_is_told_once_and_the_app_goes_on(folders: Path) -> None:
    (folders / "themes" / "bad.yaml").write_text("name: bad\nprimry: '#112233'\n")
    app = CpadvisorApp(FakeWork(), home=come_home({}, screens=SCREENS))
    async with app.run_test(size=(160, 45), notifications=True) as pilot:
        await until(lambda: app.session.draft is not None)
        await pilot.pause()
        seen = frame(app)
        assert "bad.yaml" in seen
        assert "'primry', did you" in " ".join(seen.split())
        assert len(app._notifications) == 1


async def test_a_theme_that_is_edited_is_seen_at_once(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(house, "LOOK_AT_THEMES_S", 0.05)
    file = folders / "themes" / "mine.yaml"
    file.write_text(MINE)
    app = CpadvisorApp(FakeWork(), home=come_home({"theme": "mine"}, screens=SCREENS))
    async with app.run_test(size=(120, 36)) as pilot:
        await pilot.pause()
        assert app.screen.styles.color.hex == "#445566"
        file.write_text(MINE.replace("#445566", "#fafafa"))
        await until(lambda: app.screen.styles.color.hex == "#FAFAFA")
        file.write_text(MINE.replace("primary", "primry"))
        await until(lambda: bool(app.home.themes.problems))
        assert app.theme == "mine"
        assert app.screen.styles.color.hex == "#FAFAFA"


async def test_a_theme_that_comes_and_goes_is_offered_and_withdrawn(
    folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(house, "LOOK_AT_THEMES_S", 0.05)
    app = CpadvisorApp(FakeWork(), home=come_home({}, screens=SCREENS))
    async with app.run_test(size=(120, 36)):
        (folders / "themes" / "mine.yaml").write_text(MINE)
        await until(lambda: "mine" in app.available_themes)
        (folders / "themes" / "mine.yaml").unlink()
        await until(lambda: "mine" not in app.available_themes)


async def test_without_a_folder_nothing_is_watched(folders: Path) -> None:
    (folders / "themes").rmdir()
    app = CpadvisorApp(FakeWork(), home=come_home({}, screens=SCREENS))
    async with app.run_test(size=(120, 36)) as pilot:
        await pilot.pause()
        assert [worker for worker in app.workers if worker.group == "themes"] == []


async def test_t_walks_over_the_apps_themes_and_the_users(folders: Path) -> None:
    (folders / "themes" / "mine.yaml").write_text(MINE)
    themes = read_user_themes(folders / "themes")
    app = CpadvisorApp(FakeWork(), home=Home(themes=themes, settings=Settings()))
    async with app.run_test(size=(120, 36)) as pilot:
        seen: list[str] = []
        for _ in range(4):
            await pilot.press("t")
            seen.append(app.theme)
        assert seen == ["light", "high-contrast", "mine", "dark"]
        assert app.home.remembered.theme == "dark"
