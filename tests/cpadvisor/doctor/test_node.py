"""What is said of whole machines: a sound one, one without a GPU, this one."""

import os
import subprocess
import sys
from dataclasses import replace

import pytest
from faults_of_machines import held, imports, links, variables
from sound_subjects import peer_access, sound_machine, with_driver, with_host, with_torch

from cpadvisor.doctor.facts import DriverFacts, MachineFacts
from cpadvisor.doctor.gathering import _own_pids
from cpadvisor.doctor.node import examine_node, judge_machine
from cpadvisor.doctor.variable_checks import HARMS
from cpadvisor.launch.environment import RUN_VARIABLE
from cpadvisor.node import Holder
from cpadvisor.units import GIB


def judged(facts):
    return {one.rule: one for one in judge_machine(facts)}


def without_gpus():
    facts = sound_machine()
    return replace(
        facts,
        driver=DriverFacts(absent="no NVIDIA driver"),
        libraries=with_torch(facts, version="2.13.0+cpu", cuda=None, available=False, devices=0, nccl=None).libraries,
    )


def test_a_sound_machine_shows_what_was_looked_at():
    found = judge_machine(sound_machine())
    assert {one.severity for one in found} == {"ok"}
    shown = {one.rule for one in found}
    assert shown >= {"driver", "nvlink", "p2p", "ecc", "holders", "shm", "limits", "host-memory", "disk", "load"}
    assert shown >= {"hostname", "loopback", "torch", "cuda", "nccl", "cudnn", "flash-attn-2", "safetensors", "env"}
    assert len(shown) == len(found), "each check has a name of its own"


def test_a_machine_without_gpus_gets_a_short_list_and_no_complaint():
    found = judge_machine(without_gpus())
    assert [one.rule for one in found if one.severity != "ok"] == ["driver"]
    driver = found[0]
    assert (driver.severity, driver.title) == ("note", "no GPU here")
    assert not {one.rule for one in found} & {"cuda", "nccl", "cudnn", "p2p", "nvlink", "holders", "flash-attn"}


def test_torch_without_cuda_is_right_where_there_is_no_gpu():
    assert judged(without_gpus())["torch"].severity == "ok"


def test_each_check_says_how_long_it_was_given():
    found = judged(sound_machine())
    assert "answered in 1.5 s of 30 s" in found["driver"].evidence
    assert "imported in 3.1 s of 90 s" in found["torch"].evidence
    assert "in a child with 60 s" in found["flash-attn-2"].evidence


def test_the_worst_comes_first():
    facts = with_driver(variables(NCCL_P2P_DISABLE="1"), lost=("GPU3 does not answer",))
    severities = [one.severity for one in judge_machine(facts)]
    order = ["error", "warning", "note", "ok"]
    assert severities == sorted(severities, key=order.index)
    assert severities[0] == "error"


def test_a_run_of_one_s_own_that_holds_a_gpu_is_no_stranger():
    facts = replace(with_driver(sound_machine(), node=held(6, 4211, 61)), own_pids={4211: "20260101T000000Z-tiny"})
    one = judged(facts)["holders"]
    assert one.severity == "note"
    assert "run 20260101T000000Z-tiny" in one.evidence
    assert one.mends[0].command == "cpadvisor stop 20260101T000000Z-tiny"


def test_a_run_outside_the_usual_folder_is_ended_by_its_path(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    usual, other = tmp_path / "state" / "cpadvisor" / "runs" / "r1", tmp_path / "my runs" / "r2"
    for run, command in ((usual, "cpadvisor stop r1"), (other, f"cpadvisor stop '{other}'")):
        argv, env = [sys.executable, "-c", "input()"], {RUN_VARIABLE: str(run)}
        with subprocess.Popen(argv, stdin=subprocess.PIPE, env=env) as one:
            facts = with_driver(sound_machine(), node=held(6, one.pid, 61))
            assert facts.driver.node is not None
            own = _own_pids(facts.driver.node)
            one.communicate(b"\n")
        assert judged(replace(facts, own_pids=own))["holders"].mends[0].command == command


def test_a_display_server_holds_too_little_to_be_in_the_way():
    small = {"holders": (Holder(gpu=0, pid=7, user="root", command="Xorg", used_bytes=GIB // 8),)}
    assert judged(with_driver(sound_machine(), node=small))["holders"].severity == "ok"


def test_the_free_gpus_are_offered_where_others_are_held():
    mends = judged(with_driver(sound_machine(), node=held(6, 4211, 61)))["holders"].mends
    assert mends[0].command == "CUDA_VISIBLE_DEVICES=0,1,2,3,4,5,7 cpadvisor plan"


def test_each_fault_of_the_links_is_told_apart():
    matrix = [[None if a == b else "NV18" for b in range(8)] for a in range(8)]
    for gpu, code in ((2, "NV12"), (5, "SYS")):
        for other in set(range(8)) - {gpu}:
            matrix[gpu][other] = matrix[other][gpu] = code
    found = judge_machine(with_driver(sound_machine(), node={"links": tuple(map(tuple, matrix))}))
    told = {one.rule: one.evidence for one in found if one.rule.startswith("nvlink")}
    assert "GPU5 fell off NVLink" in told["nvlink"]
    assert any("GPU2" in evidence for rule, evidence in told.items() if rule != "nvlink")


def seeing(*gpus, **access):
    """A machine whose driver tells of eight GPUs, of which these may be used."""
    facts = sound_machine()
    node = facts.driver.node
    assert node is not None
    return replace(facts, driver=replace(facts.driver, node=node.subset(gpus), **access))


def test_peer_access_is_counted_among_the_gpus_that_may_be_used():
    one = judged(seeing(2, 3, 5, peer_access=peer_access(_0_1="CNS", _2_5="TNS", _5_7="CNS")))["p2p"]
    assert (one.title, one.evidence) == (
        "no peer access on 1 of 3 pairs",
        "GPU2–GPU5 TNS: the topology does not support it",
    )
    others = judged(seeing(2, 3, peer_access=peer_access(_0_1="CNS")))["p2p"]
    assert (others.severity, others.evidence) == (
        "ok",
        "1 of 1 pairs may read each other's memory (nvmlDeviceGetP2PStatus)",
    )


def test_peer_access_of_which_the_driver_says_nothing_is_not_known():
    one = judged(seeing(2, 3, peer_access={"0-1": "OK"}))["p2p"]
    assert (one.severity, one.title) == ("note", "peer access is not known")
    half = judged(seeing(0, 1, 2, peer_access={"0-1": "OK"}))["p2p"]
    assert half.severity == "ok" and half.evidence.startswith("1 of 3 pairs")


@pytest.mark.parametrize(
    ("code", "virtual", "told"), [("PHB", False, True), ("PHB", True, False), ("NV18", False, False)]
)
def test_an_iommu_matters_on_bare_metal_where_gpus_talk_over_pcie(code, virtual, told):
    facts = with_driver(sound_machine(), node=links(code))
    facts = replace(facts, host=replace(facts.host, iommu=True, virtual=virtual))
    assert ("iommu" in judged(facts)) is told


def test_a_variable_that_hurts_gpus_alone_is_silent_without_them():
    facts = replace(without_gpus(), environ={"NCCL_P2P_DISABLE": "1", "OMP_NUM_THREADS": "1"})
    told = {one.rule for one in judge_machine(facts) if one.rule.startswith("env.")}
    assert told == {"env.OMP_NUM_THREADS"}


def test_the_variables_that_were_looked_at_are_counted():
    assert judged(sound_machine())["env"].evidence == f"looked at {len(HARMS)} variables"
    newer = judged(variables(PYTORCH_ALLOC_CONF="expandable_segments:True"))["env"]
    assert newer.evidence == f"looked at {len(HARMS) - 1} variables"
    on_cpu = judged(replace(without_gpus(), environ={"NCCL_P2P_DISABLE": "1"}))["env"]
    assert on_cpu.evidence == "looked at OMP_NUM_THREADS; what harms GPUs alone was left out"


def test_the_environment_overrides_nccl_s_file():
    facts = replace(
        variables(NCCL_DEBUG="WARN"), host=replace(sound_machine().host, nccl_files={"NCCL_DEBUG": "TRACE"})
    )
    assert judged(facts)["env"].severity == "ok"


@pytest.mark.parametrize(
    ("value", "harms"),
    [
        ("expandable_segments:True", False),
        ("expandable_segments:False", True),
        ("max_split_size_mb:512", False),
        ("max_split_size_mb: 32, expandable_segments:True", True),
        ("backend:cudaMallocAsync", True),
        ("garbage", False),
    ],
)
def test_settings_of_the_allocator_that_waste_memory_are_told(value, harms):
    assert ("env.PYTORCH_CUDA_ALLOC_CONF" in judged(variables(PYTORCH_CUDA_ALLOC_CONF=value))) is harms


def test_the_allocator_is_judged_by_the_name_that_wins():
    good, odd = "expandable_segments:True", "expandable_segments:False"
    assert judged(variables(PYTORCH_ALLOC_CONF=good, PYTORCH_CUDA_ALLOC_CONF=odd))["env"].severity == "ok"
    told = {rule for rule in judged(variables(PYTORCH_ALLOC_CONF=odd, PYTORCH_CUDA_ALLOC_CONF=odd)) if "ALLOC" in rule}
    assert told == {"env.PYTORCH_ALLOC_CONF"}


def test_this_very_machine_is_examined_for_real(tmp_path):
    found = {one.rule: one for one in examine_node(runs=tmp_path, environ=os.environ)}
    assert "driver" in found and found["disk"].evidence.endswith("is enough to start")
    assert str(tmp_path) in found["disk"].evidence
    assert found["loopback"].severity == "ok"


def test_a_machine_of_which_nothing_is_known_is_judged_without_a_crash():
    assert judged(MachineFacts())["driver"].severity == "note"


def test_a_product_that_came_out_right_counts_more_than_the_versions():
    one = judged(with_driver(sound_machine(), cuda="12.4"))["cuda"]
    assert (one.severity, one.title) == ("ok", "torch computes on the GPUs")
    assert one.evidence == "8 of 8 GPUs by torch, CUDA build 13.0, driver 12.4; a bf16 product is right"


def test_where_the_product_fails_the_versions_say_why():
    one = judged(with_torch(with_driver(sound_machine(), cuda="12.4"), error="AcceleratorError: no kernel image"))[
        "cuda"
    ]
    assert one.title == "torch is built for CUDA 13.0, the driver runs 12.4"
    assert one.evidence.endswith("; AcceleratorError: no kernel image")


def in_a_folder_with_a_blank(facts):
    return replace(facts, libraries=replace(facts.libraries, python="/my venv/bin/python"))


PIP = "'/my venv/bin/python' -m pip install"


@pytest.mark.parametrize(
    ("rule", "module", "command"),
    [
        (
            "flash-attn-2",
            "flash_attn",
            f"{PIP} --force-reinstall --no-deps --no-cache-dir --no-build-isolation flash-attn",
        ),
        ("flash-attn-3", "flash_attn_interface", None),
        ("flash-attn-4", "flash_attn.cute", f"{PIP} --force-reinstall --no-deps 'flash-attn-4>=4.0.0b1'"),
        ("safetensors", "safetensors", f"{PIP} --force-reinstall safetensors"),
    ],
)
def test_what_does_not_import_is_installed_anew_by_its_name_on_pypi(rule, module, command):
    one = judged(in_a_folder_with_a_blank(imports(module, "undefined symbol")))[rule]
    assert (one.severity, one.mends[0].command) == ("warning", command)


@pytest.mark.parametrize(
    ("cuda", "fits"), [("13.1", ", CUDA 13 at most;"), ("12.4", ", CUDA 12 at most;"), (None, "in its place;")]
)
def test_a_torch_without_cuda_is_replaced_by_one_that_the_driver_runs(cuda, fits):
    facts = with_torch(with_driver(sound_machine(), cuda=cuda), version="2.13.0+cpu", cuda=None, available=False)
    mend = judged(in_a_folder_with_a_blank(facts))["cuda"].mends[0]
    assert mend.command == f"{PIP} --force-reinstall torch"
    assert fits in mend.text


@pytest.mark.parametrize(
    ("soft", "hard", "commands"),
    [
        (1024, 1_048_576, ["ulimit -n 65536"]),
        (1024, None, ["ulimit -n 65536"]),
        (1024, 2048, ["ulimit -n 2048", "docker run --ulimit nofile=65536:65536 …"]),
        (1024, 1024, ["docker run --ulimit nofile=65536:65536 …"]),
    ],
)
def test_a_limit_is_raised_as_far_as_the_hard_one_lets_it(soft, hard, commands):
    facts = with_host(sound_machine(), limits={"nofile": soft}, hard_limits={"nofile": hard})
    mends = judged(facts)["nofile"].mends
    assert [mend.command for mend in mends] == commands
    assert ("LimitNOFILE=65536" in mends[-1].text) is (len(commands) == 2 or soft == hard)


def test_processes_are_limited_by_the_hard_limit_too():
    mends = judged(with_host(sound_machine(), limits={"nproc": 512}, hard_limits={"nproc": 512}))["nproc"].mends
    assert [mend.command for mend in mends] == ["docker run --ulimit nproc=65536:65536 …"]
    assert "`* hard nproc 65536` in /etc/security/limits.conf" in mends[0].text
