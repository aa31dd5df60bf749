"""What the app sends to terminals of every kind: colours, letters, mouse modes, the clipboard."""

import base64
import re
import sys
import time
from pathlib import Path

import pytest
from pty_support import START, Terminal

SGR = re.compile(rb"\x1b\[([0-9;]*)m")


def colours(seen: bytes) -> set[str]:
    """The kinds of colour in what was written: `16`, `256`, `truecolor`; empty for none."""
    kinds: set[str] = set()
    for codes in SGR.findall(seen):
        numbers = [int(number or 0) for number in codes.split(b";")]
        while numbers:
            number = numbers.pop(0)
            if number in (38, 48):
                kinds.add("truecolor" if numbers[0] == 2 else "256")
                del numbers[: 4 if numbers[0] == 2 else 2]
            elif 30 <= number <= 37 or 40 <= number <= 47 or 90 <= number <= 107:
                kinds.add("16")
    return kinds


def opened(home: Path, *flags: str, **environ: str) -> Terminal:
    """The app on its Plan screen."""
    terminal = Terminal(home, command=[sys.executable, "-c", START, *flags], size=(120, 36), **environ)
    terminal.read_until(b"NV18")
    terminal.press(b"2")
    terminal.read_until(b"MFU")
    time.sleep(0.3)
    terminal._read()
    return terminal


def close(terminal: Terminal) -> None:
    """Quit, and see that the terminal is whole."""
    terminal.press(b"q")
    terminal.rest()
    assert terminal.exit_code() == 0
    terminal.require_whole()


@pytest.mark.parametrize(
    ("environ", "kinds"),
    [
        ({"COLORTERM": "truecolor"}, {"truecolor"}),
        ({}, {"256"}),
        ({"TERM": "tmux-256color"}, {"256"}),
        ({"TERM": "alacritty"}, {"truecolor"}),
        ({"TERM": "xterm-kitty"}, {"truecolor"}),
        ({"TERM": "xterm"}, {"16"}),
        ({"TERM": "linux"}, {"16"}),
        ({"TERM": "vt100"}, {"16"}),
        ({"NO_COLOR": "1"}, set()),
        ({"NO_COLOR": "1", "COLORTERM": "truecolor"}, set()),
        ({"NO_COLOR": "1", "TERM": "linux"}, set()),
    ],
)
def test_each_terminal_gets_the_colours_that_it_has(environ: dict[str, str], kinds: set[str], tmp_path: Path) -> None:
    terminal = opened(tmp_path, **environ)
    drawn = terminal.seen
    close(terminal)
    assert colours(drawn) == kinds


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_sixteen_colours_come_from_a_theme_made_of_them(theme: str, tmp_path: Path) -> None:
    terminal = opened(tmp_path, "--theme", theme, TERM="xterm")
    background = b"40" if theme == "dark" else b"107"
    codes = [code.split(b";")[-1] for code in SGR.findall(terminal.seen) if code not in (b"0", b"")]
    close(terminal)
    assert set(codes) == {background}


@pytest.mark.parametrize(
    "environ", [{"TERM": "linux"}, {"LC_ALL": "C"}, {"LANG": "C"}, {"CPADVISOR_ASCII": "on"}], ids=str
)
def test_where_nothing_else_is_shown_the_app_draws_in_ascii(environ: dict[str, str], tmp_path: Path) -> None:
    terminal = opened(tmp_path, **environ)
    close(terminal)
    assert terminal.seen.isascii()
    assert b"+" in terminal.seen
    assert b"---" in terminal.seen


def test_in_utf8_it_draws_lines_and_dots(tmp_path: Path) -> None:
    terminal = opened(tmp_path)
    close(terminal)
    assert "╭".encode() in terminal.seen


def test_a_locale_without_chinese_letters_gets_english_and_a_note(tmp_path: Path) -> None:
    terminal = opened(tmp_path, "--lang", "zh", LC_ALL="C")
    assert b"Candidates" in terminal.seen
    assert b"locale" in terminal.seen
    close(terminal)


def test_no_mouse_leaves_the_mouse_to_the_terminal(tmp_path: Path) -> None:
    terminal = opened(tmp_path, "--no-mouse")
    close(terminal)
    assert b"\x1b[?1000h" not in terminal.seen
    assert b"\x1b[?1003h" not in terminal.seen


def test_y_sends_the_focused_row_to_the_clipboard(tmp_path: Path) -> None:
    terminal = opened(tmp_path)
    terminal.press(b"y")
    sent = terminal.read_until(b"\x07").rpartition(b"\x1b]52;c;")[2].partition(b"\x07")[0]
    close(terminal)
    assert base64.b64decode(sent).decode().startswith("1  1×")


def test_the_editor_has_the_whole_terminal_and_the_app_comes_back(tmp_path: Path) -> None:
    editor = tmp_path / "editor"
    editor.write_text(
        '#!/bin/sh\nstty -a | tr ";" "\\n" | grep -q " -echo " && exit 9\necho "on the terminal: $1"\nsleep 0.3\n'
    )
    editor.chmod(0o755)
    (tmp_path / "cpadvisor.yaml").write_text("base_model: tiny\n")
    start = f"import os; os.chdir({str(tmp_path)!r}); {START}"
    terminal = Terminal(tmp_path, program=start, EDITOR=str(editor), VISUAL="")
    terminal.read_until(b"NV18")
    terminal.press(b"3")
    terminal.read_until(b"base_model")
    terminal.press(b"e")
    terminal.read_until(b"not on disk")
    terminal.press(b"e")
    before = terminal.read_until(b"on the terminal: ")
    assert b"\x1b[?1049l" in before
    after = terminal.read_until(b"changed after the plan")
    assert b"\x1b[?1049h" in after
    log = tmp_path / "state" / "cpadvisor" / "commands.log"
    assert f"ok  0.3 s  {editor} {tmp_path}/cpadvisor.yaml" in log.read_text() or str(editor) in log.read_text()
    assert log.stat().st_mode & 0o777 == 0o600
    close(terminal)


def test_a_read_only_app_leaves_no_file_behind(tmp_path: Path) -> None:
    terminal = opened(tmp_path, "--read-only")
    assert b"read-only" in terminal.seen
    terminal.press(b"t")
    close(terminal)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_theme_and_screen_are_remembered(tmp_path: Path) -> None:
    terminal = opened(tmp_path)
    terminal.press(b"t")
    time.sleep(0.5)
    close(terminal)
    assert '"theme": "light", "screen": "plan"' in (tmp_path / "state" / "cpadvisor" / "state.json").read_text()
    terminal = Terminal(tmp_path, size=(120, 36))
    terminal.read_until(b"MFU")
    close(terminal)


def test_a_mistake_in_the_settings_is_told_before_anything_is_drawn(tmp_path: Path) -> None:
    folder = tmp_path / "config" / "cpadvisor"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("thme: dark\n")
    terminal = Terminal(tmp_path)
    told = terminal.rest()
    assert terminal.exit_code() == 2
    assert b"unknown key 'thme', did you mean 'theme'?" in told
    assert b"\x1b[?1049h" not in told
    terminal.require_whole()
