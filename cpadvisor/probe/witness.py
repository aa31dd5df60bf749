"""`nvidia-smi topo -m` beside NVML: it alone knows the NICs, and where it contradicts NVML the user has to know."""

import shutil
import subprocess
from dataclasses import replace

from cpadvisor.errors import TopologyError
from cpadvisor.node import Gpu, Nic, Node
from cpadvisor.probe.topo import parse_topology

COMMAND = ("nvidia-smi", "topo", "-m")
TIMEOUT_S = 15.0
"""It takes a second, ten where the driver has to load first; an RDMA device that hangs can hold it for ever."""


class Witness:
    """A run of the command that goes on while NVML is read."""

    def __init__(self, process: "subprocess.Popen[str] | None", *, timeout_s: float = TIMEOUT_S) -> None:
        self._process = process
        self._timeout_s = timeout_s

    @classmethod
    def start(cls, command: tuple[str, ...] = COMMAND, *, timeout_s: float = TIMEOUT_S) -> "Witness":
        """Start the command; where it is not installed the witness has nothing to say."""
        path = shutil.which(command[0])
        if path is None:
            return cls(None)
        pipe = subprocess.PIPE
        process = subprocess.Popen(
            [path, *command[1:]], stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True, errors="replace"
        )
        return cls(process, timeout_s=timeout_s)

    def node(self) -> Node | str:
        """What the command shows, or a sentence on why it shows nothing."""
        if self._process is None:
            return "nvidia-smi is not installed here: NICs are not known"
        try:
            output, errors = self._process.communicate(timeout=self._timeout_s)
        except subprocess.TimeoutExpired:
            self.close()
            return f"nvidia-smi topo -m gave no answer in {self._timeout_s:.0f} s: NICs are not known"
        if self._process.returncode != 0:
            said = next(iter((errors or output).strip().splitlines()), "nothing said")
            return f"nvidia-smi topo -m failed with status {self._process.returncode} ({said}): NICs are not known"
        try:
            return parse_topology(output, name="nvidia-smi topo -m")
        except TopologyError as error:
            return f"{error}: NICs are not known"

    def close(self) -> None:
        """End the command where it still runs."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.communicate()


def compare(node: Node, shown: Node | str) -> Node:
    """The node of NVML with NICs and missing affinities of the command, and a warning for each pair that differs."""
    if isinstance(shown, str):
        return replace(node, warnings=(*node.warnings, shown))
    lacking = [f"GPU{index}" for index in node.indices if index not in shown.indices]
    if lacking:
        gap = f"nvidia-smi topo -m does not show {', '.join(lacking)}, NVML does: NICs are not known"
        return replace(node, warnings=(*node.warnings, *shown.warnings, gap))
    shown = replace(shown.subset(node.indices), warnings=shown.warnings)
    return replace(
        node,
        gpus=tuple(_filled(gpu, other) for gpu, other in zip(node.gpus, shown.gpus, strict=True)),
        links=_links(node, shown),
        nics=tuple(Nic(name=nic.name, links=nic.links) for nic in shown.nics),
        warnings=(*node.warnings, *shown.warnings, *_differences(node, shown)),
    )


def _filled(gpu: Gpu, other: Gpu) -> Gpu:
    """NUMA node and CPUs from the command where NVML has none."""
    return replace(
        gpu,
        numa=other.numa if gpu.numa is None else gpu.numa,
        cpus=other.cpus if gpu.cpus is None else gpu.cpus,
    )


def _links(node: Node, shown: Node) -> tuple[tuple[str | None, ...], ...]:
    """NVML's links; the command's where NVML does not say."""
    return tuple(
        tuple(theirs if ours is None else ours for ours, theirs in zip(row, other, strict=True))
        for row, other in zip(node.links, shown.links, strict=True)
    )


def _differences(node: Node, shown: Node) -> list[str]:
    found: list[str] = []
    for row, second in enumerate(node.indices):
        for column, first in enumerate(node.indices[:row]):
            ours, theirs = node.links[row][column], shown.links[row][column]
            if ours is not None and ours != theirs:
                found.append(
                    f"GPU{first}–GPU{second}: NVML says {ours}, nvidia-smi topo -m says {theirs}; planned with {ours}"
                )
    return found
