"""`settings` as it is typed."""

import json
from pathlib import Path

import pytest

from cpadvisor import cli


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty settings folder."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    folder = tmp_path / "config" / "cpadvisor"
    folder.mkdir(parents=True)
    return folder


def test_every_setting_is_shown_with_where_it_comes_from(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "config.yaml").write_text("mouse: false\n")
    assert cli.main(["--theme", "light", "settings"]) == 0
    lines = {line.split()[0]: line.split()[1:] for line in capsys.readouterr().out.splitlines() if line}
    assert lines["mouse"] == ["false", f"{home}/config.yaml:1"]
    assert lines["theme"] == ["light", "--theme"]
    assert lines["lang"] == ["en", "default"]
    assert lines["config"] == [f"{home}/config.yaml"]


def test_json_gives_values_defaults_sources_and_files(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["settings", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["schema"] == 1
    assert {"key": "looks_per_second", "value": 2.0, "default": 2.0, "source": "default"} in data["settings"]
    assert data["files"]["themes"] == str(home / "themes")
    assert data["problems"] == data["notes"] == []


def test_a_mistake_is_told_beside_what_holds_and_gives_status_2(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "config.yaml").write_text("thme: x\nlang: zh\n")
    assert cli.main(["settings"]) == 2
    told = capsys.readouterr()
    assert "unknown key 'thme', did you mean 'theme'?" in told.err
    assert f"{home}/config.yaml:2" in told.out


def test_a_theme_that_nothing_has_is_a_mistake(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "config.yaml").write_text("theme: drak\n")
    assert cli.main(["settings"]) == 2
    assert "no theme 'drak', did you mean 'dark'?" in capsys.readouterr().err


def test_a_broken_theme_of_the_users_is_a_note(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "themes").mkdir()
    (home / "themes" / "mine.yaml").write_text("name: mine\nprimry: '#112233'\n")
    assert cli.main(["settings"]) == 0
    told = capsys.readouterr().err
    assert "mine.yaml" in told
    assert "unknown key 'primry', did you mean 'primary'?" in told


def test_the_default_file_holds_every_key_by_its_id_and_is_accepted(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["settings", "--default"]) == 0
    text = capsys.readouterr().out
    (home / "config.yaml").write_text(text)
    assert cli.main(["settings"]) == 0
    assert '#  launch: "L"' in text
    assert '#  table-down: "down,j"' in text


def test_the_keys_of_the_default_file_are_accepted_as_they_stand(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["settings", "--default"]) == 0
    text = capsys.readouterr().out.replace("\n#  ", "\n  ")
    (home / "config.yaml").write_text(text)
    assert cli.main(["settings"]) == 0
    assert "launch: L" in capsys.readouterr().out


def test_keys_that_clash_are_named(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "config.yaml").write_text("keys: {launch: X}\n")
    assert cli.main(["settings"]) == 2
    assert "launch and stop both take X" in capsys.readouterr().err
