import os
from pathlib import Path

import pytest

from cpadvisor.errors import MissingError, UsageError
from cpadvisor.tui.editor import edit, editor_argv


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH that holds what a test puts there."""
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def program(folder: Path, name: str, text: str = "exit 0") -> None:
    """A small program."""
    file = folder / name
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(0o755)


def test_visual_wins_over_editor_and_arguments_are_split_as_a_shell_would(path: Path) -> None:
    program(path, "code")
    program(path, "vi")
    environ = {"VISUAL": "code --wait '--user-data-dir=a b'", "EDITOR": "vi", "PATH": str(path)}
    assert editor_argv(environ) == ["code", "--wait", "--user-data-dir=a b"]


def test_an_editor_that_is_not_there_is_named_and_no_other_is_taken(path: Path) -> None:
    program(path, "vi")
    with pytest.raises(MissingError, match=r"\$EDITOR names the editor 'nvim', which is not found"):
        editor_argv({"EDITOR": "nvim", "PATH": str(path)})


def test_without_a_wish_the_first_usual_one_is_taken(path: Path) -> None:
    program(path, "vi")
    assert editor_argv({"EDITOR": " ", "PATH": str(path)}) == ["vi"]
    program(path, "nano")
    assert editor_argv({"PATH": str(path)}) == ["nano"]


def test_without_any_the_variable_to_set_is_named(path: Path) -> None:
    with pytest.raises(MissingError, match="set EDITOR"):
        editor_argv({"PATH": str(path)})


def test_a_quotation_that_does_not_close_is_told(path: Path) -> None:
    with pytest.raises(UsageError, match=r"\$EDITOR is \"vi 'a\", which is no command"):
        editor_argv({"EDITOR": "vi 'a", "PATH": str(path)})


def test_the_file_is_one_argument_and_no_shell_reads_it(tmp_path: Path) -> None:
    program(tmp_path, "editor", 'printf %s "$1" > "$OUT"; exit 3')
    os.environ["OUT"] = str(tmp_path / "out")
    target = tmp_path / "a $(touch evil); b.yaml"
    with open(os.devnull, "r+") as terminal:  # noqa: PTH123
        assert edit([str(tmp_path / "editor")], target, terminal=terminal.fileno()) == 3
    assert (tmp_path / "out").read_text() == str(target)
    assert not (tmp_path / "evil").exists()
