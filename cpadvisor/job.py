"""One question to the advisor: a node, its GPU product and a workload, from what the user typed.

The command line and the app build their jobs here, so both accept the same
values and refuse the same ones with the same words.
"""

import difflib
from dataclasses import dataclass

from cpadvisor import catalog, units
from cpadvisor.errors import LayoutError, UsageError
from cpadvisor.hardware import GpuSpec
from cpadvisor.node import Node
from cpadvisor.plan.layout import AXES, require_even_chunks
from cpadvisor.plan.methods import CP_METHODS
from cpadvisor.plan.workload import ENGINES, METHODS, OBJECTIVES, Workload
from cpadvisor.probe.machine import find_node

CPU_MODEL, CPU_TOKENS, CPU_LOCK = "tiny", "8k", "cp=2"
"""What node `cpu` is shown with: seconds of training, and a ring to look at."""
GPU_MODEL, GPU_TOKENS = "llama-3.1-8b", "32k"

MOST_NODES = 4096
"""Layouts grow with the divisors of the GPUs; no training known is larger."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What the user asked for, as text; the empty ones take the defaults of the node."""

    node: str | None = None
    topo_text: str | None = None
    gpu: str | None = None
    model: str | None = None
    sequence_len: str | None = None
    engine: str = "cpadvisor"
    method: str = "full"
    cp_method: str | None = None
    nodes: int = 1
    nic: str | None = None
    gpus: str | None = None
    global_batch: int | None = None
    objective: str = "tokens_per_s"
    lock: str | None = None
    headroom: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A question that the advisor can answer."""

    node: Node
    """The GPUs of one node that may be used."""
    gpu: GpuSpec
    workload: Workload
    notes: tuple[str, ...] = ()
    """What was assumed, for the user to read."""

    @property
    def world(self) -> int:
        """GPUs over all nodes."""
        return len(self.node.gpus) * self.workload.nodes


def build_job(request: Request) -> Job:
    """Find the node and read every value. Raises a UsageError, ModelError or LayoutError that names what is wrong."""
    node, note = find_node(node=request.node, topo_text=request.topo_text, gpu=request.gpu)
    return build_job_on(node, request, notes=() if note is None else (note,))


def build_job_on(found: Node, request: Request, *, notes: tuple[str, ...] = ()) -> Job:
    """The same on a node that is known already, as the app knows it."""
    node = select_gpus(found, request.gpus)
    gpu = product_of(node, request.gpu)
    on_cpu = gpu.is_cpu
    model = _given(request.model, CPU_MODEL if on_cpu else GPU_MODEL)
    tokens = units.parse_tokens(_given(request.sequence_len, CPU_TOKENS if on_cpu else GPU_TOKENS))
    lock = parse_lock(request.lock)
    _require_nodes(request)
    workload = Workload(
        model=catalog.find_model(model),
        sequence_len=tokens,
        engine=_one_of("engine", request.engine, ENGINES),
        method=_one_of("method", request.method, METHODS),
        cp_method=_cp_method(request),
        nodes=request.nodes,
        nic_bytes_per_s=None if request.nic is None else units.parse_bits_per_s(request.nic),
        global_batch=request.global_batch,
        objective=_one_of("objective", request.objective, OBJECTIVES),
        lock=lock,
        headroom_bytes=0 if request.headroom is None else units.parse_bytes(request.headroom),
    )
    job = Job(node=node, gpu=gpu, workload=workload, notes=notes)
    _require_headroom(job)
    _require_lock_fits(job)
    return job


def select_gpus(node: Node, wanted: str | None) -> Node:
    """The node through `8` (that many, the first ones) or `0,1,4,5` (those). None takes all."""
    if wanted is None:
        return node
    try:
        numbers = [int(part) for part in wanted.split(",")]
    except ValueError:
        raise UsageError(f"GPUs {wanted!r} are neither a count nor a list of indices; write 4 or 0,1,4,5") from None
    have = node.indices
    indices = numbers if "," in wanted else list(have[: numbers[0]])
    if not indices or (len(numbers) == 1 and "," not in wanted and not 1 <= numbers[0] <= len(have)):
        raise UsageError(f"{wanted} GPUs were asked for and {node.name} has {len(have)}; use 1 to {len(have)}")
    missing = [index for index in indices if index not in have]
    if missing or len(set(indices)) != len(indices):
        what = f"GPU {missing[0]} is not on {node.name}" if missing else f"a GPU stands twice in {wanted}"
        raise UsageError(f"{what}; its indices are {','.join(map(str, have))}")
    return node.subset(tuple(indices))


def product_of(node: Node, override: str | None = None) -> GpuSpec:
    """The product of the node's GPUs. Raises UsageError with the known names where they have none or differ."""
    if override is not None:
        return catalog.require_gpu(override)
    names = {gpu.name for gpu in node.gpus}
    if len(names) > 1:
        listed = ", ".join(sorted(str(name) for name in names))
        raise UsageError(f"{node.name} has different GPUs ({listed}); choose like ones with --gpus")
    name = next(iter(names), None)
    known = ", ".join(sorted(catalog.load_gpus()))
    if name is None:
        raise UsageError(f"the topology of {node.name} does not name its GPUs; add --gpu with one of {known}")
    spec = catalog.find_gpu(name)
    if spec is None:
        raise UsageError(f"GPU {name!r} is not in the hardware table; plan as for one of {known} with --gpu")
    return spec


def parse_lock(text: str | None) -> dict[str, int]:
    """`tp=1,cp=2` as sizes by axis. Raises UsageError naming a misspelt axis and the nearest one."""
    lock: dict[str, int] = {}
    for part in (text or "").replace(" ", "").split(","):
        if not part:
            continue
        axis, _, size = part.partition("=")
        if axis not in AXES:
            near = difflib.get_close_matches(axis, AXES, n=1, cutoff=0.4) or [AXES[0]]
            raise UsageError(f"{axis!r} is not an axis; did you mean {near[0]}? The axes are {', '.join(AXES)}")
        if not size.isdecimal() or int(size) < 1:
            raise UsageError(f"size {size!r} of {axis} is not a whole number from 1 up; write for example {axis}=2")
        if lock.get(axis, int(size)) != int(size):
            raise UsageError(f"{axis} is locked twice, to {lock[axis]} and {size}; keep one")
        lock[axis] = int(size)
    return lock


def _given(value: str | None, default: str) -> str:
    """What was asked for. Empty text is not left out: it is a variable that nobody set."""
    return default if value is None else value


def _one_of(what: str, value: str, allowed: tuple[str, ...]) -> str:
    if value in allowed:
        return value
    near = difflib.get_close_matches(value, allowed, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]}? " if near else ""
    raise UsageError(f"{what} {value!r} is not known; {hint}known are {', '.join(allowed)}")


def _cp_method(request: Request) -> str | None:
    """The method of context parallelism that is asked for, of an engine that can be asked."""
    if request.cp_method is None:
        return None
    if request.engine != "cpadvisor":
        raise UsageError(
            f"{request.engine} chooses by the heads how K and V meet the queries; "
            "leave --cp-method out, or use the engine cpadvisor"
        )
    return _one_of("cp method", request.cp_method, CP_METHODS)


def _require_nodes(request: Request) -> None:
    if not 1 <= request.nodes <= MOST_NODES:
        raise UsageError(f"{request.nodes} nodes were asked for; use 1 to {MOST_NODES}")
    if request.nodes > 1 and request.nic is None:
        raise UsageError(f"{request.nodes} nodes need the network rate of one GPU; add for example --nic 400g")
    if request.global_batch is not None and request.global_batch < 1:
        raise UsageError(f"global batch {request.global_batch} is below one sequence; use 1 or more")


def _require_headroom(job: Job) -> None:
    headroom = job.workload.headroom_bytes
    least = min(gpu.memory_bytes or job.gpu.memory_bytes for gpu in job.node.gpus)
    if headroom >= least:
        raise UsageError(
            f"headroom {units.format_bytes(headroom)} leaves nothing of a GPU's {units.format_bytes(least)}; use less"
        )


def _require_lock_fits(job: Job) -> None:
    lock, world = job.workload.lock, job.world
    product = 1
    for size in lock.values():
        product *= size
    if len(lock) == len(AXES) and product != world:
        raise LayoutError(f"the locked sizes multiply to {product} and there are {world} GPUs; they have to be equal")
    if world % product:
        fits = max(size for size in range(1, world + 1) if world % size == 0 and size <= product)
        raise LayoutError(
            f"the locked sizes {', '.join(f'{axis} {size}' for axis, size in lock.items())} multiply to {product}, "
            f"which does not divide {world} GPUs; the nearest product that does is {fits}"
        )
    if job.workload.engine == "cpadvisor":
        require_even_chunks(job.workload.sequence_len, lock.get("cp", 1))
