import re
from pathlib import Path

import pytest
from textual.theme import BUILTIN_THEMES

import cpadvisor.tui
from cpadvisor.errors import ConfigError
from cpadvisor.tui.theme import VARIABLE_DEFAULTS, parse_theme, shipped_themes


def test_dark_comes_first_and_a_light_theme_follows() -> None:
    themes = shipped_themes()
    assert [theme.name for theme in themes][:2] == ["dark", "light"]
    assert [theme.dark for theme in themes][:2] == [True, False]


def test_shipped_themes_set_every_colour_of_the_application() -> None:
    for theme in shipped_themes():
        assert set(theme.variables) == set(VARIABLE_DEFAULTS), theme.name


def test_the_defaults_serve_themes_that_know_nothing_of_the_application() -> None:
    assert not set(VARIABLE_DEFAULTS) & set(BUILTIN_THEMES["nord"].variables)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("name: x\nprimary: '#112233'\nacent: '#000000'", "unknown key 'acent', did you mean 'accent'?"),
        ("name: x\nprimary: bluish", "primary: 'bluish' is not a colour"),
        ("name: x", "'primary' is missing"),
        ("primary: '#112233'", "'name' is missing"),
        ("name: x\nprimary: 112233", "primary: 112233 is not a colour"),
        ("name: x\nprimary: '#112233'\ndark: maybe", "dark: 'maybe' is not a bool"),
        ("name: x\nprimary: '#112233'\ntext_alpha: true", "text_alpha: True is not a number"),
        ("name: x\nprimary: '#112233'\nvariables: 3", "variables is 3"),
        (
            "name: x\nprimary: '#112233'\nvariables: {link-nvlnk: '#000000'}",
            "unknown variable 'link-nvlnk', did you mean 'link-nvlink'?",
        ),
        ("name: x\nprimary: '#112233'\nvariables: {muted: none-such}", "muted: 'none-such' is not a colour"),
        ("- a\n- b", "holds list"),
        ("name: [", "is not YAML"),
    ],
)
def test_a_mistake_in_a_theme_names_the_file_and_the_key(text: str, named: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_theme(text, source="mine.yaml")
    assert "mine.yaml" in str(caught.value)
    assert named in str(caught.value)


def test_all_mistakes_of_a_file_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_theme("primary: bluish\nacent: '#000000'", source="mine.yaml")
    assert all(part in str(caught.value) for part in ("'name' is missing", "bluish", "acent"))


def test_textual_variables_are_accepted_beside_our_own() -> None:
    theme = parse_theme("name: x\nprimary: '#112233'\nvariables: {footer-key-foreground: '#abcdef'}", source="m")
    assert theme.variables == {"footer-key-foreground": "#abcdef"}


def test_styles_name_theme_variables_and_no_colour_of_their_own() -> None:
    folder = Path(cpadvisor.tui.__file__).parent
    sources = [folder / "app.tcss", *(path for path in folder.rglob("*.py") if path.name != "theme.py")]
    colours = re.compile(r"#[0-9a-fA-F]{6}\b|#[0-9a-fA-F]{3}\b(?!-)|\brgb\(")
    assert {path.name: found for path in sources if (found := colours.findall(path.read_text()))} == {}
    used = set(re.findall(r"\$([a-z0-9-]+)", (folder / "app.tcss").read_text()))
    known = set(VARIABLE_DEFAULTS) | set(
        parse_theme("name: x\nprimary: '#112233'", source="m").to_color_system().generate()
    )
    assert used <= known
