"""Variables of the environment that slow, stop or break a training; a run inherits them from the shell."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from cpadvisor.doctor.diagnosis import Diagnosis, Mend


@dataclass(frozen=True, slots=True, kw_only=True)
class Harm:
    """One variable and the values that do harm."""

    name: str
    harms: Callable[[str], bool]
    severity: str
    effect: str
    good: str = "leave it unset"
    command: str | None = None
    """None is `unset NAME`."""
    card: tuple[str, ...] = ()
    gpus_alone: bool = True
    yields_to: str | None = None
    """Another name of the setting, which wins where it is set."""


def _is_on(value: str) -> bool:
    return value.strip().lower() not in ("", "0", "false", "off", "no")


def _is_off(value: str) -> bool:
    return value.strip().lower() in ("0", "false", "off", "no")


def _is(*values: str) -> Callable[[str], bool]:
    return lambda value: value.strip().upper() in values


def _is_below(least: int) -> Callable[[str], bool]:
    return lambda value: value.strip().isdigit() and 0 < int(value) < least


def _is_odd_allocator(value: str) -> bool:
    """Settings of torch's allocator that waste memory or time."""
    pairs = [part.partition(":") for part in value.replace(" ", "").split(",") if part]
    options = {name: setting for name, _, setting in pairs}
    split = options.get("max_split_size_mb", "")
    return (
        options.get("expandable_segments", "").lower() == "false"
        or (split.isdigit() and int(split) < 64)
        or options.get("backend") == "cudaMallocAsync"
    )


_ALLOCATOR = Harm(
    name="PYTORCH_ALLOC_CONF",
    harms=_is_odd_allocator,
    severity="warning",
    effect="the allocator fragments or waits: memory runs out before it is full",
    good="expandable_segments:True keeps fragments small",
    command="export PYTORCH_ALLOC_CONF=expandable_segments:True",
    card=("D1",),
)
"""By its newer name."""

HARMS = (
    Harm(
        name="CUDA_VISIBLE_DEVICES",
        harms=lambda value: value.strip() in ("", "-1"),
        severity="warning",
        effect="it hides every GPU: torch trains on the CPU or fails",
        card=("D2",),
    ),
    Harm(
        name="CUDA_LAUNCH_BLOCKING",
        harms=_is_on,
        severity="warning",
        effect="the host waits for every kernel, so that nothing overlaps: steps take a multiple",
        card=("D2",),
    ),
    Harm(
        name="NCCL_P2P_DISABLE",
        harms=_is_on,
        severity="warning",
        effect="no GPU reads another's memory, NVLink or not: every hop goes through the host's memory",
        card=("D2", "L2"),
    ),
    Harm(
        name="NCCL_P2P_LEVEL",
        harms=_is("LOC", "0"),
        severity="warning",
        effect="peer access is never used: every hop goes through the host's memory",
        card=("D2", "L2"),
    ),
    Harm(
        name="NCCL_IB_DISABLE",
        harms=_is_on,
        severity="warning",
        effect="between nodes NCCL takes TCP sockets in place of InfiniBand: a tenth of the rate",
        good="the card asks for NCCL_IB_DISABLE=0",
        command="export NCCL_IB_DISABLE=0",
        card=("L2", "D2"),
    ),
    Harm(
        name="NCCL_SHM_DISABLE",
        harms=_is_on,
        severity="warning",
        effect="where peer access is missing NCCL goes through network sockets inside the machine",
        card=("D2",),
    ),
    Harm(
        name="NCCL_DEBUG",
        harms=_is("TRACE"),
        severity="warning",
        effect="NCCL writes a line for every call: steps slow down and the disk fills",
        good="INFO shows the rings and transports (card K3)",
        command="export NCCL_DEBUG=INFO",
        card=("D2", "K3"),
    ),
    Harm(
        name="NCCL_DEBUG_SUBSYS",
        harms=lambda value: {"COLL", "ALL"} & {part.strip().upper() for part in value.split(",")} != set(),
        severity="note",
        effect="NCCL writes a line for every collective and no ring; the card's K3 asks for COLL",
        good="GRAPH shows the rings",
        command="export NCCL_DEBUG_SUBSYS=INIT,GRAPH,ENV",
        card=("K3",),
    ),
    Harm(
        name="NCCL_ALGO",
        harms=_is_on,
        severity="note",
        effect="it fixes the algorithm for every size of message; NCCL chooses better",
        card=("D2",),
    ),
    Harm(
        name="NCCL_PROTO",
        harms=_is_on,
        severity="note",
        effect="it fixes the protocol for every size of message; NCCL chooses better",
        card=("D2",),
    ),
    _ALLOCATOR,
    replace(
        _ALLOCATOR,
        name="PYTORCH_CUDA_ALLOC_CONF",
        yields_to=_ALLOCATOR.name,
        command="export PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True",
    ),
    Harm(
        name="PYTORCH_NO_CUDA_MEMORY_CACHING",
        harms=_is_on,
        severity="warning",
        effect="every tensor is a cudaMalloc, which waits for the GPU",
        card=("D2",),
    ),
    Harm(
        name="OMP_NUM_THREADS",
        harms=_is("1"),
        severity="note",
        effect="each rank computes on one core: on CPU processes the step takes a multiple",
        gpus_alone=False,
        card=("D2",),
    ),
    Harm(
        name="TORCH_NCCL_BLOCKING_WAIT",
        harms=_is_on,
        severity="warning",
        effect="the host waits for every collective, so that nothing overlaps",
        card=("D2",),
    ),
    Harm(
        name="TORCH_NCCL_ASYNC_ERROR_HANDLING",
        harms=_is_off,
        severity="warning",
        effect="a rank that fails leaves its peers waiting for ever, and no dump is written",
    ),
    Harm(
        name="TORCH_NCCL_HEARTBEAT_TIMEOUT_SEC",
        harms=_is_below(60),
        severity="warning",
        effect="the watchdog ends a run during a slow save or the compilation of a kernel",
    ),
    Harm(
        name="TORCH_NCCL_ENABLE_TIMING",
        harms=_is_on,
        severity="note",
        effect="each collective is timed by events, at some microseconds each",
        card=("D2",),
    ),
    Harm(
        name="TORCH_DISTRIBUTED_DEBUG",
        harms=_is("DETAIL"),
        severity="warning",
        effect="every collective is compared between the ranks first: steps slow down",
        card=("D2",),
    ),
)


def variable_checks(
    environ: Mapping[str, str], *, files: Mapping[str, str] | None = None, gpus: bool
) -> Iterator[Diagnosis]:
    """Each variable that does harm, named as `env.NAME`; one line where none does.

    `files` are those of NCCL's own settings files, which the environment overrides.
    """
    set_here = {**(files or {}), **environ}
    looked = [harm for harm in HARMS if (gpus or not harm.gpus_alone) and harm.yields_to not in set_here]
    found = [harm for harm in looked if harm.name in set_here and harm.harms(set_here[harm.name])]
    for harm in found:
        yield _diagnosis(harm, set_here[harm.name], where="" if harm.name in environ else " (in NCCL's settings file)")
    if not found:
        seen = ", ".join(harm.name for harm in looked) if len(looked) < 4 else f"{len(looked)} variables"
        evidence = f"looked at {seen}" + ("" if gpus else "; what harms GPUs alone was left out")
        yield Diagnosis(rule="env", severity="ok", title="the environment does no harm", evidence=evidence)


def _diagnosis(harm: Harm, value: str, *, where: str) -> Diagnosis:
    shown = value if value.strip() else "(empty)"
    return Diagnosis(
        rule=f"env.{harm.name}",
        severity=harm.severity,
        title=f"{harm.name}={shown}",
        evidence=f"{harm.name}={shown}{where}; {harm.good}",
        effect=harm.effect,
        mends=(Mend(text=harm.good, command=harm.command or f"unset {harm.name}"),),
        card=harm.card,
    )
