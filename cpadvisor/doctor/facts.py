"""What was seen of a machine, as plain records: the checks read them, and tests plant faults in them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cpadvisor.node import Node


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a child answered, or why it did not."""

    data: Mapping[str, Any] | None = None
    """None where there was no answer."""
    why: str | None = None
    """Why there was none, in words."""
    took_s: float = 0.0
    given_s: float = 0.0
    """The time-out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuFacts:
    """One GPU as the driver describes it; None where it does not say."""

    index: int
    mig: bool = False
    persistence: bool | None = None
    uncorrected_errors: int | None = None
    """ECC errors since the driver was loaded that could not be corrected."""
    remap_failed: bool | None = None
    """Rows of memory that could not be remapped: the board has to be replaced."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverFacts:
    """The NVIDIA driver and what it lists."""

    node: Node | None = None
    """The GPUs that may be used; None where there are none."""
    absent: str | None = None
    """Why there is no GPU to use and nothing is broken."""
    broken: str | None = None
    """Why the driver or its GPUs cannot be used though they are there."""
    driver: str | None = None
    nvml: str | None = None
    cuda: str | None = None
    """The newest CUDA that the driver runs, as `13.0`."""
    gpus: tuple[GpuFacts, ...] = ()
    lost: tuple[str, ...] = ()
    """One sentence for each GPU that does not answer."""
    peer_access: Mapping[str, str] = field(default_factory=lambda: dict[str, str]())
    """`0-1` to what the driver says of reading each other's memory, as `nvidia-smi topo -p2p` prints it: `OK`, or the
    code of a refusal. Pairs of all GPUs, those that may not be used too; a missing one is unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostFacts:
    """The operating system around the GPUs; None where it does not say. Sizes are bytes."""

    hostname: str = "localhost"
    cpus: int = 1
    """That this process may use."""
    load: float = 0.0
    """Processes that ran or wanted to over the last minute, on the average."""
    memory_bytes: int | None = None
    available_bytes: int | None = None
    """What the host can give without swapping: MemAvailable."""
    cgroup_limit_bytes: int | None = None
    cgroup_used_bytes: int | None = None
    """Without the pages of files that the kernel gives back on demand."""
    shm_bytes: int | None = None
    shm_free_bytes: int | None = None
    runs_root: str = ""
    runs_free_bytes: int | None = None
    limits: Mapping[str, int | None] = field(default_factory=lambda: dict[str, int | None]())
    """Soft limits by name (`nofile`, `memlock`, `nproc`, `core`); None is unlimited, a missing name unknown."""
    hard_limits: Mapping[str, int | None] = field(default_factory=lambda: dict[str, int | None]())
    iommu: bool | None = None
    """Whether the kernel runs devices behind an IOMMU."""
    virtual: bool | None = None
    """Whether this is a virtual machine, whose IOMMU belongs to the host."""
    resolves: str | None = None
    """The address that the host's own name leads to."""
    resolve_error: str | None = None
    loopback_error: str | None = None
    """Why no port of the loopback interface can be had; None where one can."""
    rdma_devices: tuple[str, ...] = ()
    nccl_files: Mapping[str, str] = field(default_factory=lambda: dict[str, str]())
    """Variables that /etc/nccl.conf or ~/.nccl.conf sets for every run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LibraryFacts:
    """The interpreter that trains and what it can import."""

    python: str | None = None
    """Its path; None where none has torch."""
    no_python: str | None = None
    """Why there is none."""
    found: Answer = field(default_factory=Answer)
    """What is installed: `{"python": "3.12.1", "modules": [name, …], "wheels": {name: version}}`."""
    torch: Answer = field(default_factory=Answer)
    """What torch says of itself: see torch_facts of libraries_child.py."""
    imports: Mapping[str, Answer] = field(default_factory=lambda: dict[str, Answer]())
    """Module to how its import went; only those that are installed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineFacts:
    """Everything that the checks of a node read."""

    driver: DriverFacts = field(default_factory=DriverFacts)
    driver_answer: Answer = field(default_factory=Answer)
    host: HostFacts = field(default_factory=HostFacts)
    host_answer: Answer = field(default_factory=Answer)
    libraries: LibraryFacts = field(default_factory=LibraryFacts)
    environ: Mapping[str, str] = field(default_factory=lambda: dict[str, str]())
    own_pids: Mapping[int, str] = field(default_factory=lambda: dict[int, str]())
    """Processes of this user's own runs, with the run as a command names it, unquoted."""

    @property
    def has_gpus(self) -> bool:
        """Whether there is a GPU to use, or one that is broken."""
        return self.driver.node is not None or self.driver.broken is not None
