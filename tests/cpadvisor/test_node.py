import pytest

from cpadvisor.node import Gpu, Nic, Node, is_nvlink, link_rank


def pair_of_pairs():
    """Four GPUs with indices 0, 1, 4, 5: two NVLink pairs."""
    rows = (
        (None, "NV4", "SYS", "SYS"),
        ("NV4", None, "SYS", "SYS"),
        ("SYS", "SYS", None, "NV4"),
        ("SYS", "SYS", "NV4", None),
    )
    gpus = tuple(Gpu(index=index) for index in (0, 1, 4, 5))
    return Node(
        name="n", source="topo", gpus=gpus, links=rows, nics=(Nic(name="NIC0", links=("PIX", "PXB", "SYS", "SYS")),)
    )


def test_links_rank_from_sys_to_the_widest_bond():
    codes = [None, "SYS", "NODE", "PHB", "PXB", "PIX", "NV1", "NV4", "NV18"]
    assert sorted(codes, key=link_rank) == codes


def test_soc_of_old_drivers_is_sys():
    assert link_rank("SOC") == link_rank("SYS")


@pytest.mark.parametrize(("code", "expected"), [("NV12", True), ("NODE", False), ("SYS", False), (None, False)])
def test_only_nv_codes_are_nvlink(code, expected):
    assert is_nvlink(code) is expected


def test_a_link_is_asked_by_gpu_index_and_not_by_row():
    assert pair_of_pairs().link(4, 5) == "NV4"
    assert pair_of_pairs().link(1, 4) == "SYS"


def test_a_subset_keeps_the_links_and_nics_of_its_gpus_in_the_order_asked_for():
    part = pair_of_pairs().subset((5, 0))
    assert part.indices == (5, 0)
    assert part.links == ((None, "SYS"), ("SYS", None))
    assert part.nics[0].links == ("SYS", "PIX")
