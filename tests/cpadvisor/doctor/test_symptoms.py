"""A symptom leads to its checks, in the order in which to look."""

from dataclasses import replace

import pytest
from faults_of_configs import IN_A_CONFIG
from faults_of_machines import ON_A_NODE
from faults_of_runs import OF_A_RUN
from sound_subjects import SoundRun, sound_machine, write_config

from cpadvisor.doctor.config import examine_config
from cpadvisor.doctor.diagnosis import Diagnosis, Mend
from cpadvisor.doctor.node import judge_machine
from cpadvisor.doctor.run import examine_run
from cpadvisor.doctor.symptoms import SYMPTOMS, TREES, guided, is_of
from cpadvisor.errors import UsageError
from cpadvisor.probe.recorded import load_node

CHECKED = (
    "fsdp-missing",
    "length-data",
    "cp-block",
    "ulysses-heads",
    "engine-value.cpadvisor.method",
    "attention-eager",
    "ring-kernel",
    "length-positions",
)
"""Rules of `check` that no planted fault is about; tests/cpadvisor/check holds them."""


def one(rule, severity="ok", card=()):
    return Diagnosis(rule=rule, severity=severity, title=rule, evidence="", card=card)


def rules(found, symptom):
    return [each.rule for each in guided(found, symptom)]


def test_the_symptoms_are_those_of_the_card_and_a_hang():
    assert SYMPTOMS == ("oom", "slow", "nan", "split", "cp", "hang")


def test_out_of_memory_is_looked_at_in_the_order_of_row_d1():
    found = [
        one("F3"),
        one("L1.attn_implementation"),
        one("C7"),
        one("memory"),
        one("L1.micro_batch_size"),
        one("failure"),
    ]
    assert rules(found, "oom") == ["failure", "memory", "L1.micro_batch_size", "L1.attn_implementation", "F3"]


def test_a_check_that_the_tree_does_not_name_comes_by_its_row_of_the_card():
    assert rules([one("something-new", card=("D3",)), one("loss")], "nan") == ["loss", "something-new"]


def test_of_one_step_the_worst_comes_first():
    found = [one("env.NCCL_ALGO", "note"), one("env.NCCL_P2P_DISABLE", "warning")]
    assert rules(found, "hang") == ["env.NCCL_P2P_DISABLE", "env.NCCL_ALGO"]


def test_a_family_takes_its_members_and_no_namesake():
    found = [one("host"), one("hostname"), one("nvlink-2"), one("nvlinks")]
    assert rules(found, "slow") == ["nvlink-2"]


def test_the_checks_of_a_symptom_are_given_though_nothing_is_wrong(tmp_path):
    node, config = judge_machine(sound_machine()), examine_config(write_config(tmp_path), node=load_node("dgx-h100"))
    run = examine_run(SoundRun(tmp_path / "run").whole().directory)
    assert {"p2p", "shm", "loopback"} <= set(rules(node, "hang"))
    assert rules(config, "oom")[:2] == ["memory", "L1.micro_batch_size"]
    assert rules(config, "slow")[:2] == ["cp-links", "network"]
    assert rules(config, "nan") == ["C8", "L1.bf16"]
    assert rules(config, "split")[0] == "F3"
    assert rules(config, "cp") == ["cp-on"]
    assert rules(run, "cp") == ["cp-on", "local-length", "ring-bytes"]
    assert rules(run, "slow")[:2] == ["speed", "split-time"]
    assert rules(run, "nan")[0] == "loss"


@pytest.mark.parametrize(
    ("word", "nearest"),
    [
        ("oomm", "oom"),
        ("memory", "oom"),
        ("slwo", "slow"),
        ("NaN", "nan"),
        ("deadlock", "hang"),
        ("length", "split"),
        ("context", "cp"),
    ],
)
def test_an_unknown_symptom_is_refused_with_the_nearest(word, nearest):
    with pytest.raises(UsageError, match=rf"did you mean {nearest}\? there are oom, slow, nan, split, cp, hang"):
        guided([], word)


def test_a_symptom_like_no_other_is_refused_with_all_of_them():
    with pytest.raises(UsageError, match="'xyzzy' is not known; there are oom"):
        guided([], "xyzzy")


def test_every_step_of_every_tree_leads_to_a_check_that_is_made(tmp_path):
    made = [*judge_machine(sound_machine()), *examine_run(SoundRun(tmp_path / "run").whole().directory)]
    made += examine_config(write_config(tmp_path), node=load_node("dgx-h100"))
    made += [one(rule) for _, _, rule, *_ in (*ON_A_NODE, *OF_A_RUN)] + [one(row[3]) for row in IN_A_CONFIG]
    made += [one(rule) for rule in CHECKED]
    found = {symptom: guided(made, symptom) for symptom in SYMPTOMS}
    for symptom, tree in TREES.items():
        lost = [step for step in tree if not any(is_of(each, step) for each in found[symptom])]
        assert lost == [], symptom


def test_a_mend_that_leads_to_where_the_user_is_is_left_out():
    here, there = (Mend(text=name, command=f"cpadvisor doctor {name} --symptom slow") for name in ("r", "job.yaml"))
    found = [replace(one("speed", "warning"), mends=(here, there))]
    assert guided(found, "slow", subject="r")[0].mends == (there,)
    assert guided(found, "slow")[0].mends == (here, there)
