import psutil

from cpadvisor.node import Host
from cpadvisor.probe.host import cpu_node, nvidia_devices, read_host


def test_the_host_has_its_cpus_and_at_most_its_memory():
    host = read_host()
    assert host.cpus == psutil.cpu_count()
    assert 0 < host.memory_bytes <= psutil.virtual_memory().total


def test_the_memory_limit_of_a_container_counts(tmp_path):
    (tmp_path / "memory.max").write_text("4294967296\n")
    assert read_host(cgroup=tmp_path).memory_bytes == 4 * 1024**3
    (tmp_path / "memory.max").write_text("max\n")
    assert read_host(cgroup=tmp_path).memory_bytes == psutil.virtual_memory().total
    version1 = tmp_path / "memory"
    version1.mkdir()
    (version1 / "memory.limit_in_bytes").write_text("1073741824\n")
    assert read_host(cgroup=tmp_path).memory_bytes == 1024**3


def test_the_cpu_node_is_two_processes_with_half_the_memory_each():
    node = cpu_node(Host(cpus=8, memory_bytes=32 * 1024**3))
    assert [(gpu.name, gpu.memory_bytes) for gpu in node.gpus] == [("cpu", 16 * 1024**3)] * 2
    assert node.links == ((None, "SYS"), ("SYS", None))


def test_gpus_on_the_bus_are_counted_by_vendor_and_class(tmp_path):
    for name, vendor, kind in (
        ("0000:0f:00.0", "0x10de", "0x030200"),
        ("0000:10:00.0", "0x10de", "0x030000"),
        ("0000:0f:00.1", "0x10de", "0x040300"),  # the sound of a graphics card
        ("0000:00:02.0", "0x8086", "0x030000"),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "vendor").write_text(vendor + "\n")
        (tmp_path / name / "class").write_text(kind + "\n")
    assert nvidia_devices(pci=tmp_path) == 2
    assert nvidia_devices(pci=tmp_path / "none") == 0
