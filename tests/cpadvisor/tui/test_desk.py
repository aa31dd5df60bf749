"""Writing, editing, launching the newest file, copying, and the log of it all."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from pilot_support import until
from textual.pilot import Pilot
from tui_support import CONFIG_TEXT, FakeWork, frame

from cpadvisor.settings import Settings
from cpadvisor.tui import copying, desk
from cpadvisor.tui.app import CpadvisorApp
from cpadvisor.tui.home import Home
from cpadvisor.tui.screens.journal import Journal
from cpadvisor.tui.screens.reader import Question, Reader
from cpadvisor.tui.session import CPU_REQUEST
from cpadvisor.tui.work import Work

EDITED = CONFIG_TEXT.replace("32768", "16384")


def said(app: CpadvisorApp) -> str:
    """All that the app has told in passing."""
    return "\n".join(notification.message for notification in app._notifications)


@pytest.fixture
def edits(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that were opened; the editor of the tests writes EDITED, the screen needs no terminal."""
    opened: list[Path] = []
    monkeypatch.setattr(desk, "editor_argv", lambda environ: ["editor", "--wait"])
    monkeypatch.setattr(CpadvisorApp, "suspend", lambda self: contextlib.nullcontext())
    return opened


def editing(work: FakeWork, opened: list[Path], monkeypatch: pytest.MonkeyPatch, text: str = EDITED) -> None:
    """An editor that leaves this text."""

    def edit(argv: list[str], path: Path, *, terminal: int) -> int:
        opened.append(path)
        work.on_disk = text
        return 0

    monkeypatch.setattr(desk, "edit", edit)


@contextlib.asynccontextmanager
async def on_config(app: CpadvisorApp) -> "Iterator[Pilot[int]]":  # pyright: ignore
    """The app on the Config screen, with its file."""
    async with app.run_test(size=(160, 45), notifications=True) as pilot:
        await until(lambda: app.session.draft is not None, app)
        await pilot.press("3")
        await pilot.pause()
        yield pilot  # pyright: ignore


async def test_a_file_that_is_on_disk_is_opened_at_once_and_read_again(
    edits: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    work = FakeWork(on_disk=CONFIG_TEXT)
    editing(work, edits, monkeypatch)
    app = CpadvisorApp(work)
    async with on_config(app) as pilot:
        await pilot.press("e")
        await until(lambda: app.session.draft is not None and app.session.draft.is_edited, app)
        assert edits == [Path("cpadvisor.yaml")]
        assert app.session.draft is not None
        assert app.session.draft.text == EDITED
        await pilot.pause()
        seen = frame(app)
        assert "changed after the plan" in seen
        line = next(line for line in seen.splitlines() if "sequence_len: 16384" in line)
        assert "yours" in line
        assert "32768" in line


async def test_a_file_that_is_not_written_is_asked_about_and_written_first(
    edits: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    work = FakeWork(on_disk=None)
    editing(work, edits, monkeypatch)
    app = CpadvisorApp(work)
    async with on_config(app) as pilot:
        await pilot.press("e")
        await pilot.pause()
        assert isinstance(app.screen, Question)
        assert edits == []
        await pilot.press("e")  # there is no file on disk to edit
        assert isinstance(app.screen, Question)
        await pilot.press("w")
        await until(lambda: edits != [], app)
        assert "save" in work.calls


async def test_the_file_on_disk_can_be_edited_as_it_is(edits: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    work = FakeWork()
    editing(work, edits, monkeypatch)
    app = CpadvisorApp(work)
    async with on_config(app) as pilot:
        await pilot.press("e", "e")
        await until(lambda: edits != [], app)
        assert "save" not in work.calls


async def test_escape_edits_nothing(edits: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    work = FakeWork()
    editing(work, edits, monkeypatch)
    app = CpadvisorApp(work)
    async with on_config(app) as pilot:
        await pilot.press("e", "escape")
        await pilot.pause(0.1)
        assert edits == []


async def test_w_asks_before_it_writes_over_an_edited_file(edits: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    work = FakeWork(on_disk=CONFIG_TEXT)
    editing(work, edits, monkeypatch)
    app = CpadvisorApp(work)
    async with on_config(app) as pilot:
        await pilot.press("e")
        await until(lambda: app.session.draft is not None and app.session.draft.is_edited, app)
        await pilot.press("w")
        await pilot.pause()
        assert isinstance(app.screen, Question)
        await pilot.press("escape")
        assert work.on_disk == EDITED
        await pilot.press("w", "w")
        await until(lambda: app.session.draft is not None and not app.session.draft.is_edited, app)
        assert work.on_disk == CONFIG_TEXT


async def test_an_editor_that_fails_is_told(edits: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desk, "edit", lambda argv, path, terminal: 7)
    app = CpadvisorApp(FakeWork(on_disk=CONFIG_TEXT))
    async with on_config(app) as pilot:
        await pilot.press("e")
        await until(lambda: "editor: exit status 7" in frame(app), app)
        assert app.command_log.entries[-2].problem == "editor: exit status 7"


async def test_without_an_editor_the_reason_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISUAL", "no-such-editor")
    app = CpadvisorApp(FakeWork(on_disk=CONFIG_TEXT))
    async with on_config(app) as pilot:
        await pilot.press("e")
        await until(lambda: "$VISUAL names the editor 'no-such-editor'" in frame(app), app)


async def test_choosing_another_plan_makes_the_plan_newer_than_the_file(
    edits: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    work = FakeWork(on_disk=CONFIG_TEXT)
    editing(work, edits, monkeypatch)
    app = CpadvisorApp(work)
    async with on_config(app) as pilot:
        await pilot.press("e")
        await until(lambda: app.session.draft is not None and app.session.draft.is_edited, app)
        await pilot.press("2", "down")
        await until(lambda: app.session.draft is not None and not app.session.draft.is_edited, app)


async def test_launch_says_which_file_it_takes_where_that_may_surprise() -> None:
    work = FakeWork()  # the file on disk is another one
    app = CpadvisorApp(work)
    async with on_config(app) as pilot:
        await pilot.press("c")
        await until(lambda: app.session.draft is not None, app)
        await pilot.press("L")
        await until(lambda: "a copy of the plan is launched" in said(app), app)
        commands = [entry.command for entry in app.command_log.entries]
        assert any(command.endswith("configs/app-cpadvisor.yaml --detach") for command in commands)


async def test_a_file_with_an_edit_that_would_not_start_is_not_launched(tmp_path: Path) -> None:
    work = Work(config=tmp_path / "c.yaml", runs=tmp_path / "runs")
    app = CpadvisorApp(work, request=CPU_REQUEST)
    async with app.run_test(size=(160, 45), notifications=True) as pilot:
        await until(lambda: app.session.draft is not None, app)
        await pilot.press("c")
        await until(lambda: app.session.machine is not None and app.session.machine.node.name == "cpu", app)
        await until(lambda: app.session.draft is not None and app.session.busy is None, app)
        await pilot.press("3", "w")
        await until(lambda: (tmp_path / "c.yaml").exists() and app.session.busy is None, app)
        text = (tmp_path / "c.yaml").read_text()
        (tmp_path / "c.yaml").write_text(text.replace("sequence_len: ", "sequence_len: ["))
        app.reread_file()
        await until(lambda: app.session.draft is not None and app.session.draft.is_edited, app)
        await pilot.press("L")
        await until(lambda: "would not start" in frame(app), app)
        assert app.session.run_dir is None


def test_an_edited_file_is_launched_as_it_stands_and_an_unedited_one_is_the_plans(tmp_path: Path) -> None:
    work = Work(config=tmp_path / "c.yaml")
    answer = work.answer(work.machine(CPU_REQUEST), CPU_REQUEST)
    draft = work.draft(answer, answer.advice.plans[0])
    work.save(draft)
    assert not work.edited(draft).is_edited
    (tmp_path / "c.yaml").write_text(draft.text + "# mine\n")
    edited = work.edited(draft)
    assert edited.is_edited
    assert edited.is_saved
    assert edited.text.endswith("# mine\n")
    assert "+# mine" in edited.diff
    assert work.edited(edited).planned == draft.text
    work.save(edited)
    assert (tmp_path / "c.yaml").read_text() == draft.text
    assert (tmp_path / "c.yaml.bak").read_text() == draft.text + "# mine\n"


# The clipboard.


async def test_y_copies_the_file_the_diff_the_command_and_the_row(monkeypatch: pytest.MonkeyPatch) -> None:
    copied: list[str] = []
    monkeypatch.setattr(CpadvisorApp, "copy_to_clipboard", lambda self, text: copied.append(text))
    app = CpadvisorApp(FakeWork())
    async with on_config(app) as pilot:
        for name in ("file", "diff", "command"):
            app.screen.query_one(f"#{name}").focus()
            await pilot.press("y")
        assert copied == [CONFIG_TEXT, app.session.draft.diff, "cpadvisor launch cpadvisor.yaml"]  # pyright: ignore
        await pilot.press("1", "y")
        assert "NVIDIA H100" in copied[-1]
        app.screen.query_one("#links").focus()
        await pilot.press("y")
        assert copied[-1].splitlines()[1].split()[:3] == ["0", "·", "NV18"]


async def test_where_there_is_nothing_to_copy_it_says_so() -> None:
    app = CpadvisorApp(FakeWork())
    async with app.run_test(size=(120, 36), notifications=True) as pilot:
        await until(lambda: app.session.draft is not None, app)
        await pilot.press("4")
        await pilot.pause()
        await pilot.press("y")
        await until(lambda: "nothing to copy" in frame(app), app)


def test_the_user_is_warned_where_the_terminal_may_not_take_it() -> None:
    assert copying.cautions("x", in_tmux=False) == []
    assert copying.cautions("x", in_tmux=True) == ["clipboard tmux"]
    assert copying.cautions("x" * (copying.MOST_BYTES + 1), in_tmux=False) == ["clipboard long"]


# The log.


async def test_the_log_shows_what_was_done_as_commands_and_y_copies_one(monkeypatch: pytest.MonkeyPatch) -> None:
    copied: list[str] = []
    monkeypatch.setattr(CpadvisorApp, "copy_to_clipboard", lambda self, text: copied.append(text))
    app = CpadvisorApp(FakeWork(), home=Home(settings=Settings()))
    async with on_config(app) as pilot:
        await pilot.press("w")
        await until(lambda: app.session.draft is not None and app.session.draft.is_saved, app)
        await pilot.press("at")
        await pilot.pause()
        assert isinstance(app.screen, Journal)
        commands = [entry.command for entry in app.command_log.entries]
        assert commands == [
            "cpadvisor inspect",
            "cpadvisor plan --node dgx-h100 --model llama-3.1-8b --seq 32k",
            "cpadvisor write --node dgx-h100 --model llama-3.1-8b --seq 32k -o cpadvisor.yaml",
        ]
        seen = frame(app)
        assert all(command in seen for command in commands)
        await pilot.press("y")
        assert copied == [commands[-1]]
        await pilot.press("up", "enter")
        await pilot.pause()
        assert isinstance(app.screen, Reader)
        await pilot.press("escape", "escape")
        assert not isinstance(app.screen, Journal)


async def test_a_stage_that_fails_stands_in_the_log_with_its_reason() -> None:
    app = CpadvisorApp(FakeWork())
    async with app.run_test(size=(160, 45)) as pilot:
        await until(lambda: app.session.draft is not None, app)
        await pilot.press("2", "e", "tab", *"32q", "enter")
        await until(lambda: "plan" in app.session.problems, app)
        assert "'32q' is not a number" in (app.command_log.entries[-1].problem or "")
        await pilot.press("escape", "at")
        await pilot.pause()
        assert "✖" in frame(app)
