import pytest

from cpadvisor.errors import MissingError, UsageError
from cpadvisor.probe import host, nvml
from cpadvisor.probe.machine import find_node
from cpadvisor.probe.nvml_session import NoGpuError

PASTED = "\tGPU0\tGPU1\nGPU0\t X \tSYS\nGPU1\tSYS\t X \n"


def absent(message="no NVIDIA driver", error=NoGpuError):
    def read_node():
        raise error(message)

    return read_node


def test_a_named_machine_comes_with_the_warnings_of_its_fabric():
    node, note = find_node(node="dgx-1v", topo_text=None, gpu=None)
    assert (node.name, note) == ("dgx-1v", None)
    assert any("hybrid cube mesh" in warning for warning in node.warnings)


def test_a_pasted_topology_has_nameless_gpus_until_a_product_is_given():
    node, _ = find_node(node=None, topo_text=PASTED, gpu=None)
    assert [gpu.name for gpu in node.gpus] == [None, None]
    named, _ = find_node(node=None, topo_text=PASTED, gpu="l40s")
    # 46,068 MiB is what nvidia-smi prints for an L40S.
    assert [(gpu.name, gpu.memory_bytes) for gpu in named.gpus] == [("NVIDIA L40S", 46068 * 1024**2)] * 2


def test_a_pasted_topology_of_an_sxm_product_without_nvlink_is_doubted():
    node, _ = find_node(node=None, topo_text=PASTED, gpu="h100-80g")
    assert any("made with NVLink but no pair shows it" in warning for warning in node.warnings)


def test_a_product_replaces_another_one_and_leaves_its_own_alone():
    swapped, _ = find_node(node="dgx-h100", topo_text=None, gpu="h200")
    assert {(gpu.name, gpu.memory_bytes) for gpu in swapped.gpus} == {("NVIDIA H200", 143771 * 1024**2)}
    kept, _ = find_node(node="dgx-h100", topo_text=None, gpu="h100-80g")
    assert kept.gpus == find_node(node="dgx-h100", topo_text=None, gpu=None)[0].gpus


def test_two_sources_at_once_and_an_unknown_product_are_refused():
    with pytest.raises(UsageError, match="give one of them"):
        find_node(node="dgx-h100", topo_text=PASTED, gpu=None)
    with pytest.raises(UsageError, match="h100-80g"):
        find_node(node=None, topo_text=PASTED, gpu="h100-81g")


def test_without_a_driver_the_node_is_cpu_and_says_so(monkeypatch):
    monkeypatch.setattr(nvml, "read_node", absent())
    node, note = find_node(node=None, topo_text=None, gpu=None)
    assert node.name == "cpu"
    assert note == "no GPU here (no NVIDIA driver): planning for cpu"


def test_a_broken_driver_stops_where_gpus_are_on_the_bus(monkeypatch):
    monkeypatch.setattr(nvml, "read_node", absent("the NVIDIA driver does not answer (Unknown Error)", MissingError))
    monkeypatch.setattr(host, "nvidia_devices", lambda: 8)
    with pytest.raises(MissingError, match=r"8 NVIDIA GPUs are on the PCI bus, but .* \(Unknown Error\).*--node cpu"):
        find_node(node=None, topo_text=None, gpu=None)


def test_a_driver_without_a_gpu_counts_as_no_gpu(monkeypatch):
    monkeypatch.setattr(nvml, "read_node", absent("the NVIDIA driver does not answer (Not Loaded)", MissingError))
    monkeypatch.setattr(host, "nvidia_devices", lambda: 0)
    node, note = find_node(node=None, topo_text=None, gpu=None)
    assert node.name == "cpu" and "Not Loaded" in str(note)


def test_this_machine_is_what_nvml_reads(monkeypatch, fake_nvml, fake_witness):
    gpus = [{"name": "NVIDIA H200", "switch": 18, "total": 143771 * 1024**2}] * 2
    node = nvml.read_node(library=fake_nvml(gpus), environment={}, witness=fake_witness("no nvidia-smi"))
    monkeypatch.setattr(nvml, "read_node", lambda: node)
    found, note = find_node(node=None, topo_text=None, gpu=None)
    assert (found, note) == (node, None)
