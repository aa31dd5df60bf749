"""Every key of the app: named, explained in both languages, in no one's way; and keys of the user's own."""

import importlib
import inspect
import pkgutil
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from pilot_support import until
from textual.binding import Binding
from textual.dom import DOMNode
from textual.widget import Widget
from tui_support import FakeWork, frame

import cpadvisor.tui
from cpadvisor.errors import ConfigError
from cpadvisor.settings import Settings
from cpadvisor.tui import keymap
from cpadvisor.tui.app import CpadvisorApp
from cpadvisor.tui.home import Home, come_home
from cpadvisor.tui.i18n import Words
from cpadvisor.tui.key_words import CHINESE
from cpadvisor.tui.keymap import FIELDS, OVERLAYS, PANELS, STAGES, all_bindings, clashes, is_key, mistakes
from cpadvisor.tui.keys import APP_KEYS, CHANGING, action_name, in_language, keys_of

LOOKING = {
    "stage", "zoom", "next_theme", "help", "commands", "card", "command_palette", "suspend_process", "leave", "cpu",
    "pause", "copy", "edit", "view", "rank", "doctor_run", "speed", "back", "next_subject", "symptom", "next_mend",
    "examine",
    "filter", "replay", "mark", "compare", "unmark", "dismiss", "choose", "clear", "cursor", "page", "first", "last",
    "aside", "pick", "scroll_up", "scroll_down", "scroll_home", "scroll_end",
}  # fmt: skip
"""Actions that change nothing outside the app by themselves; what a dialogue is answered is asked of its asker."""


def classes_with_keys() -> set[type]:
    """Every class of the app that declares keys."""
    found: set[type] = set()
    for module in pkgutil.walk_packages(cpadvisor.tui.__path__, "cpadvisor.tui."):
        for _, each in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            if issubclass(each, DOMNode) and each.__module__.startswith("cpadvisor.") and "BINDINGS" in each.__dict__:
                found.add(each)
    return found


def declared() -> list[Binding]:
    """All keys where they are declared."""
    return [binding for each in classes_with_keys() for binding in each.__dict__["BINDINGS"]]


def test_every_class_with_keys_is_known_to_the_keymap() -> None:
    known = {*STAGES, *OVERLAYS, *PANELS, *FIELDS, CpadvisorApp, *STAGES[0].__mro__}
    assert classes_with_keys() <= known


def test_every_key_has_an_id_a_description_and_a_tooltip() -> None:
    assert all(isinstance(binding, Binding) for binding in declared())
    assert [binding for binding in declared() if not (binding.id and binding.description and binding.tooltip)] == []


def test_no_id_stands_for_two_keys() -> None:
    by_id: dict[str | None, set[Binding]] = {}
    for binding in declared():
        by_id.setdefault(binding.id, set()).add(binding)
    assert {name: found for name, found in by_id.items() if len(found) > 1} == {}


def test_every_key_is_explained_in_chinese_and_no_word_is_left_over() -> None:
    assert set(CHINESE) == set(all_bindings())
    assert [name for name, texts in CHINESE.items() if not all(texts)] == []


def test_every_action_either_looks_or_is_dimmed_in_a_read_only_app() -> None:
    actions = {action_name(binding) for binding in declared()}
    assert actions <= LOOKING | CHANGING
    assert not LOOKING & CHANGING
    assert actions >= CHANGING


def test_by_default_no_key_has_two_meanings_at_one_place() -> None:
    assert list(keymap._doubles({})) == []


async def test_on_no_screen_that_is_really_drawn_do_two_actions_share_a_key() -> None:
    app = CpadvisorApp(FakeWork())
    async with app.run_test(size=(160, 45)) as pilot:
        for mode in CpadvisorApp.MODES:
            await app.action_stage(mode)
            await pilot.pause()
            for widget in app.screen.query(Widget):
                if widget.focusable:
                    assert doubles(widget) == [], f"{mode}, {widget}"


def doubles(widget: Widget) -> list[tuple[str, str | None, str | None]]:
    """Keys that a widget and what holds it would both take; escape alone leaves a field before it leaves more."""
    owners: list[Any] = [node for node in widget.ancestors_with_self if type(node).__module__.startswith("cpadvisor.")]
    bindings = [binding for owner in owners for binding in Binding.make_bindings(keys_of(type(owner)))]
    return [
        (first.key, first.id, second.id)
        for first, second in combinations(bindings, 2)
        if first.key == second.key and not (first.key == "escape" and first.id in ("job-leave", "filter-clear"))
    ]


async def seen(app: CpadvisorApp, *wanted: str) -> None:
    """Wait until all of it is drawn."""
    await until(lambda: all(text in frame(app) for text in wanted), app)


def test_words_follow_the_language() -> None:
    launch = next(binding for binding in APP_KEYS if binding.id == "launch")
    assert in_language(launch, Words("en")) is launch
    assert in_language(launch, Words("zh")).description == "启动"


@pytest.mark.parametrize(
    "key", ["L", "?", "f5", "ctrl+l", "ctrl+shift+x", "question_mark", "slash", "plus", "space", "+"]
)
def test_what_a_keyboard_has_is_a_key(key: str) -> None:
    assert is_key(key)


@pytest.mark.parametrize("key", ["", " ", "ctrl-l", "control+l", "ctrl+", "launch", "f99x", "ab"])
def test_what_it_has_not_is_none(key: str) -> None:
    assert not is_key(key)


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"lauch": "x"}, "no key has the id 'lauch', did you mean 'launch'?"),
        ({"launch": "ctrl-l"}, "launch: 'ctrl-l' names no key; write such as ctrl+l"),
        ({"launch": "X"}, "launch and stop both take X; give one of them another key"),
        ({"launch": "j"}, "launch and table-down both take j"),
        ({"stop": "w"}, "config-write and stop both take w"),
        ({"launch": "tab"}, "launch: tab moves the focus on; choose another key"),
        ({"launch": "?"}, "help and launch both take ?"),
    ],
)
def test_a_mistake_names_the_ids_and_what_to_do(keys: dict[str, str], told: str) -> None:
    assert any(told in mistake for mistake in mistakes(keys)), mistakes(keys)


def test_two_keys_may_change_places() -> None:
    assert mistakes({"launch": "X", "stop": "L"}) == ()


def test_a_key_of_one_screen_is_free_on_another() -> None:
    assert mistakes({"runs-mark": "w"}) == ()


def test_the_defaults_written_out_are_no_mistake() -> None:
    assert mistakes({name: binding.key for name, binding in all_bindings().items()}) == ()


def test_a_clash_that_is_there_by_default_is_not_told() -> None:
    assert clashes({}) == []


def test_the_app_refuses_keys_that_cannot_be_and_names_the_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "cpadvisor").mkdir()
    file = tmp_path / "cpadvisor" / "config.yaml"
    file.write_text("theme: dark\nkeys:\n  launch: X\n")
    with pytest.raises(ConfigError) as caught:
        come_home({}, screens=("node",))
    assert str(caught.value).startswith(f"{file}:2: keys: launch and stop both take X")


async def test_a_key_of_the_users_own_works_and_stands_in_footer_help_and_tabs() -> None:
    keys = {"launch": "ctrl+l", "go-plan": "p", "help": "f2"}
    app = CpadvisorApp(FakeWork(), home=Home(settings=Settings(keys=keys)))
    async with app.run_test(size=(160, 60), notifications=True) as pilot:
        await until(lambda: app.session.draft is not None, app)
        await pilot.press("p")
        await seen(app, "p Plan", "^l Launch")
        assert app.current_mode == "plan"
        await pilot.press("f2")
        await seen(app, "^l ", "p 3 w ^l")


async def test_footer_and_help_speak_chinese() -> None:
    app = CpadvisorApp(FakeWork(), home=Home(settings=Settings(lang="zh")))
    async with app.run_test(size=(160, 60)) as pilot:
        await seen(app, "L 启动")
        await pilot.press("question_mark")
        await seen(app, "询问后停止运行")
        await pilot.press("escape")
        names = {command.title for command in app.get_system_commands(app.screen)}
        assert {"启动", "停止", "主题 dark"} <= names
