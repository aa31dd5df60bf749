"""`cpadvisor doctor` as it is typed."""

import json
import re

import pytest
import yaml
from sound_subjects import SoundRun, sound_machine, with_host, write_config

from cpadvisor import doctor
from cpadvisor.cli import main
from cpadvisor.doctor.node import judge_machine


@pytest.fixture
def typed(capsys, monkeypatch):
    """Runs a command; gives exit status, stdout and stderr."""
    monkeypatch.setenv("COLUMNS", "80")

    def run(*argv):
        status = main(list(map(str, argv)))
        out, err = capsys.readouterr()
        return status, out, err

    return run


@pytest.fixture
def machine(monkeypatch):
    """Stands in for a look at this machine; called with what is to be seen."""

    def see(facts):
        monkeypatch.setattr(doctor, "examine_node", lambda **asked: judge_machine(facts))

    see(sound_machine())
    return see


def on_dgx(*argv):
    return ("doctor", *argv, "--node", "dgx-h100")


def test_a_sound_file_ends_with_0(typed, tmp_path):
    status, out, err = typed(*on_dgx(write_config(tmp_path)))
    assert (status, err) == (0, "")
    assert re.search(r"/job.yaml: \d+ ok$", out.splitlines()[0])


def test_an_error_ends_with_1_and_a_warning_only_when_strict(typed, tmp_path):
    warned = write_config(tmp_path, max_grad_norm=0)
    assert typed(*on_dgx(warned))[0] == 0
    assert typed(*on_dgx(warned), "--strict")[0] == 1
    assert typed(*on_dgx(write_config(tmp_path, sequence_len=32770)))[0] == 1


def test_json_is_one_object_with_every_check(typed, tmp_path):
    status, out, _ = typed(*on_dgx(write_config(tmp_path, sequence_len=32770)), "--json")
    told = json.loads(out)
    assert (status, told["schema"], told["subject"], told["ok"]) == (1, 1, "config", False)
    split = next(one for one in told["findings"] if one["rule"] == "F3")
    assert split["mends"][0]["changes"] == [{"key": "sequence_len", "remove": False, "value": 32768}]
    assert split["card"] == ["F3", "D4"]


def test_a_symptom_shows_its_steps_alone(typed, tmp_path):
    _, out, _ = typed(*on_dgx(write_config(tmp_path)), "--symptom", "split")
    assert out.startswith(f"{tmp_path}/job.yaml, symptom split: 2 ok\n\n1. ok        F3:")


def test_the_exit_status_of_a_symptom_is_that_of_what_is_shown(typed, tmp_path):
    path = write_config(tmp_path, sequence_len=32770)
    assert typed(*on_dgx(path), "--symptom", "nan")[0] == 0
    assert typed(*on_dgx(path), "--symptom", "split")[0] == 1


def test_an_unknown_symptom_is_refused_before_anything_is_looked_at(typed):
    status, out, err = typed("doctor", "--symptom", "ooom")
    assert (status, out) == (2, "")
    assert "did you mean oom?" in err


def test_applying_a_mend_prints_the_diff_and_keeps_the_old_file(typed, tmp_path):
    path = write_config(tmp_path, sequence_len=32770)
    status, out, err = typed(*on_dgx(path), "--apply", "F3")
    assert status == 0
    assert "-sequence_len: 32770\n+sequence_len: 32768" in out
    assert f"the old file is kept as {path}.bak" in err
    assert re.search(r"^now: \d+ ok$", err, re.MULTILINE)
    assert yaml.safe_load(path.read_text())["sequence_len"] == 32768
    assert typed(*on_dgx(path), "--apply", "F3")[0] == 2, "it has gone"


def test_applying_with_json_tells_file_rule_and_diff(typed, tmp_path):
    path = write_config(tmp_path, sequence_len=32770)
    told = json.loads(typed(*on_dgx(path), "--apply", "F3", "--json")[1])
    assert (told["path"], told["rule"], told["changed"], told["backup"]) == (str(path), "F3", True, f"{path}.bak")
    assert told["diff"].startswith(f"--- {path}")


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ("cp-links", "finding 'cp-links' has no mend that changes a config; those that have one: "),
        ("F33", "there is no finding 'F33' here; those that have one: "),
        ("key-unknown", "could be key-unknown.max_grad_nrm, key-unknown.learnig_rate; name one of them"),
    ],
)
def test_a_rule_without_a_change_names_those_that_have_one(rule, words, typed, tmp_path):
    path = write_config(tmp_path, max_grad_nrm=1.0, learnig_rate=1e-5)
    old = path.read_text()
    status, _, err = typed(*on_dgx(path), "--apply", rule)
    assert status == 2 and words in err
    assert path.read_text() == old


def test_the_beginning_of_a_rule_is_enough_where_it_is_the_only_one(typed, tmp_path):
    path = write_config(tmp_path, max_grad_norm=0)
    assert typed(*on_dgx(path), "--apply", "C8")[0] == 0
    assert yaml.safe_load(path.read_text())["max_grad_norm"] == 1.0


def test_a_run_is_found_by_the_beginning_of_its_name(typed, tmp_path):
    run = SoundRun(tmp_path / "runs" / "20260101T000000Z-tiny").whole()
    status, out, _ = typed("doctor", "20260101", "--runs", tmp_path / "runs")
    assert status == 0
    assert out.startswith(f"run {run.directory.name}: ")


def test_the_command_that_applies_a_mend_finds_a_run_kept_elsewhere(typed, tmp_path):
    run = SoundRun(tmp_path / "my runs" / "a")
    for rank in (0, 1):
        run.started(rank)
        run.stepped(rank, 1, loss=None)
    assert (
        f"$ cpadvisor doctor '{run.directory}' --apply loss" in typed("doctor", "a", "--runs", tmp_path / "my runs")[1]
    )


def test_a_mend_of_a_run_changes_the_file_that_it_was_started_from(typed, tmp_path):
    run = SoundRun(tmp_path / "runs" / "a")
    for rank in (0, 1):
        run.started(rank)
        run.stepped(rank, 1, loss=None)
    status, out, _ = typed("doctor", "a", "--runs", tmp_path / "runs", "--apply", "loss")
    assert status == 0
    assert f"+++ {run.record.config}" in out and "+learning_rate: 0.0003" in out


def test_a_name_that_is_neither_file_nor_run_is_refused_naming_both(typed, tmp_path):
    status, _, err = typed("doctor", "nothing.yaml", "--runs", tmp_path)
    assert status == 2
    assert "nothing.yaml is no file and no run: there is no file " in err and f"{tmp_path} holds no runs" in err


def test_without_a_subject_this_machine_is_examined(typed, machine):
    status, out, _ = typed("doctor")
    assert status == 0 and re.fullmatch(r"this machine: \d+ ok", out.splitlines()[0])
    machine(with_host(sound_machine(), loopback_error="no lo"))
    assert typed("doctor")[0] == 1
    assert json.loads(typed("doctor", "--json")[1])["subject"] == "node"


def test_a_machine_has_no_file_to_change(typed, machine):
    status, _, err = typed("doctor", "--apply", "shm")
    assert status == 2 and "--apply shm changes a config, and this is this machine; name a FILE or a RUN" in err


def test_another_machine_is_judged_for_a_file_alone(typed, machine):
    status, _, err = typed("doctor", "--node", "dgx-h100")
    assert status == 2 and "`cpadvisor inspect --node dgx-h100` shows that machine" in err
