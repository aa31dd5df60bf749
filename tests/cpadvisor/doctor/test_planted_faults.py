"""A fault planted in a sound machine, config or run is found: its rule, its severity, its row of the card, a figure."""

import pytest
from faults_of_configs import IN_A_CONFIG
from faults_of_machines import ON_A_NODE
from faults_of_runs import OF_A_RUN
from sound_subjects import SoundRun, sound_machine, write_config

from cpadvisor.doctor.config import examine_config
from cpadvisor.doctor.node import judge_machine
from cpadvisor.doctor.run import examine_run
from cpadvisor.probe.recorded import load_node


def one_of(found, rule):
    matches = [one for one in found if one.rule == rule]
    assert len(matches) == 1, [one.rule for one in found]
    return matches[0]


def assert_is_told(one, severity, rows, figure):
    assert one.severity == severity
    assert set(rows) <= set(one.card)
    assert figure in one.evidence
    assert one.effect or severity == "note"


@pytest.mark.parametrize(
    ("plant", "rule", "severity", "rows", "figure"), [row[1:] for row in ON_A_NODE], ids=[row[0] for row in ON_A_NODE]
)
def test_a_fault_of_the_machine_is_found(plant, rule, severity, rows, figure):
    one = one_of(judge_machine(plant()), rule)
    assert_is_told(one, severity, rows, figure)
    assert one.mends


@pytest.mark.parametrize(
    ("machine", "changes", "rule", "severity", "rows", "figure"),
    [row[1:] for row in IN_A_CONFIG],
    ids=[row[0] for row in IN_A_CONFIG],
)
def test_a_fault_of_a_config_is_found(machine, changes, rule, severity, rows, figure, tmp_path):
    changes = dict(changes)
    path = write_config(tmp_path, axolotl=changes.pop("axolotl", False), **changes)
    one = one_of(examine_config(path, node=load_node(machine)), rule)
    assert_is_told(one, severity, rows, figure)
    assert one.mends


@pytest.mark.parametrize(
    ("plant", "rule", "severity", "rows", "figure"), [row[1:] for row in OF_A_RUN], ids=[row[0] for row in OF_A_RUN]
)
def test_a_fault_of_a_run_is_found(plant, rule, severity, rows, figure, tmp_path):
    run = SoundRun(tmp_path / "run")
    planted = plant(run)
    view = planted if not isinstance(planted, SoundRun) else None
    assert_is_told(one_of(examine_run(run.directory, view=view), rule), severity, rows, figure)


def test_every_row_of_diagnosis_and_checklist_has_a_planted_fault():
    rows = {row for fault in (*ON_A_NODE, *IN_A_CONFIG, *OF_A_RUN) for row in fault[-2]}
    assert rows >= {"D1", "D2", "D3", "D4", "D5", "L1", "L2", "L3", "L4"}
    for subject in (ON_A_NODE, IN_A_CONFIG, OF_A_RUN):
        assert len({fault[0] for fault in subject}) == len(subject)
    assert len(ON_A_NODE) + len(IN_A_CONFIG) + len(OF_A_RUN) > 20


def test_nothing_is_found_in_what_is_sound(tmp_path):
    assert {one.rule for one in judge_machine(sound_machine()) if one.severity != "ok"} == set()
    for axolotl in (False, True):
        path = write_config(tmp_path, axolotl=axolotl)
        found = examine_config(path, node=load_node("dgx-h100"))
        assert {one.rule: one.evidence for one in found if one.severity != "ok"} == {}
    found = examine_run(SoundRun(tmp_path / "run").whole().directory)
    assert {one.rule: one.evidence for one in found if one.severity != "ok"} == {}
