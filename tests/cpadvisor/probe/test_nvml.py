import os

import pytest

from cpadvisor.errors import MissingError
from cpadvisor.fabric import best_ring, fabric_warnings, islands
from cpadvisor.probe.nvml import read_node
from cpadvisor.probe.nvml_session import NoGpuError
from cpadvisor.probe.topo import parse_topology

GIB = 1024**3
MUTE = "nvidia-smi is not installed here: NICs are not known"


@pytest.fixture
def read(fake_witness):
    def call(library, *, environment=None, shown=MUTE):
        witness = fake_witness(shown)
        try:
            return read_node(library=library, environment=environment or {}, witness=witness)
        finally:
            assert (library.open, witness.closed) == (False, library.opened)

    return call


def h100(**more):
    return {"name": "NVIDIA H100 80GB HBM3", "switch": 18, **more}


def rtx4090(**more):
    return {"name": "NVIDIA GeForce RTX 4090", "total": 24564 * 1024**2, **more}


def test_gpus_behind_nvswitch_are_joined_by_all_their_links(fake_nvml, read):
    node = read(fake_nvml([h100(used=3 * GIB, mig=False) for _ in range(8)]))
    assert islands(node) == (tuple(range(8)),)
    assert {code for row in node.links for code in row} == {None, "NV18"}
    first, last = node.gpus[0], node.gpus[7]
    assert (first.name, first.memory_bytes, first.used_bytes) == ("NVIDIA H100 80GB HBM3", 80 * GIB, 3 * GIB)
    assert (first.numa, first.cpus, first.uuid) == (0, "0-15,64-79", "GPU-0a7e2c14-0000")
    assert (last.numa, last.cpus) == (1, "16-31,80-95")
    assert node.source == "nvml" and node.host is not None and node.host.memory_bytes > 0


def test_a_switch_that_a_virtual_machine_hides_is_known_by_the_type_of_the_far_end(fake_nvml, read):
    node = read(fake_nvml([h100(no_field=True), h100(no_field=True)]))
    assert node.links[0][1] == "NV18"


def test_a_gpu_with_links_down_joins_with_those_that_are_up(fake_nvml, read):
    node = read(fake_nvml([h100(), h100(), h100(switch=16)]))
    assert node.links == ((None, "NV18", "NV16"), ("NV18", None, "NV16"), ("NV16", "NV16", None))


def test_the_links_of_a_hybrid_cube_mesh_are_counted_pair_by_pair(fake_nvml, read):
    nv2 = [(0, 3), (0, 4), (1, 2), (1, 5), (2, 3), (4, 7), (5, 6), (6, 7)]
    nv1 = [(0, 1), (0, 2), (1, 3), (2, 6), (3, 7), (4, 5), (4, 6), (5, 7)]
    peers = [{} for _ in range(8)]
    for count, pairs in ((2, nv2), (1, nv1)):
        for a, b in pairs:
            peers[a][b] = peers[b][a] = count
    gpus = [{"name": "Tesla V100-SXM2-32GB", "peers": peer} for peer in peers]
    node = read(fake_nvml(gpus, links=6))
    ring = best_ring(node)
    assert ring is not None and (ring.order, ring.worst) == ((0, 3, 2, 1, 5, 6, 7, 4), "NV2")
    assert sum(code == "SYS" for row in node.links for code in row) == 2 * 12


def test_pcie_paths_come_from_the_common_ancestor(fake_nvml, read):
    levels = {(0, 1): 10, (0, 2): 20, (0, 3): 30, (1, 2): 40, (1, 3): 50, (2, 3): 0}
    node = read(fake_nvml([{"name": "NVIDIA L40S"} for _ in range(4)], ancestor=lambda a, b: levels[a, b]))
    assert node.links[0] == (None, "PIX", "PXB", "PHB")
    assert node.links[1] == ("PIX", None, "NODE", "SYS")
    assert node.links[2][3] == "PIX"


def test_a_fallen_gpu_shows_its_pcie_path_and_is_named(fake_nvml, read):
    gpus = [h100() for _ in range(8)]
    gpus[2] = h100(switch=0)
    node = read(fake_nvml(gpus, ancestor=lambda a, b: 40))
    assert node.links[2] == ("NODE", "NODE", None, "NODE", "NODE", "NODE", "NODE", "NODE")
    assert any(warning.startswith("GPU2 fell off NVLink") for warning in fabric_warnings(node))


def test_links_that_are_up_without_peer_access_are_no_nvlink(fake_nvml, read):
    refused = lambda a, b, kind: 5 if kind == 2 and (a, b) == (0, 1) else 0  # noqa: E731
    node = read(fake_nvml([h100(), h100()], p2p=refused))
    assert node.links[0][1] == "SYS"
    assert "NVLink peer access on GPU0–GPU1" in node.warnings[0] and "fabric manager" in node.warnings[0]


def test_cards_without_peer_access_are_told_with_the_code_of_nvidia_smi(fake_nvml, read):
    node = read(fake_nvml([rtx4090(), rtx4090(), rtx4090()], p2p=lambda a, b, kind: 2))
    assert node.warnings[0] == ("no peer-to-peer access on any pair (GNS): NCCL copies through the host's memory there")


def test_calls_that_the_driver_refuses_leave_unknowns_behind(fake_nvml, read):
    class Bare(fake_nvml):
        nvmlDeviceGetUUID = nvmlDeviceGetCpuAffinity = nvmlDeviceGetMemoryAffinity = None  # noqa: N815

        def __getattribute__(self, name):
            value = super().__getattribute__(name)
            if value is None and name.startswith("nvmlDevice"):
                raise AttributeError(name)
            return value

    node = read(Bare([rtx4090(old_driver=True)] * 2, ancestor=lambda a, b: None, p2p=lambda a, b, kind: None))
    assert node.links == ((None, None), (None, None))
    assert node.gpus[0].memory_bytes == 24564 * 1024**2
    assert (node.gpus[0].uuid, node.gpus[0].cpus, node.gpus[0].numa) == (None, None, None)


def test_holders_are_listed_with_their_user_and_command(fake_nvml, read):
    mine = os.getpid()
    node = read(fake_nvml([h100(used=5 * GIB, holds=[(mine, 4 * GIB), (2**22 + 1, 2**64 - 1)]), h100()]))
    known, unknown = node.holders
    assert (known.gpu, known.pid, known.used_bytes) == (0, mine, 4 * GIB)
    assert known.command and "python" in known.command and known.user
    assert (unknown.pid, unknown.user, unknown.command, unknown.used_bytes) == (2**22 + 1, None, None, None)


def test_memory_whose_holder_is_outside_the_container_is_a_warning(fake_nvml, read):
    node = read(fake_nvml([h100(used=40 * GIB), h100()]))
    assert "GPU0: 40.0 GiB in use by processes not visible from here" in node.warnings


def test_a_gpu_in_mig_mode_is_left_out_by_name_and_alone_is_refused(fake_nvml, read):
    node = read(fake_nvml([h100(mig=False), h100(mig=True), h100(mig=False)]))
    assert node.indices == (0, 2)
    assert node.warnings[0].startswith("GPU1 in MIG mode") and "nvidia-smi -i 1 -mig 0" in node.warnings[0]
    with pytest.raises(MissingError, match="GPU0, GPU1 in MIG mode"):
        read(fake_nvml([h100(mig=True), h100(mig=True)]))


def test_a_lost_gpu_is_left_out_by_name(fake_nvml, read):
    node = read(fake_nvml([h100(), h100(lost=True), h100()]))
    assert node.indices == (0, 2)
    assert node.warnings[0].startswith("GPU1 does not answer (GPU is lost)")


def test_without_a_driver_there_is_no_gpu_and_a_broken_one_is_another_error(fake_nvml, read):
    with pytest.raises(NoGpuError, match="no NVIDIA driver"):
        read(fake_nvml([], init_error=fake_nvml.NVMLError_LibraryNotFound("NVML Shared Library Not Found")))
    with pytest.raises(NoGpuError, match="lists no GPU"):
        read(fake_nvml([]))
    with pytest.raises(MissingError, match="Driver/library version mismatch") as caught:
        read(fake_nvml([], init_error=fake_nvml.NVMLError("Driver/library version mismatch")))
    assert not isinstance(caught.value, NoGpuError) and caught.value.exit_code == 3


def test_cuda_visible_devices_narrows_the_node_by_index_and_by_uuid(fake_nvml, read):
    gpus = [h100() for _ in range(4)]
    node = read(fake_nvml(gpus), environment={"CUDA_VISIBLE_DEVICES": "3,1"})
    assert node.indices == (1, 3)
    assert "CUDA_VISIBLE_DEVICES=3,1 hides GPU0, GPU2" in node.warnings
    assert read(fake_nvml(gpus), environment={"CUDA_VISIBLE_DEVICES": "GPU-2a7"}).indices == (2,)


def test_unlike_gpus_chosen_by_number_need_the_order_of_the_bus(fake_nvml, read):
    gpus = [rtx4090(), {"name": "NVIDIA GeForce RTX 3090"}]
    doubtful = read(fake_nvml(gpus), environment={"CUDA_VISIBLE_DEVICES": "0,1"})
    assert any("CUDA_DEVICE_ORDER=PCI_BUS_ID" in warning for warning in doubtful.warnings)
    ordered = {"CUDA_VISIBLE_DEVICES": "0,1", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    certain = read(fake_nvml(gpus), environment=ordered)
    assert not any("fastest first" in warning for warning in certain.warnings)


def test_nvidia_smi_adds_the_nics_and_agrees(fake_nvml, read):
    shown = parse_topology("\tGPU0\tGPU1\tmlx5_0\nGPU0\t X \tNV18\tPIX\nGPU1\tNV18\t X \tSYS\n")
    node = read(fake_nvml([h100(), h100()]), shown=shown)
    assert [(nic.name, nic.links) for nic in node.nics] == [("mlx5_0", ("PIX", "SYS"))]
    assert node.warnings == ()


def test_where_nvidia_smi_disagrees_both_answers_are_told(fake_nvml, read):
    shown = parse_topology("\tGPU0\tGPU1\nGPU0\t X \tSYS\nGPU1\tSYS\t X \n")
    node = read(fake_nvml([h100(), h100()]), shown=shown)
    assert node.links[0][1] == "NV18"
    assert node.warnings == ("GPU0–GPU1: NVML says NV18, nvidia-smi topo -m says SYS; planned with NV18",)
