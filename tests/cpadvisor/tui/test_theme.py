import re
from pathlib import Path

import pytest
from rich.color import ColorSystem
from textual.color import Color
from textual.theme import BUILTIN_THEMES, Theme

import cpadvisor.tui
from cpadvisor.errors import ConfigError
from cpadvisor.settings import shipped_theme_files
from cpadvisor.tui.theme import VARIABLE_DEFAULTS, _textual_variables, parse_theme, shipped_themes


def test_dark_comes_first_and_a_light_theme_follows() -> None:
    themes = shipped_themes()
    assert [theme.name for theme in themes][:2] == ["dark", "light"]
    assert [theme.dark for theme in themes][:2] == [True, False]


def test_a_file_has_the_name_of_its_theme() -> None:
    assert {theme.name for theme in shipped_themes()} == {name for name, _ in shipped_theme_files()}


def test_shipped_themes_set_every_colour_of_the_application() -> None:
    for theme in shipped_themes():
        of_textual = _textual_variables() if theme.ansi else frozenset[str]()
        assert set(theme.variables) - of_textual == set(VARIABLE_DEFAULTS), theme.name


LEGIBLE = {"dark": 4.5, "light": 4.5, "high-contrast": 7.0, "sixteen": 4.5, "sixteen-light": 4.5}
"""The least ratio of every text tone on every ground: WCAG 2.2, 1.4.3 (level AA), and 1.4.6 (AAA)."""

NO_TEXT = ("border-quiet", "cursor-row")

PALETTES = {
    # The colours of the Linux console and of xterm, 0 to 15: console_codes(4), and xterm's resource defaults.
    "linux": "000000 aa0000 00aa00 aa5500 0000aa aa00aa 00aaaa aaaaaa "
    "555555 ff5555 55ff55 ffff55 5555ff ff55ff 55ffff ffffff",
    "xterm": "000000 cd0000 00cd00 cdcd00 0000ee cd00cd 00cdcd e5e5e5 "
    "7f7f7f ff0000 00ff00 ffff00 5c5cff ff00ff 00ffff ffffff",
}


def text_tones(theme: Theme) -> dict[str, str]:
    """Every colour in which something is written."""
    named = {name: getattr(theme, name) for name in ("foreground", "accent", "success", "warning", "error")}
    return named | {name: theme.variables[name] for name in VARIABLE_DEFAULTS if name not in NO_TEXT}


def grounds(theme: Theme) -> dict[str, str]:
    """Every colour on which something is written."""
    named = {name: str(getattr(theme, name)) for name in ("background", "surface", "panel")}
    return named | {"cursor-row": theme.variables["cursor-row"]}


def luminance(rgb: tuple[int, int, int]) -> float:
    """Relative luminance of WCAG 2.2; white is 1."""
    linear = [value / 255 / 12.92 if value <= 10 else ((value / 255 + 0.055) / 1.055) ** 2.4 for value in rgb]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(first: tuple[int, int, int], second: tuple[int, int, int]) -> float:
    """The ratio of WCAG 2.2; black on white is 21."""
    light, dark = sorted((luminance(first), luminance(second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def shown(colour: str, terminal: str) -> tuple[int, int, int]:
    """A colour as a terminal shows it."""
    if terminal in PALETTES:
        number = Color.parse(colour).rich_color.number
        assert number is not None, colour
        return tuple(bytes.fromhex(PALETTES[terminal].split()[number]))  # pyright: ignore
    rich = Color.parse(colour).rich_color
    return tuple((rich.downgrade(ColorSystem.EIGHT_BIT) if terminal == "256" else rich).get_truecolor())  # pyright: ignore


def test_contrast_is_that_of_wcag() -> None:
    assert contrast((0, 0, 0), (255, 255, 255)) == pytest.approx(21.0)
    # The lightest grey that passes level AA on white, as WCAG's own notes give it.
    assert contrast((0x76, 0x76, 0x76), (255, 255, 255)) == pytest.approx(4.54, abs=0.01)


@pytest.mark.parametrize("theme", shipped_themes(), ids=lambda theme: theme.name)
def test_every_tone_can_be_read_on_every_ground_in_as_many_colours_as_a_terminal_has(theme: Theme) -> None:
    terminals = tuple(PALETTES) if theme.ansi else ("truecolor", "256")
    poor = {
        (terminal, tone, ground): round(ratio, 2)
        for terminal in terminals
        for tone, colour in text_tones(theme).items()
        for ground, behind in grounds(theme).items()
        if (ratio := contrast(shown(colour, terminal), shown(behind, terminal))) < LEGIBLE[theme.name]
    }
    assert poor == {}


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
        ("name: [", "not YAML"),
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
