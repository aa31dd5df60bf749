from collections.abc import Mapping
from pathlib import Path

import pytest

from cpadvisor import settings
from cpadvisor.errors import ConfigError
from cpadvisor.settings import RULES, Settings, config_root, default_text, load, notes, resolve, variable_of


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """An environment with a settings folder of its own."""
    (tmp_path / "cpadvisor").mkdir()
    return {"XDG_CONFIG_HOME": str(tmp_path)}


def write(environ: Mapping[str, str], text: str) -> Path:
    """The settings file with this text."""
    path = Path(environ["XDG_CONFIG_HOME"]) / "cpadvisor" / "config.yaml"
    path.write_text(text)
    return path


def test_without_anything_every_value_is_its_default(environ: dict[str, str]) -> None:
    assert load({}, environ) == Settings()
    assert load({}, environ).source("theme") == "default"


def test_a_flag_wins_over_the_environment_that_over_the_file_that_over_memory(environ: dict[str, str]) -> None:
    memory = {"theme": "from-memory"}
    assert load({}, environ, remembered=memory).theme == "from-memory"
    path = write(environ, "theme: from-file\n")
    assert load({}, environ, remembered=memory).theme == "from-file"
    assert load({}, environ).source("theme") == f"{path}:1"
    environ["CPADVISOR_THEME"] = "from-environment"
    assert load({}, environ).theme == "from-environment"
    assert load({}, environ).source("theme") == "$CPADVISOR_THEME"
    assert load({"theme": "from-flag"}, environ).theme == "from-flag"
    assert load({"theme": "from-flag"}, environ).source("theme") == "--theme"


def test_a_flag_that_is_left_out_leaves_the_file_alone(environ: dict[str, str]) -> None:
    write(environ, "mouse: false\n")
    assert load({"mouse": None}, environ).mouse is False


def test_the_printed_file_reads_back_as_the_defaults(environ: dict[str, str]) -> None:
    write(environ, default_text([("launch", "L", "Launch")]))
    assert resolve({}, environ)[0].keys == {}
    read, mistakes = resolve({}, environ)
    assert mistakes == ()
    assert [getattr(read, rule.key) for rule in RULES] == [getattr(Settings(), rule.key) for rule in RULES]


def test_the_printed_file_names_every_setting_and_its_variable() -> None:
    text = default_text()
    for rule in RULES:
        assert f"\n{rule.key}:" in text
        assert (variable_of(rule.key) in text) == rule.variable


@pytest.mark.parametrize("text", ["", "\n\n", "# nothing yet\n  # indeed\n"])
def test_a_file_without_settings_is_no_mistake(environ: dict[str, str], text: str) -> None:
    write(environ, text)
    assert load({}, environ) == Settings()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("thme: dark", ":1: unknown key 'thme', did you mean 'theme'?"),
        ("lang: zz", ":1: lang 'zz' is none of en, zh; use en"),
        ("\nmouse: perhaps", ":2: mouse 'perhaps' is neither true nor false; use one of them"),
        ("looks_per_second: 99", "looks_per_second 99 is not between 0.2 and 5; use 5"),
        ("looks_per_second: 0", "looks_per_second 0 is not between 0.2 and 5; use 0.2"),
        ("looks_per_second: often", "looks_per_second 'often' is not a number; use 2"),
        ("looks_per_second: true", "looks_per_second True is not a number; use 2"),
        ("ascii: maybe", "ascii 'maybe' is none of auto, on, off"),
        ("theme: 3", "theme 3 is not text"),
        ("theme: ''", "theme '' is not text"),
        ("keys: [a]", "keys holds ['a']; write an id and its keys a line"),
        ("keys: {go-node: 1}", "keys gives go-node no key as text"),
        ("- a", "holds a list"),
        ("theme: [", "not YAML"),
        ("theme: dark\ntheme: light", "key 'theme' on line 2 stands on line 1 already"),
    ],
)
def test_a_mistake_names_file_line_rule_and_the_nearest_that_works(
    environ: dict[str, str], text: str, told: str
) -> None:
    path = write(environ, text)
    with pytest.raises(ConfigError) as caught:
        load({}, environ)
    assert str(path) in str(caught.value)
    assert told in str(caught.value)


def test_all_mistakes_are_told_at_once_and_the_rest_still_holds(environ: dict[str, str]) -> None:
    write(environ, "thme: x\nlang: zz\nmouse: false\n")
    read, mistakes = resolve({}, environ)
    assert len(mistakes) == 2
    assert read.mouse is False


@pytest.mark.parametrize(("text", "value"), [("on", "on"), ("off", "off"), ("auto", "auto"), ("'on'", "on")])
def test_on_and_off_are_words_here_though_yaml_reads_them_as_true_and_false(
    environ: dict[str, str], text: str, value: str
) -> None:
    write(environ, f"ascii: {text}\n")
    assert load({}, environ).ascii == value


@pytest.mark.parametrize(
    ("text", "value"), [("1", True), ("yes", True), ("FALSE", False), ("0", False), ("off", False)]
)
def test_switches_in_the_environment_take_the_usual_words(environ: dict[str, str], text: str, value: bool) -> None:
    assert load({}, environ | {"CPADVISOR_READ_ONLY": text}).read_only is value


def test_a_wrong_variable_is_named() -> None:
    with pytest.raises(ConfigError, match=r"\$CPADVISOR_LOOKS_PER_SECOND: looks_per_second 'x' is not a number"):
        load({}, {"XDG_CONFIG_HOME": "/nowhere", "CPADVISOR_LOOKS_PER_SECOND": "x"})


def test_a_variable_that_is_nearly_a_setting_is_mentioned_and_others_are_not() -> None:
    told = notes({"CPADVISOR_THEEM": "x", "CPADVISOR_FAULT": "y", "CPADVISOR_THEME": "dark", "HOME": "/"})
    assert told == ("$CPADVISOR_THEEM is no setting; did you mean $CPADVISOR_THEME?",)


def test_keys_lose_their_blanks(environ: dict[str, str]) -> None:
    write(environ, 'keys:\n  launch: "ctrl+l , f5"\n')
    assert load({}, environ).keys == {"launch": "ctrl+l,f5"}


@pytest.mark.parametrize("value", ["", "relative/path"])
def test_a_settings_folder_that_is_not_absolute_is_ignored(value: str) -> None:
    assert config_root({"XDG_CONFIG_HOME": value}) == Path.home() / ".config" / "cpadvisor"


def test_a_file_that_is_a_folder_is_told(environ: dict[str, str]) -> None:
    settings.config_path(environ).mkdir()
    assert "config.yaml" in resolve({}, environ)[1][0]
