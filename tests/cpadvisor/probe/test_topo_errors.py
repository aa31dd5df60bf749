import pytest

from cpadvisor.errors import TopologyError
from cpadvisor.probe.topo import parse_topology

P2P = " \tGPU0\tGPU1\t\n GPU0\tX\tGNS\t\n GPU1\tGNS\tX\t\n\nLegend:\n\n  X    = Self\n  OK   = Status Ok\n"


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("", "the text is empty"),
        (" \n\t\n", "the text is empty"),
        (P2P, "line 2: this is the matrix of `nvidia-smi topo -p2p`"),
        ("$ nvidia-smi topo -m\nFailed to run topology matrix", "line 2: nvidia-smi could not make the matrix"),
        ("bash: nvidia-smi: command not found", "line 1: nvidia-smi is not installed"),
        ("\nNo devices were found", "line 2: nvidia-smi saw no GPU"),
        ("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.", "did not reach the driver"),
        ("| NVIDIA-SMI 580.95   Driver Version: 580.95   CUDA Version: 13.0 |", "summary of plain `nvidia-smi`"),
        ("GPU 0: NVIDIA H200 (UUID: GPU-1)\nGPU 1: NVIDIA H200 (UUID: GPU-2)", "list of `nvidia-smi -L`"),
        ("GPU 0: NVIDIA H200 (UUID: GPU-1)\n\t Link 0: 26.562 GB/s", "line 2: this is `nvidia-smi nvlink --status`"),
        ("======== ROCm System Management Interface ========", "AMD tool"),
        ('{"schema": 1, "gpus": []}', "goes to --node"),
        ("\tGPU0\tGPU1\tCPU Affinity\n", "line 1: the header names GPU0, GPU1 but no row follows"),
        ("GPU0 X is bad and GPU1 is fine", "no topology matrix"),
        ("total 12\ndrwxr-xr-x 2 root", "line 1: no topology matrix.*'total 12'"),
    ],
)
def test_what_is_not_a_matrix_is_called_by_its_name(text, meaning):
    with pytest.raises(TopologyError, match=meaning) as caught:
        parse_topology(text, name="ticket")
    assert str(caught.value).startswith("ticket")
    assert caught.value.exit_code == 2


def test_the_matrix_is_found_beside_a_p2p_matrix():
    node = parse_topology(P2P + "\n\tGPU0\tGPU1\nGPU0\tX\tPHB\nGPU1\tPHB\tX\n")
    assert node.links[0][1] == "PHB"


def test_a_header_that_names_a_gpu_twice_is_refused():
    with pytest.raises(TopologyError, match="line 1: the header names GPU1 twice"):
        parse_topology("\tGPU0\tGPU1\tGPU1\tGPU2\nGPU0\tX\tNV1\tNV1\tNV1\n")


def test_more_gpus_than_a_node_can_hold_are_refused():
    header = "\t".join(f"GPU{k}" for k in range(65))
    with pytest.raises(TopologyError, match="65 GPUs on one node; at most 64"):
        parse_topology(f"\t{header}\nGPU0\tX" + "\tSYS" * 64)
