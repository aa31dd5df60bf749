"""The operating system around a training: shared memory, limits, memory, disk, names and ports."""

from collections.abc import Iterator

from cpadvisor.doctor.diagnosis import Diagnosis, Mend
from cpadvisor.doctor.facts import HostFacts, MachineFacts
from cpadvisor.plan.memory import CPU_PROCESS_BYTES
from cpadvisor.probe.host import CPU_PROCESSES
from cpadvisor.units import DASH, GIB, MIB, format_bytes, format_count

SHM_BYTES = GIB
"""`--shm-size=1g` of NCCL's guide (user guide, troubleshooting, Docker); a container has 64 MiB unasked."""

LEAST_FILES = 1024
"""Descriptors of a process: sockets of every communicator, workers of the data loader, shards. An estimate."""
GOOD_FILES = 4096
GOOD_LIMIT = 65536
"""What a limit is raised to: far from the end, and no more than most hard limits."""
LEAST_PROCESSES = 4096
"""Processes and threads of a user: OpenMP, NCCL's proxies and loaders take hundreds a rank. An estimate."""

RANK_HOST_BYTES = 4 * GIB
"""Host memory of one GPU rank with torch and CUDA loaded, weights in transit left out. An estimate."""

LEAST_DISK_BYTES = 5 * GIB
"""Free on the disk of the runs: logs, events and a small model."""
NO_DISK_BYTES = 64 * MIB

BUSY = 1.5
"""Processes a core from which a training is slowed. An estimate."""


def host_checks(facts: MachineFacts) -> Iterator[Diagnosis]:
    """All of them."""
    if facts.host_answer.why is not None:
        yield _silent(facts)
        return
    host = facts.host
    yield from _shared_memory(host, gpus=facts.has_gpus)
    yield from _limits(host, gpus=facts.has_gpus)
    yield from _memory(host, ranks=len(facts.driver.node.gpus) if facts.driver.node else 0)
    yield from _disk(host)
    yield _load(host, gpus=facts.has_gpus)
    yield _names(host)
    yield _loopback(host)


def _silent(facts: MachineFacts) -> Diagnosis:
    answer = facts.host_answer
    return Diagnosis(
        rule="host",
        severity="error",
        title="the operating system does not answer",
        evidence=f"limits, disks and names, asked in a child with {answer.given_s:g} s: {answer.why}",
        effect="a network disk that hangs, or a name server, stops a run as it stopped this look",
        mends=(Mend(text="see whether the disk of the runs answers; --runs names another", command="df -h"),),
    )


def _shared_memory(host: HostFacts, *, gpus: bool) -> Iterator[Diagnosis]:
    if host.shm_free_bytes is None:
        return
    free, size = format_bytes(host.shm_free_bytes), format_bytes(host.shm_bytes)
    seen = f"{free} free of {size}; {format_bytes(SHM_BYTES)} is needed"
    if host.shm_free_bytes >= SHM_BYTES:
        yield Diagnosis(rule="shm", severity="ok", title="/dev/shm is large enough", evidence=seen)
        return
    yield Diagnosis(
        rule="shm",
        severity="warning" if gpus else "note",
        title=f"/dev/shm has {free} free",
        evidence=seen,
        effect="NCCL's transport through shared memory and the workers of a data loader end with a bus error",
        mends=(
            Mend(text="start the container with more", command="docker run --shm-size=1g …"),
            Mend(text="or enlarge it here", command="sudo mount -o remount,size=8g /dev/shm"),
        ),
    )


def _limits(host: HostFacts, *, gpus: bool) -> Iterator[Diagnosis]:
    """Soft limits of this shell, which a run inherits."""
    found = [*_files(host), *_processes(host), *_locked(host, gpus=gpus), *_cores(host, gpus=gpus)]
    yield from found
    if not found and host.limits:
        seen = ", ".join(f"{name} {_amount(value)}" for name, value in host.limits.items())
        yield Diagnosis(rule="limits", severity="ok", title="limits of this shell suffice", evidence=seen)


def _files(host: HostFacts) -> Iterator[Diagnosis]:
    files = host.limits.get("nofile")
    if files is not None and files < GOOD_FILES:
        yield Diagnosis(
            rule="nofile",
            severity="warning" if files < LEAST_FILES else "note",
            title=f"{files} open files a process",
            evidence=f"ulimit -n is {files}; {GOOD_FILES} is enough for 8 ranks with loaders",
            effect="a run ends with `Too many open files`, often only when it saves",
            mends=tuple(_raised(host, "nofile", flag="n", enough=GOOD_FILES)),
        )


def _processes(host: HostFacts) -> Iterator[Diagnosis]:
    processes = host.limits.get("nproc")
    if processes is not None and processes < LEAST_PROCESSES:
        yield Diagnosis(
            rule="nproc",
            severity="warning",
            title=f"{processes} processes and threads",
            evidence=f"ulimit -u is {processes}; ranks, loaders and OpenMP take {LEAST_PROCESSES}",
            effect="threads cannot be started: `Resource temporarily unavailable`",
            mends=tuple(_raised(host, "nproc", flag="u", enough=LEAST_PROCESSES)),
        )


def _locked(host: HostFacts, *, gpus: bool) -> Iterator[Diagnosis]:
    """InfiniBand registers memory, which locks it; without such a device the limit binds nobody."""
    locked = host.limits.get("memlock")
    if gpus and host.rdma_devices and locked is not None:
        yield Diagnosis(
            rule="memlock",
            severity="warning",
            title=f"{format_bytes(locked)} of memory may be locked",
            evidence=f"ulimit -l is {locked // 1024}; {', '.join(host.rdma_devices[:4])} for RDMA wants unlimited",
            effect="NCCL cannot register buffers and fails, or falls back to sockets",
            mends=(Mend(text="start the container with it", command="docker run --ulimit memlock=-1 …"),),
            card=("L2",),
        )


def _cores(host: HostFacts, *, gpus: bool) -> Iterator[Diagnosis]:
    if gpus and "core" in host.limits and host.limits["core"] is None:
        yield Diagnosis(
            rule="core",
            severity="note",
            title="crashes leave core files of any size",
            evidence="ulimit -c is unlimited",
            effect="each rank that crashes writes its whole host memory to the disk",
            mends=(Mend(text="write none in this shell", command="ulimit -c 0"),),
        )


def _raised(host: HostFacts, name: str, *, flag: str, enough: int) -> Iterator[Mend]:
    """The soft limit as far as the hard one lets it, and the hard one where that is too low itself."""
    soft, hard = host.limits.get(name) or 0, host.hard_limits.get(name)
    if hard is None or hard > soft:
        reached = GOOD_LIMIT if hard is None else min(GOOD_LIMIT, hard)
        yield Mend(text="raise it in this shell", command=f"ulimit -{flag} {reached}")
    if hard is not None and hard < enough:
        yield Mend(
            text=f"raise the hard limit, {hard}, which root alone can: `* hard {name} {GOOD_LIMIT}` in "
            f"/etc/security/limits.conf and a new login, Limit{name.upper()}={GOOD_LIMIT} of a systemd unit, or for a "
            "container",
            command=f"docker run --ulimit {name}={GOOD_LIMIT}:{GOOD_LIMIT} …",
        )


def _amount(value: int | None) -> str:
    return "unlimited" if value is None else format_count(value)


def _memory(host: HostFacts, *, ranks: int) -> Iterator[Diagnosis]:
    free = _memory_left(host)
    if free is None:
        return
    count, each = (ranks, RANK_HOST_BYTES) if ranks else (CPU_PROCESSES, CPU_PROCESS_BYTES)
    need, who = count * each, "ranks on GPUs" if ranks else "CPU processes"
    needs = f"{count} x {format_bytes(each)} for {who}"
    seen = f"{_memory_seen(host)}; {needs} are {format_bytes(need)}"
    if free >= need:
        yield Diagnosis(rule="host-memory", severity="ok", title="host memory suffices", evidence=seen)
        return
    yield Diagnosis(
        rule="host-memory",
        severity="warning",
        title=f"{format_bytes(free)} of host memory to give",
        evidence=seen,
        effect="the kernel ends a rank with SIGKILL while it loads weights, and says so only in its own log",
        mends=tuple(_more_memory(host, need=need)),
    )


def _memory_left(host: HostFacts) -> int | None:
    """What a training may still take: the less of what its control group and the host leave."""
    available = host.memory_bytes if host.available_bytes is None else host.available_bytes
    left = [] if available is None else [available]
    if host.cgroup_limit_bytes is not None:
        left.append(max(host.cgroup_limit_bytes - (host.cgroup_used_bytes or 0), 0))
    return min(left, default=None)


def _memory_seen(host: HostFacts) -> str:
    available = "" if host.available_bytes is None else f", {format_bytes(host.available_bytes)} available"
    whole = f"the host has {format_bytes(host.memory_bytes)}{available}"
    if host.cgroup_limit_bytes is None:
        return whole
    used = "" if host.cgroup_used_bytes is None else f", {format_bytes(host.cgroup_used_bytes)} used"
    return f"the container may use {format_bytes(host.cgroup_limit_bytes)}{used}; {whole}"


def _more_memory(host: HostFacts, *, need: int) -> Iterator[Mend]:
    if host.available_bytes is None or host.available_bytes < need:
        yield Mend(text="see who holds the host's memory", command="ps -eo pid,user,rss,comm --sort=-rss | head")
    if host.cgroup_limit_bytes is not None:
        yield Mend(text="give the container more", command="docker update --memory 256g CONTAINER")


def _disk(host: HostFacts) -> Iterator[Diagnosis]:
    free = host.runs_free_bytes
    if free is None:
        return
    enough = format_bytes(LEAST_DISK_BYTES)
    seen = f"{format_bytes(free)} free on the disk of {host.runs_root}; {enough} is enough to start"
    if free >= LEAST_DISK_BYTES:
        yield Diagnosis(rule="disk", severity="ok", title="there is disk for runs", evidence=seen)
        return
    yield Diagnosis(
        rule="disk",
        severity="error" if free < NO_DISK_BYTES else "warning",
        title=f"{format_bytes(free)} free for runs",
        evidence=seen,
        effect="a run ends when it cannot write its events or its model",
        mends=(
            Mend(text="delete old runs", command="cpadvisor runs"),
            Mend(text="keep runs elsewhere", command="cpadvisor launch FILE --runs DIR"),
        ),
    )


def _load(host: HostFacts, *, gpus: bool) -> Diagnosis:
    seen = f"{host.load:.1f} processes want {host.cpus} cores"
    if host.load <= BUSY * host.cpus:
        return Diagnosis(rule="load", severity="ok", title="the cores are free", evidence=seen)
    return Diagnosis(
        rule="load",
        severity="note" if gpus else "warning",
        title="the cores are busy",
        evidence=f"{seen}; above {BUSY:g} a core each waits for the other",
        effect="CPU processes train at a fraction of their pace, GPUs wait for their launches",
        mends=(Mend(text="see what runs", command="top -b -n 1 -o %CPU | head -20"),),
        card=("D2",),
    )


def _names(host: HostFacts) -> Diagnosis:
    if host.resolve_error is None:
        evidence = f"{host.hostname} leads to {host.resolves or DASH}"
        return Diagnosis(rule="hostname", severity="ok", title="the host's name resolves", evidence=evidence)
    return Diagnosis(
        rule="hostname",
        severity="warning",
        title=f"{host.hostname} does not resolve",
        evidence=f"looking up the host's own name: {host.resolve_error}",
        effect="torchrun and gloo look the name up and wait for time-outs, or fail",
        mends=(Mend(text="name it", command=f"echo '127.0.1.1 {host.hostname}' | sudo tee -a /etc/hosts"),),
    )


def _loopback(host: HostFacts) -> Diagnosis:
    if host.loopback_error is None:
        evidence = "a port of 127.0.0.1 was bound and reached"
        return Diagnosis(rule="loopback", severity="ok", title="ranks can meet", evidence=evidence)
    return Diagnosis(
        rule="loopback",
        severity="error",
        title="no port of the loopback interface can be had",
        evidence=f"binding and reaching 127.0.0.1: {host.loopback_error}",
        effect="torchrun's rendezvous cannot start",
        mends=(Mend(text="see whether lo is up", command="ip link show lo"),),
    )
