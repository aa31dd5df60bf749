import sys
from pathlib import Path

import pytest

from cpadvisor.errors import MissingError, UsageError
from cpadvisor.launch import find_python


def interpreter(folder: Path, answer: str, *, status: int = 0) -> str:
    """A stand-in for an interpreter that says `answer` whatever it is asked."""
    path = folder / "bin" / "python"
    path.parent.mkdir(parents=True)
    path.write_text(f"#!/bin/sh\necho '{answer}'\nexit {status}\n")
    path.chmod(0o755)
    return str(path)


def test_this_interpreter_is_taken_when_it_has_the_modules() -> None:
    assert find_python(modules=("json", "yaml"), environ={}) == sys.executable


def test_an_active_environment_is_tried_next(tmp_path: Path) -> None:
    python = interpreter(tmp_path / "venv", "[[3, 12], []]")
    assert find_python(modules=("no_such_module_x",), environ={"VIRTUAL_ENV": str(tmp_path / "venv")}) == python


def test_a_conda_environment_is_tried_last(tmp_path: Path) -> None:
    interpreter(tmp_path / "venv", '[[3, 12], ["no_such_module_x"]]')
    python = interpreter(tmp_path / "conda", "[[3, 11], []]")
    environ = {"VIRTUAL_ENV": str(tmp_path / "venv"), "CONDA_PREFIX": str(tmp_path / "conda")}
    assert find_python(modules=("no_such_module_x",), environ=environ) == python


def test_what_was_tried_and_what_mends_it_is_told(tmp_path: Path) -> None:
    old = interpreter(tmp_path / "venv", "[[3, 10], []]")
    with pytest.raises(MissingError) as caught:
        find_python(modules=("torch", "no_such_module_x"), environ={"VIRTUAL_ENV": str(tmp_path / "venv")})
    message = str(caught.value)
    assert caught.value.exit_code == 3
    assert f"  {sys.executable}: has no no_such_module_x" in message
    assert f"  {old}: is Python 3.10; the trainer needs 3.11 or newer" in message
    assert f"install with `{sys.executable} -m pip install 'cpadvisor[train]'`, or give --python PATH" in message


def test_an_explicit_interpreter_is_never_passed_over(tmp_path: Path) -> None:
    python = interpreter(tmp_path, '[[3, 12], ["json"]]')
    with pytest.raises(MissingError, match=f"{python}: has no json"):
        find_python(python, modules=("json",), environ={})


def test_a_preferred_interpreter_comes_first_and_is_passed_over_where_it_lacks_something(tmp_path: Path) -> None:
    has, lacks = interpreter(tmp_path / "a", "[[3, 12], []]"), interpreter(tmp_path / "b", '[[3, 12], ["json"]]')
    assert find_python(modules=("json",), preferred=has, environ={}) == has
    assert find_python(modules=("json",), preferred=lacks, environ={}) == sys.executable
    assert find_python(modules=("json",), preferred="/nowhere/python", environ={}) == sys.executable


@pytest.mark.parametrize(
    ("name", "reason"),
    [("/nowhere/python", "No such file or directory"), ("/bin/false", "is no Python that works")],
)
def test_what_is_no_interpreter_is_told(name: str, reason: str) -> None:
    with pytest.raises(MissingError, match=f"{name}: {reason}"):
        find_python(name, modules=("json",), environ={})


def test_a_link_of_an_environment_is_not_followed(tmp_path: Path) -> None:
    link = tmp_path / "python"
    link.symlink_to(sys.executable)
    assert find_python(str(link), modules=("json",), environ={}) == str(link)


def test_asking_for_torch_does_not_import_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("raise RuntimeError('imported')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert find_python(modules=("torch",), environ={}) == sys.executable


@pytest.mark.parametrize("name", ["", "  "])
def test_an_empty_interpreter_is_no_interpreter(name: str) -> None:
    with pytest.raises(UsageError, match="--python is empty; name an interpreter that has torch, or leave it out"):
        find_python(name, modules=("json",), environ={})
