from pathlib import Path

import pytest

from cpadvisor.errors import TopologyError
from cpadvisor.fabric import best_ring, islands
from cpadvisor.node import Gpu
from cpadvisor.probe.topo import parse_topology

DATA = Path(__file__).parents[2] / "data" / "topo"

LEGEND = """
Legend:

  X    = Self
  SYS  = Connection traversing PCIe as well as the SMP interconnect between NUMA nodes (e.g., QPI/UPI)
  NODE = Connection traversing PCIe as well as the interconnect between PCIe Host Bridges within a NUMA node
  PHB  = Connection traversing PCIe as well as a PCIe Host Bridge (typically the CPU)
  PXB  = Connection traversing multiple PCIe bridges (without traversing the PCIe Host Bridge)
  PIX  = Connection traversing at most a single PCIe bridge
"""


def test_the_recorded_output_of_two_h200_with_its_escape_codes_is_read_whole():
    text = (DATA / "h200x2.txt").read_text(encoding="utf-8")
    assert "\x1b[4m" in text
    node = parse_topology(text, name="h200x2")
    assert node.links == ((None, "NV18"), ("NV18", None))
    assert node.gpus == (Gpu(index=0, numa=0, cpus="0-31"), Gpu(index=1, numa=0, cpus="0-31"))
    assert (node.name, node.source, node.nics, node.warnings) == ("h200x2", "topo", (), ())


def test_two_tabs_and_an_unknown_numa_node_do_not_shift_the_columns():
    node = parse_topology(
        "\tGPU0\tGPU1\tCPU Affinity\tNUMA Affinity\tGPU NUMA ID\n"
        "GPU0\t X \tSYS\t0-7,16-23\t\tN/A\t\tN/A\nGPU1\tSYS\t X \t8-15,24-31\t1\t\tN/A\n"
    )
    assert [(gpu.numa, gpu.cpus) for gpu in node.gpus] == [(None, "0-7,16-23"), (1, "8-15,24-31")]


def test_columns_that_a_terminal_fused_are_told_apart():
    node = parse_topology(
        "        GPU0    GPU1    NIC0    NIC1NIC2CPU Affinity     NUMA AffinityGPU NUMA ID\n"
        "GPU0     X      NV18    PIX     SYSSYS  0-27,112-139     0               N/A\n"
        "GPU1    NV18     X SYS  NODENODE        28-55,140-167    1               N/A\n"
    )
    assert node.links[0] == (None, "NV18")
    assert [nic.links for nic in node.nics] == [("PIX", "SYS"), ("SYS", "NODE"), ("SYS", "NODE")]
    assert node.gpus[1] == Gpu(index=1, numa=1, cpus="28-55,140-167")


def test_grace_lists_of_memory_nodes_give_the_node_of_the_cpu():
    node = parse_topology(
        "        GPU0    GPU1    CPU Affinity    NUMA Affinity   GPU NUMA ID\n"
        "GPU0     X      NV18    0-71    0,3-9,11-17             2\n"
        "GPU1    NV18     X      72-143  1,19-25,27-33           18\n"
    )
    assert [gpu.numa for gpu in node.gpus] == [0, 1]


def test_nics_in_any_order_come_out_by_number_under_their_real_names():
    named = parse_topology(
        "\tGPU0\tGPU1\tmlx5_10\tmlx5_2\tCPU Affinity\nGPU0\t X \tNV1\tSYS\tPIX\t0-19\nGPU1\tNV1\t X \tPHB\tNODE\t0-19\n"
    )
    assert [(nic.name, nic.links) for nic in named.nics] == [("mlx5_2", ("PIX", "NODE")), ("mlx5_10", ("SYS", "PHB"))]
    legend = parse_topology(
        "\tGPU0\tNIC0\nGPU0\t X \tPIX\nNIC0\tPIX\t X \t\t\t\t\n\nNIC Legend:\n\n  NIC0: mlx5_bond_0\n"
    )
    assert [nic.name for nic in legend.nics] == ["mlx5_bond_0"]


def test_without_a_header_the_x_of_each_row_names_its_column():
    node = parse_topology("GPU0 X NV4 SYS 0-15 0\nGPU1 NV4 X SYS 0-15 0\nmlx5_0 SYS SYS X\n")
    assert islands(node) == ((0, 1),)
    assert [nic.name for nic in node.nics] == ["mlx5_0"]
    assert node.gpus[1] == Gpu(index=1, numa=0, cpus="0-15")


def test_a_header_that_says_only_numa_fills_only_numa():
    node = parse_topology("     GPU0 GPU1 NUMA\nGPU0  X  NODE  0\nGPU1 NODE  X   1\n")
    assert [(gpu.numa, gpu.cpus) for gpu in node.gpus] == [(0, None), (1, None)]


def test_prompts_and_prose_around_the_matrix_are_left_aside():
    node = parse_topology(
        "Hi, here is our box (GPU0 X is the odd one):\r\nuser@dgx:~$ nvidia-smi topo -m\r\n"
        "\tGPU0\tGPU1\r\nGPU0\t X \tSOC\r\nGPU1\tSOC\t X \r\nuser@dgx:~$ exit\r\nGPU 0 seems slow\r\n"
    )
    assert node.links == ((None, "SOC"), ("SOC", None))
    assert node.warnings == ()


def test_rows_that_a_narrow_terminal_wrapped_are_joined():
    node = parse_topology(
        "        GPU0    GPU1    GPU2\n  NIC0    CPU Affinity\n"
        "GPU0     X      NV12    NV12\n    SYS     0-23\nGPU1    NV12     X\n NV12 PIX 0-23\n"
        "GPU2 NV12 NV12 X SYS 24-47\n"
    )
    assert islands(node) == ((0, 1, 2),)
    assert node.nics[0].links == ("SYS", "PIX", "SYS")
    assert [gpu.cpus for gpu in node.gpus] == ["0-23", "0-23", "24-47"]
    assert node.warnings == ()


def test_a_last_row_cut_in_the_middle_is_completed_by_symmetry_and_its_half_cell_ignored():
    node = parse_topology("\tGPU0\tGPU1\tGPU2\nGPU0\tX\tNV18\tNV18\nGPU1\tNV18\tX\tNV18\nGPU2\tNV18\tNV1")
    assert node.links[2] == ("NV18", "NV18", None)
    (warning,) = node.warnings
    assert "line 4: row GPU2 is cut after 2 of 3 cells" in warning


def test_of_a_text_that_ends_early_the_whole_rows_are_kept_and_the_lost_gpus_named():
    node = parse_topology(
        "\tGPU0\tGPU1\tGPU2\tGPU3\nGPU0\tX\tNV12\tSYS\tSYS\nGPU1\tNV12\tX\tSYS\tSYS\nGPU2\tSYS\tSY", name="ticket"
    )
    assert node.indices == (0, 1)
    (warning,) = node.warnings
    assert "ticket, line 4: row GPU2 is cut" in warning and "GPU3 did not follow" in warning
    assert "only GPU0, GPU1 are kept" in warning and "run `nvidia-smi topo -m`" in warning


def test_with_less_than_two_whole_rows_a_cut_text_is_refused():
    with pytest.raises(TopologyError, match=r"line 2: row GPU0 is cut after 2 of 3 cells.*nvidia-smi topo -m"):
        parse_topology("\tGPU0\tGPU1\tGPU2\nGPU0\tX\tNV1")


def test_cells_that_contradict_each_other_are_named_with_both_lines():
    node = parse_topology("\tGPU0\tGPU1\nGPU0\tX\tNV12\nGPU1\tSYS\tX\n")
    assert node.links == ((None, "SYS"), ("SYS", None))
    assert node.warnings == (
        "pasted: GPU0 to GPU1 is NV12 (line 2) but GPU1 to GPU0 is SYS (line 3); SYS is assumed both ways",
    )


def test_a_lost_cell_is_found_by_the_x_that_moved():
    with pytest.raises(TopologyError, match=r"line 3: row GPU1 has its X in column 1 \(GPU0\), its own is column 2"):
        parse_topology("\tGPU0\tGPU1\tNIC0\nGPU0\tX\tNV4\tSYS\nGPU1\tX\tSYS\n")


def test_a_word_in_place_of_a_link_is_named_with_its_pair():
    with pytest.raises(TopologyError, match=r"line 2: 'C2C' stands where row GPU0 has its link to GPU1"):
        parse_topology("\tGPU0\tGPU1\nGPU0\tX\tC2C\nGPU1\tC2C\tX\n")


def test_of_two_matrices_the_one_that_shows_nvlink_is_read():
    node = parse_topology("\tGPU0\tGPU1\nGPU0\tX\tSYS\nGPU1\tSYS\tX\n\n\tGPU0\tGPU1\nGPU0\tX\tNV4\nGPU1\tNV4\tX\n")
    assert node.links[0][1] == "NV4"
    assert node.warnings == ("pasted, line 1: another matrix; the one of line 5 is read",)


def test_a_dgx_1v_with_nics_of_real_names_keeps_its_ring():
    nv2 = {(0, 3), (0, 4), (1, 2), (1, 5), (2, 3), (4, 7), (5, 6), (6, 7)}
    nv1 = {(0, 1), (0, 2), (1, 3), (2, 6), (3, 7), (4, 5), (4, 6), (5, 7)}

    def cell(a, b):
        pair = (min(a, b), max(a, b))
        return " X " if a == b else "NV2" if pair in nv2 else "NV1" if pair in nv1 else "SYS"

    lines = ["\t" + "\t".join(f"GPU{k}" for k in range(8)) + "\tmlx5_2\tmlx5_0\tCPU Affinity"]
    lines += [f"GPU{a}\t" + "\t".join(cell(a, b) for b in range(8)) + "\tSYS\tPIX\t0-19,40-59" for a in range(8)]
    ring = best_ring(parse_topology("\n".join(lines)))
    assert ring is not None and ring.order == (0, 3, 2, 1, 5, 6, 7, 4)


@pytest.mark.parametrize("above", ["$ nvidia-smi topo -mp\n", "$ nvidia-smi topo --matrix_pci\n"])
def test_the_pcie_only_form_is_refused_by_the_command_above_it(above):
    with pytest.raises(TopologyError, match=r"line 2: this is the PCIe-only matrix.*`nvidia-smi topo -m`"):
        parse_topology(above + "\tGPU0\tGPU1\nGPU0\tX\tSYS\nGPU1\tSYS\tX\n")


def test_the_pcie_only_form_is_refused_by_a_legend_without_nvlink():
    matrix = "\tGPU0\tGPU1\nGPU0\tX\tSYS\nGPU1\tSYS\tX\n"
    with pytest.raises(TopologyError, match=r"line 12: .*its legend ends without NV#"):
        parse_topology(matrix + LEGEND)
    whole = matrix + LEGEND + "  NV#  = Connection traversing a bonded set of # NVLinks\n"
    assert parse_topology(whole).links[0][1] == "SYS"


def test_a_shortened_legend_proves_nothing():
    node = parse_topology("\tGPU0\tGPU1\nGPU0\tX\tPIX\nGPU1\tPIX\tX\n\nLegend:\n  X    = Self\n  PIX  = one bridge\n")
    assert node.links[0][1] == "PIX"


def test_one_gpu_is_a_matrix_of_one_cell():
    node = parse_topology("\tGPU0\tCPU Affinity\nGPU0\t X \t0-15\n")
    assert node.links == ((None,),)
    assert node.gpus == (Gpu(index=0, cpus="0-15"),)
