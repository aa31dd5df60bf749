"""What the children see: the driver through NVML, and this operating system."""

import json
from dataclasses import asdict

import pytest
from fake_nvml import GIB, FakeNvml, FakeWitness, NVMLError, NVMLError_LibraryNotFound

from cpadvisor.doctor import look
from cpadvisor.probe import host
from cpadvisor.probe.recorded import node_json

SXM = {"name": "NVIDIA H100 80GB HBM3", "switch": 18}


class TalkingNvml(FakeNvml):
    """With the words of a driver beside its GPUs."""

    def nvmlSystemGetDriverVersion(self):  # noqa: N802
        return b"580.95.05"

    def nvmlSystemGetNVMLVersion(self):  # noqa: N802
        return "13.580.95"

    def nvmlSystemGetCudaDriverVersion(self):  # noqa: N802
        return 13010

    def nvmlDeviceGetPersistenceMode(self, handle):  # noqa: N802
        return self.gpus[handle].get("persistence", 1)

    def nvmlDeviceGetTotalEccErrors(self, handle, kind, counter):  # noqa: N802
        assert (kind, counter) == (1, 0), "uncorrected, since the driver was loaded"
        return self.gpus[handle].get("errors", 0)

    def nvmlDeviceGetFieldValues(self, handle, fields):  # noqa: N802
        if fields == [145]:
            raise NVMLError("Not Supported")
        return super().nvmlDeviceGetFieldValues(handle, fields)


def seen(gpus, **more):
    library = TalkingNvml(gpus, **more)
    return look.driver_facts(library, environment={}, witness=FakeWitness("no nvidia-smi here"))


def test_the_driver_is_told_with_its_versions_and_gpus():
    facts = seen([SXM, {**SXM, "persistence": 0, "errors": 3}])
    assert (facts.driver, facts.nvml, facts.cuda) == ("580.95.05", "13.580.95", "13.1")
    assert facts.node is not None and facts.node.link(0, 1) == "NV18"
    assert [gpu.persistence for gpu in facts.gpus] == [True, False]
    assert [gpu.uncorrected_errors for gpu in facts.gpus] == [0, 3]
    assert [gpu.remap_failed for gpu in facts.gpus] == [None, None], "this product does not say"


def test_a_lost_gpu_is_told_beside_those_that_answer():
    facts = seen([SXM, {**SXM, "lost": True}, SXM])
    assert facts.node is not None and facts.node.indices == (0, 2)
    assert facts.lost == ("GPU1 does not answer (GPU is lost) and is left out; `dmesg` may name the Xid",)


def test_each_pair_of_gpus_has_what_the_driver_says_of_its_peer_access():
    pcie = {"name": "NVIDIA GeForce RTX 4090"}
    facts = seen([pcie, pcie, pcie], p2p=lambda a, b, kind: 1 if (a, b) == (0, 2) else 0)
    assert facts.peer_access == {"0-1": "OK", "0-2": "CNS", "1-2": "OK"}


def test_a_pair_of_which_the_driver_says_nothing_is_left_out():
    def silent(first, second, kind):
        raise NVMLError("Not Supported")

    assert seen([{"name": "NVIDIA GeForce RTX 4090"}] * 2, p2p=silent).peer_access == {}


def test_a_gpu_in_slices_is_marked_and_no_other():
    facts = seen([{**SXM, "mig": True}, {**SXM, "mig": False}])
    assert [gpu.mig for gpu in facts.gpus] == [True, False]


def test_no_driver_is_no_fault():
    facts = look.driver_facts(TalkingNvml([], init_error=NVMLError_LibraryNotFound()))
    assert (facts.node, facts.absent, facts.broken) == (None, "no NVIDIA driver", None)


def test_a_driver_that_does_not_answer_beside_gpus_on_the_bus_is_one(monkeypatch):
    monkeypatch.setattr(host, "nvidia_devices", lambda: 2)
    facts = look.driver_facts(TalkingNvml([SXM], init_error=NVMLError("Driver/library version mismatch")))
    assert facts.absent is None
    assert "Driver/library version mismatch" in (facts.broken or "")


def test_what_the_driver_says_survives_the_way_through_a_child():
    facts = seen([SXM, {**SXM, "errors": 1, "holds": [(4211, 61 * GIB)]}], p2p=lambda a, b, kind: 0)
    sent = {**asdict(facts), "node": node_json(facts.node)}
    back = look.driver_from_json(json.loads(json.dumps(sent)))
    assert (back.gpus, back.driver, back.lost) == (facts.gpus, facts.driver, facts.lost)
    assert back.node is not None and back.node.holders[0].pid == 4211


def test_this_operating_system_is_read(tmp_path):
    facts = look.host_facts(tmp_path / "not" / "there" / "yet")
    assert facts.cpus >= 1 and (facts.memory_bytes or 0) > (facts.available_bytes or 0) > 0
    assert facts.runs_free_bytes is not None, "the folder that is there decides"
    assert set(facts.limits) == {"nofile", "memlock", "nproc", "core"}
    assert facts.loopback_error is None


def test_nccl_files_are_read_the_user_s_last(tmp_path):
    system, own = tmp_path / "nccl.conf", tmp_path / "own"
    system.write_text("# of the machine\nNCCL_DEBUG=WARN\nNCCL_P2P_DISABLE = 1\nother=2\n")
    own.write_text("NCCL_DEBUG=TRACE\n")
    found = look._nccl_settings([system, own, tmp_path / "missing"])
    assert found == {"NCCL_DEBUG": "TRACE", "NCCL_P2P_DISABLE": "1"}


@pytest.mark.parametrize(
    ("limits", "told"),
    [
        ({"": ("max", "5")}, (None, None)),
        ({"": ("64", "5")}, (64, 5)),
        ({"": ("max", "9"), "slurm": ("32", "7"), "slurm/job_7": ("max", "3")}, (32, 7)),
        ({"": ("64", "9"), "slurm": ("48", "7"), "slurm/job_7": ("16", "3")}, (16, 3)),
        ({"": ("100", "9")}, (None, None)),
    ],
    ids=["no limit", "a container's", "a parent's", "the job's own", "no less than the host has"],
)
def test_the_tightest_control_group_limits_memory(limits, told, tmp_path, monkeypatch):
    for name, (limit, use) in limits.items():
        (tmp_path / name).mkdir(parents=True, exist_ok=True)
        (tmp_path / name / "memory.max").write_text(limit + "\n")
        (tmp_path / name / "memory.current").write_text(use + "\n")
    monkeypatch.setattr(look, "CGROUP", tmp_path)
    assert look.group_memory(100, own="0::/slurm/job_7\n") == told


def test_pages_of_files_that_are_given_back_on_demand_are_no_use_of_memory(tmp_path, monkeypatch):
    (tmp_path / "memory.max").write_text("64\n")
    (tmp_path / "memory.current").write_text("60\n")
    (tmp_path / "memory.stat").write_text("anon 10\ninactive_anon 7\nactive_file 3\ninactive_file 45\n")
    monkeypatch.setattr(look, "CGROUP", tmp_path)
    assert look.group_memory(100, own="0::/\n") == (64, 15)


def test_version_1_of_control_groups_is_read_too(tmp_path, monkeypatch):
    (tmp_path / "memory").mkdir()
    (tmp_path / "memory" / "memory.stat").write_text("inactive_file 1\ntotal_inactive_file 2\n")
    (tmp_path / "memory" / "memory.limit_in_bytes").write_text("64\n")
    (tmp_path / "memory" / "memory.usage_in_bytes").write_text("5\n")
    monkeypatch.setattr(look, "CGROUP", tmp_path)
    assert look.group_memory(100, own="4:memory:/docker/abc\n") == (64, 3)
