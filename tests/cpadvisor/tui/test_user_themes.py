from pathlib import Path

import pytest
from textual.theme import BUILTIN_THEMES

from cpadvisor.errors import ConfigError
from cpadvisor.settings import Settings
from cpadvisor.tui.theme import shipped_themes
from cpadvisor.tui.user_themes import UserThemes, choose, for_terminal, look, read_user_themes

MINE = "name: mine\nprimary: '#112233'\n"


def write(folder: Path, **files: str) -> Path:
    """A themes folder with these files."""
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text)
    return folder


def test_without_a_folder_there_are_no_themes_and_nothing_to_watch(tmp_path: Path) -> None:
    assert look(tmp_path / "themes") is None
    assert read_user_themes(tmp_path / "themes") == UserThemes()


def test_an_empty_folder_is_watched(tmp_path: Path) -> None:
    assert look(tmp_path) == ()


def test_a_file_that_changes_changes_the_stamp(tmp_path: Path) -> None:
    folder = write(tmp_path / "themes", mine=MINE)
    before = look(folder)
    write(folder, mine=MINE + "dark: false\n")
    assert look(folder) != before


def test_a_broken_file_is_named_with_its_key_and_the_others_serve(tmp_path: Path) -> None:
    folder = write(tmp_path / "themes", bad="name: bad\nprimary: '#112233'\nacent: '#000000'\n", mine=MINE)
    found = read_user_themes(folder)
    assert [theme.name for theme in found.themes] == ["mine"]
    assert len(found.problems) == 1
    assert str(folder / "bad.yaml") in found.problems[0]
    assert "unknown key 'acent', did you mean 'accent'?" in found.problems[0]


def test_a_file_that_is_no_yaml_is_named_with_its_line_in_one_line(tmp_path: Path) -> None:
    folder = write(tmp_path / "themes", torn="name: torn\nprimary: [\n")
    (problem,) = read_user_themes(folder).problems
    assert problem.startswith(f"theme {folder / 'torn.yaml'}:3: not YAML: ")
    assert problem.endswith("; mend this line")
    assert "\n" not in problem


def test_bytes_that_are_no_text_are_a_problem_of_that_file_alone(tmp_path: Path) -> None:
    folder = write(tmp_path / "themes", mine=MINE)
    (folder / "odd.yaml").write_bytes(b"\xff\xfe\x00")
    found = read_user_themes(folder)
    assert [theme.name for theme in found.themes] == ["mine"]
    assert "odd.yaml" in found.problems[0]


@pytest.mark.parametrize(("name", "whose"), [("dark", "of the app"), ("nord", "of textual")])
def test_a_theme_of_the_app_is_not_shadowed(name: str, whose: str, tmp_path: Path) -> None:
    folder = write(tmp_path / "themes", mine=f"name: {name}\nprimary: '#112233'\n")
    found = read_user_themes(folder)
    assert found.themes == ()
    assert f"the name '{name}' is that of a theme {whose}; call yours for example 'my-{name}'" in found.problems[0]


def test_of_two_files_with_one_name_the_second_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "themes", a=MINE, b=MINE)
    found = read_user_themes(folder)
    assert len(found.themes) == 1
    assert "b.yaml" in found.problems[0]
    assert "in a.yaml" in found.problems[0]


def test_a_theme_that_is_set_is_taken_from_app_user_and_textual(tmp_path: Path) -> None:
    user = read_user_themes(write(tmp_path / "themes", mine=MINE))
    for name in ("light", "mine", "nord"):
        assert choose(Settings(theme=name), user) == (name, None)


def test_a_name_that_nothing_has_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError) as caught:
        choose(Settings(theme="drak", sources={"theme": "--theme"}), UserThemes())
    assert str(caught.value) == "--theme: no theme 'drak', did you mean 'dark'?"


def test_a_theme_whose_file_is_broken_gives_the_first_one_and_a_note(tmp_path: Path) -> None:
    user = read_user_themes(write(tmp_path / "themes", mine="name: mine\n"))
    settings = Settings(theme="mine", sources={"theme": "config.yaml:1"})
    assert choose(settings, user) == ("dark", "the theme mine cannot be used; dark is shown")


def test_a_remembered_theme_that_is_gone_does_not_stop_the_app() -> None:
    name, note = choose(Settings(theme="gone", sources={"theme": "remembered"}), UserThemes())
    assert name == "dark"
    assert note is not None


@pytest.mark.parametrize(
    ("theme", "colours", "taken"),
    [
        ("dark", "truecolor", "dark"),
        ("dark", "256", "dark"),
        ("dark", "standard", "sixteen"),
        ("light", "standard", "sixteen-light"),
        ("high-contrast", "standard", "sixteen"),
        ("sixteen", "standard", "sixteen"),
        ("ansi-light", "standard", "ansi-light"),
        ("dark", None, "dark"),
    ],
)
def test_sixteen_colours_take_a_theme_of_sixteen(theme: str, colours: str | None, taken: str) -> None:
    known = {each.name: each for each in shipped_themes()} | BUILTIN_THEMES
    assert for_terminal(known[theme], colours) == taken
