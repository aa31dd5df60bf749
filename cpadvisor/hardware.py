"""What a GPU model can do: memory, arithmetic, links; values with their sources live in hardware.yaml."""

from dataclasses import dataclass

from cpadvisor.node import is_nvlink

CPU_KEY = "cpu"
"""The product under which processes of the host are planned."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuSpec:
    """Published or measured ceilings of one GPU product. Rates are per second and one way."""

    key: str
    """The name that `--gpu` takes, such as `h100-80g`."""
    product: str
    memory_bytes: int
    """What NVML reports as total."""
    peak_flops_per_s: float
    """Dense bf16 by the data sheet; the denominator of MFU."""
    matmul_flops_per_s: float
    """Reached by large bf16 matrix products."""
    attention_forward_flops_per_s: float
    """Reached by the best attention kernel, counting the causal half."""
    attention_backward_flops_per_s: float
    hbm_bytes_per_s: float
    nvlink_bytes_per_s: float | None
    """Usable per bonded NVLink, one way; None where the product has none."""
    pcie_bytes_per_s: float
    """Usable over the product's own PCIe connection, one way."""
    p2p: bool
    """Whether the driver lets two of these talk over PCIe without the host's memory."""
    precision: str
    """`bf16`, or `fp32` for processes on a CPU."""
    aliases: tuple[str, ...] = ()
    """Parts of NVML product names that mean this product."""
    source: str

    @property
    def is_cpu(self) -> bool:
        """Whether this stands for a gloo process of the host and not for a GPU."""
        return self.key == CPU_KEY


PCIE_SHARES = {"PIX": 1.0, "PXB": 1.0, "PHB": 0.8, "NODE": 0.7, "SYS": 0.5, "SOC": 0.5}
"""Share of the PCIe rate that a path keeps.
An estimate: host bridges and the socket interconnect are shared by several GPUs; a measured profile replaces it."""

HOST_STAGED_SHARE = 0.4
"""Without peer-to-peer each byte crosses PCIe twice and the host's memory once. An estimate."""


def link_bytes_per_s(spec: GpuSpec, code: str | None) -> float:
    """Usable bytes per second one way over a link of `code` between two GPUs of this product.

    NV# is # times the per-link rate; PCIe paths are shares of the product's PCIe rate. H100 SXM over NV18:
    18 x 20.6e9 = 371e9, the figure NCCL assumes usable (nccl src/graph/topo.h).
    """
    if is_nvlink(code) and spec.nvlink_bytes_per_s is not None:
        return int(code[2:]) * spec.nvlink_bytes_per_s if code else 0.0
    rate = spec.pcie_bytes_per_s * PCIE_SHARES.get(code or "SYS", PCIE_SHARES["SYS"])
    return rate if spec.p2p else rate * HOST_STAGED_SHARE
