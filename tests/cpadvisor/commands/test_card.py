"""`cpadvisor card` as it is typed."""

import json

import pytest

from cpadvisor.cli import main


@pytest.fixture(autouse=True)
def no_settings(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("CPADVISOR_LANG", raising=False)


def test_without_an_id_all_rows_are_printed(capsys):
    assert main(["card"]) == 0
    out = capsys.readouterr().out
    assert all(f"\n{id_}  " in out for id_ in ("C1", "K5", "F7", "D5", "L4", "T6", "P2", "V1"))


def test_ids_and_letters_choose_and_the_language_is_a_flag_in_both_places(capsys):
    for argv in (["card", "F3", "D", "--lang", "zh"], ["--lang", "zh", "card", "F3", "D"]):
        assert main(argv) == 0
        out = capsys.readouterr().out
        assert "长度要能整除" in out and "D5  CP 生效了吗？" in out and "K1" not in out


def test_the_language_of_the_settings_counts_where_no_flag_says_one(capsys, monkeypatch):
    monkeypatch.setenv("CPADVISOR_LANG", "zh")
    assert main(["card", "P2"]) == 0
    assert "谁持有谁的" in capsys.readouterr().out


def test_json_is_one_object(capsys):
    assert main(["card", "F1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"][0]["figures"][0]["gpus"] == 8


def test_an_unknown_row_is_a_usage_error_on_stderr(capsys):
    assert main(["card", "F9"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "the nearest is F7" in err
