from pathlib import Path

import pytest

from runtime.errors import ConfigError
from runtime.yaml_loader import read


def written(folder: Path, text: str) -> Path:
    path = folder / "config.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "value"),
    [("2e-5", 2e-5), ("1E3", 1000.0), ("-3e2", -300.0), ("1.5e-4", 1.5e-4), (".5e1", 5.0), ("1e", "1e"), ("e5", "e5")],
)
def test_scientific_numbers_need_no_point(tmp_path: Path, text: str, value: object) -> None:
    assert read(written(tmp_path, f"learning_rate: {text}\n")) == {"learning_rate": value}


def test_other_values_are_as_safe_load_reads_them(tmp_path: Path) -> None:
    text = "a: 1\nb: [1, 0.5, yes, null]\nc: {d: text}\n"
    assert read(written(tmp_path, text)) == {"a": 1, "b": [1, 0.5, True, None], "c": {"d": "text"}}


def test_a_duplicate_key_names_both_lines(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="key 'seed' stands twice, on lines 1 and 3"):
        read(written(tmp_path, "seed: 1\nbf16: true\nseed: 2\n"))


def test_a_duplicate_key_is_found_at_any_depth(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="key 'path' stands twice, on lines 2 and 4"):
        read(written(tmp_path, "datasets:\n  - path: a\n    type: completion\n    path: b\n"))


def test_the_same_key_in_two_blocks_is_no_duplicate(tmp_path: Path) -> None:
    assert read(written(tmp_path, "a: {x: 1}\nb: {x: 2}\n")) == {"a": {"x": 1}, "b": {"x": 2}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1\nb: 2\n", "line 2"),
        ("- 1\n", "is a list; a config is a mapping"),
        ("", "is empty; a config is a mapping"),
        ("a: !!python/object:os.system {}\n", "line 1"),
        ("a: b\0c\n", "is no text in UTF-8"),
        ("a: 2001-13-45\n", "holds a value that YAML cannot read: month must be in"),
        ("a: !!bool maybe\n", "holds a value that YAML cannot read"),
        ("a: !!timestamp soon\n", "holds a value that YAML cannot read"),
        pytest.param("a: " + "[" * 3000 + "]" * 3000, "holds a value that YAML cannot read", id="nested without end"),
    ],
)
def test_what_is_no_mapping_in_yaml_says_where(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read(written(tmp_path, text))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: there is no such file"):
        read(tmp_path / "nowhere.yaml")
