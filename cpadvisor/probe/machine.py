"""The machine that a command or the app is about: named, pasted, or this one."""

from dataclasses import replace

from cpadvisor.errors import MissingError, UsageError
from cpadvisor.fabric import fabric_warnings
from cpadvisor.node import Gpu, Node
from cpadvisor.probe import recorded


def find_node(*, node: str | None, topo_text: str | None, gpu: str | None) -> tuple[Node, str | None]:
    """The machine to plan for, and a sentence for the user where that is not what they may expect.

    `node` is a shipped machine or a file, `topo_text` the text of `nvidia-smi topo -m`; with neither it is this
    machine, and where that has no GPU the node `cpu`. `gpu` names the product of GPUs that have no name, or asks
    what another product would do. Raises UsageError for values that are wrong, MissingError where GPUs are there
    but their driver does not answer.
    """
    if node is not None and topo_text is not None:
        raise UsageError(f"--node {node} and a pasted topology both name a machine; give one of them")
    note = None
    if topo_text is not None:
        from cpadvisor.probe.topo import parse_topology

        found = parse_topology(topo_text)
    elif node is not None:
        found = recorded.load_node(node)
    else:
        found, note = _this_machine()
    if gpu is not None:
        found = _with_product(found, gpu)
    return replace(found, warnings=tuple(dict.fromkeys((*found.warnings, *fabric_warnings(found))))), note


def _this_machine() -> tuple[Node, str | None]:
    from cpadvisor.probe import host, nvml
    from cpadvisor.probe.nvml_session import NoGpuError

    try:
        return nvml.read_node(), None
    except NoGpuError as error:
        return recorded.load_node(recorded.CPU), f"no GPU here ({error}): planning for cpu"
    except MissingError as error:
        present = host.nvidia_devices()
        if present == 0:  # an image with a driver on a machine without a GPU
            return recorded.load_node(recorded.CPU), f"no GPU here ({error}): planning for cpu"
        raise MissingError(
            f"{present} NVIDIA GPU{'s are' if present > 1 else ' is'} on the PCI bus, but {error}; "
            "mend it, or plan without it by --node, for example --node cpu or --node dgx-h100"
        ) from error


def _with_product(node: Node, name: str) -> Node:
    """The node with GPUs of another product; GPUs that are of it already keep their own figures."""
    from cpadvisor import catalog

    wanted = catalog.require_gpu(name)
    if node.name == recorded.CPU:
        raise UsageError(
            f"--gpu {name}: the node {node.name} has no GPU that could be one; "
            "name a machine with --node, for example dgx-h100, or paste its topology with --topo"
        )

    def renamed(gpu: Gpu) -> Gpu:
        if gpu.name is not None and catalog.find_gpu(gpu.name) == wanted:
            return gpu
        return replace(gpu, name=wanted.product, memory_bytes=wanted.memory_bytes, used_bytes=None)

    return replace(node, gpus=tuple(renamed(gpu) for gpu in node.gpus))
