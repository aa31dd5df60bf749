"""What a machine is: its GPUs, the links between them, its NICs and its host.

Link codes are those of `nvidia-smi topo -m`: NV# (a bond of # NVLinks), PIX,
PXB, PHB, NODE, SYS, and SOC of drivers before 2017.
"""

from dataclasses import dataclass, replace

SELF = "X"
PCIE_CODES = ("PIX", "PXB", "PHB", "NODE", "SYS")
"""Nearest first. SOC is what old drivers call SYS."""


def is_nvlink(code: str | None) -> bool:
    """Whether the pair is joined by NVLink."""
    return code is not None and code.startswith("NV")


def link_rank(code: str | None) -> int:
    """A number that grows with the quality of a link: SYS 1, PIX 5, NV# 10 + #; the unknown is 0.

    NV18 ranks 28 and NV1 ranks 11, so any NVLink beats any PCIe path.
    """
    if code is None:
        return 0
    if is_nvlink(code):
        return 10 + int(code[2:])
    name = "SYS" if code == "SOC" else code
    return 5 - PCIE_CODES.index(name) if name in PCIE_CODES else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One device, by its index on the node."""

    index: int
    name: str | None = None
    """The product name as NVML or `--gpu` gives it."""
    memory_bytes: int | None = None
    """What NVML calls total, below the marketing figure."""
    used_bytes: int | None = None
    numa: int | None = None
    cpus: str | None = None
    """CPU affinity as a list of ranges, `0-31,64-95`."""
    uuid: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Nic:
    """A network device and the path from it to each GPU."""

    name: str
    links: tuple[str | None, ...]
    """One code a GPU, in the order of `Node.gpus`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """The CPU side of the machine."""

    cpus: int
    memory_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """A process that holds memory of a GPU."""

    gpu: int
    pid: int
    user: str | None
    command: str | None
    used_bytes: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ring:
    """A closed tour of the GPUs for a send/recv ring."""

    order: tuple[int, ...]
    worst: str | None
    """The code of the tour's slowest hop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One machine. `links[i][j]` is the code between the i-th and j-th of `gpus`; None on the diagonal."""

    name: str
    source: str
    """`nvml`, `topo` or `recorded`."""
    gpus: tuple[Gpu, ...]
    links: tuple[tuple[str | None, ...], ...]
    host: Host | None = None
    nics: tuple[Nic, ...] = ()
    holders: tuple[Holder, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def indices(self) -> tuple[int, ...]:
        """GPU indices in the order of the rows of `links`."""
        return tuple(gpu.index for gpu in self.gpus)

    def link(self, first: int, second: int) -> str | None:
        """The code between two GPUs, given by their indices."""
        rows = self.indices
        return self.links[rows.index(first)][rows.index(second)]

    def subset(self, indices: tuple[int, ...]) -> "Node":
        """The same machine seen through some of its GPUs, in the given order."""
        rows = [self.indices.index(index) for index in indices]
        return replace(
            self,
            gpus=tuple(self.gpus[row] for row in rows),
            links=tuple(tuple(self.links[row][column] for column in rows) for row in rows),
            nics=tuple(replace(nic, links=tuple(nic.links[row] for row in rows)) for nic in self.nics),
            holders=tuple(holder for holder in self.holders if holder.gpu in indices),
        )
