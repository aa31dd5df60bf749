"""`python -m cpadvisor.doctor.look driver` or `host RUNS`: looks at what may hang and prints what it saw as JSON."""

import json
import os
import resource
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cpadvisor.doctor.facts import DriverFacts, GpuFacts, HostFacts
from cpadvisor.doctor.libraries_child import end_with_asker
from cpadvisor.errors import MissingError
from cpadvisor.probe.nvml_session import Session
from cpadvisor.rundir import nearest_there

CGROUP = Path("/sys/fs/cgroup")
_MEMORY_FILES = (
    ("memory.max", "memory.current", "memory.stat", "inactive_file"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat", "total_inactive_file"),
)
"""Limit and use of memory, and where the use says how much of it are pages of files that are given back on demand,
in versions 2 and 1 of control groups."""
_LIMITS = ("nofile", "memlock", "nproc", "core")
_NCCL_FILES = (Path("/etc/nccl.conf"), Path("~/.nccl.conf"))
_UNCORRECTED, _VOLATILE = 1, 0
"""NVML_MEMORY_ERROR_TYPE_UNCORRECTED, NVML_VOLATILE_ECC."""
_REMAP_FAILED_FIELD = 145
"""NVML_FI_DEV_REMAPPED_FAILURE."""


def main(argv: Sequence[str]) -> int:
    """Look at one thing; the JSON is the last line of stdout."""
    end_with_asker()
    what, *rest = argv
    seen = driver_json() if what == "driver" else asdict(host_facts(Path(rest[0])))
    print(json.dumps(seen))
    return 0


def driver_json() -> dict[str, Any]:
    """DriverFacts as JSON, its node in the form of `inspect --json`."""
    import pynvml

    from cpadvisor.probe.recorded import node_json

    facts = driver_facts(pynvml)
    return {**asdict(facts), "node": None if facts.node is None else node_json(facts.node)}


def driver_from_json(data: Mapping[str, Any]) -> DriverFacts:
    """The other way round."""
    from cpadvisor.probe.recorded import node_from_json

    node = data["node"]
    return DriverFacts(
        **{
            **data,
            "node": None if node is None else node_from_json(node),
            "gpus": tuple(GpuFacts(**gpu) for gpu in data["gpus"]),
            "lost": tuple(data["lost"]),
        }
    )


def driver_facts(library: Any, **probe: Any) -> DriverFacts:
    """The driver through NVML; `probe` is handed to `read_node`, for tests."""
    from cpadvisor.probe.host import nvidia_devices
    from cpadvisor.probe.nvml import read_node
    from cpadvisor.probe.nvml_session import NoGpuError

    said = _versions(library)
    try:
        node = read_node(library=library, **probe)
    except NoGpuError as error:
        return DriverFacts(absent=str(error), **said)
    except MissingError as error:
        there = nvidia_devices()
        if not there and not said["gpus"]:
            return DriverFacts(absent=str(error), **said)
        return DriverFacts(broken=str(error), **said)
    return DriverFacts(node=node, **said)


def _versions(library: Any) -> dict[str, Any]:
    """What the driver says beside the node; NVML is opened once more for it, which costs milliseconds."""
    try:
        library.nvmlInit()
    except library.NVMLError:
        return {"gpus": ()}
    session = Session(library)
    try:
        devices, lost = session.devices()
        cuda = session.ask("nvmlSystemGetCudaDriverVersion")
        return {
            "driver": session.text("nvmlSystemGetDriverVersion"),
            "nvml": session.text("nvmlSystemGetNVMLVersion"),
            "cuda": None if cuda is None else f"{cuda // 1000}.{cuda % 1000 // 10}",
            "gpus": tuple(_gpu(session, device.index, device.handle) for device in devices),
            "lost": tuple(lost),
            "peer_access": _peer_access(session, devices),
        }
    finally:
        session.ask("nvmlShutdown")


def _gpu(session: Session, index: int, handle: Any) -> GpuFacts:
    mig = session.ask("nvmlDeviceGetMigMode", handle)
    persistence = session.ask("nvmlDeviceGetPersistenceMode", handle)
    failed = session.field(handle, _REMAP_FAILED_FIELD)
    return GpuFacts(
        index=index,
        mig=mig is not None and mig[0] == session.constant("NVML_DEVICE_MIG_ENABLE", 1),
        persistence=None if persistence is None else bool(persistence),
        uncorrected_errors=session.ask("nvmlDeviceGetTotalEccErrors", handle, _UNCORRECTED, _VOLATILE),
        remap_failed=None if failed is None else bool(failed),
    )


def _peer_access(session: Session, devices: Sequence[Any]) -> dict[str, str]:
    """What the driver says of each pair's reading of memory; pairs of which it says nothing are left out."""
    from cpadvisor.probe.nvml_links import P2P_CODES, P2P_OK, P2P_READ

    codes = {**P2P_CODES, P2P_OK: "OK"}
    found: dict[str, str] = {}
    for place, second in enumerate(devices):
        for first in devices[:place]:
            status = session.ask("nvmlDeviceGetP2PStatus", first.handle, second.handle, P2P_READ)
            if status is not None:
                found[f"{first.index}-{second.index}"] = codes.get(status, "U")
    return found


def host_facts(runs_root: Path) -> HostFacts:
    """The operating system, read where Linux keeps it."""
    import psutil

    memory = psutil.virtual_memory()
    group = group_memory(memory.total)
    shm, runs = _space(Path("/dev/shm")), _space(runs_root)
    address, unresolved = _resolve()
    limits = {name: resource.getrlimit(getattr(resource, f"RLIMIT_{name.upper()}")) for name in _LIMITS}
    return HostFacts(
        hostname=socket.gethostname(),
        cpus=len(os.sched_getaffinity(0)),
        load=os.getloadavg()[0],
        memory_bytes=memory.total,
        available_bytes=memory.available,
        cgroup_limit_bytes=group[0],
        cgroup_used_bytes=group[1],
        shm_bytes=shm[0],
        shm_free_bytes=shm[1],
        runs_root=str(runs_root),
        runs_free_bytes=runs[1],
        limits={name: _limit(pair[0]) for name, pair in limits.items()},
        hard_limits={name: _limit(pair[1]) for name, pair in limits.items()},
        iommu=any(Path("/sys/class/iommu").glob("*")),
        virtual=_is_virtual(),
        resolves=address,
        resolve_error=unresolved,
        loopback_error=_loopback_error(),
        rdma_devices=tuple(sorted(path.name for path in Path("/sys/class/infiniband").glob("*"))),
        nccl_files=_nccl_settings(_NCCL_FILES),
    )


def _limit(value: int) -> int | None:
    return None if value == resource.RLIM_INFINITY else value


def _space(path: Path) -> tuple[int | None, int | None]:
    """Size and free bytes, for this user, of the file system on which a path is or would be."""
    seen = os.statvfs(nearest_there(path))
    return seen.f_blocks * seen.f_frsize, seen.f_bavail * seen.f_frsize


def group_memory(total: int, *, own: str | None = None) -> tuple[int | None, int | None]:
    """Limit and use of the tightest control group of this process, as Slurm and containers set it; None without one.

    `own` is the text of /proc/self/cgroup: `0::/system.slice/job_7` in version 2, where every parent limits, too.
    """
    found: list[tuple[int, int | None]] = []
    for folder in _groups(_text(Path("/proc/self/cgroup")) if own is None else own):
        for limit_name, use_name, stat_name, cache_key in _MEMORY_FILES:
            limit = _text(folder / limit_name)
            if limit.isdigit() and int(limit) < total:
                use, cache = _text(folder / use_name), _entry(_text(folder / stat_name), cache_key)
                found.append((int(limit), max(int(use) - cache, 0) if use.isdigit() else None))
    return min(found, key=lambda pair: pair[0], default=(None, None))


def _entry(stat: str, key: str) -> int:
    """One number of a memory.stat, whose lines are `inactive_file 4096`; 0 where it is not there."""
    pairs = (line.partition(" ") for line in stat.splitlines())
    return next((int(value) for name, _, value in pairs if name == key and value.isdigit()), 0)


def _groups(own: str) -> Iterator[Path]:
    """The folders of the process's control groups, from its own up to the root."""
    line = next((line for line in own.splitlines() if line.startswith("0::/")), "0::/")
    folder = CGROUP / line.removeprefix("0::/")
    yield from (one for one in (folder, *folder.parents) if one == CGROUP or CGROUP in one.parents)


def _text(path: Path) -> str:
    """The text of a small file of the kernel; empty where there is none."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _is_virtual() -> bool | None:
    text = _text(Path("/proc/cpuinfo"))
    return " hypervisor" in text if text else None


def _resolve() -> tuple[str | None, str | None]:
    try:
        return str(socket.getaddrinfo(socket.gethostname(), None)[0][4][0]), None
    except OSError as error:
        return None, error.strerror or str(error)


def _loopback_error() -> str | None:
    """Bind a port of the loopback interface and reach it, as the ranks reach their rendezvous."""
    try:
        with (
            socket.create_server(("127.0.0.1", 0)) as server,
            socket.create_connection(server.getsockname(), timeout=2),
        ):
            return None
    except OSError as error:
        return error.strerror or str(error)


def _nccl_settings(files: Sequence[Path]) -> dict[str, str]:
    """`NAME=value` lines of NCCL's own settings files, later files winning."""
    found: dict[str, str] = {}
    for file in files:
        try:
            text = file.expanduser().read_text(encoding="utf-8", errors="replace")
        except (OSError, RuntimeError):
            continue
        pairs = (line.partition("=") for line in text.splitlines() if line.strip().startswith("NCCL_"))
        found |= {name.strip(): value.strip() for name, _, value in pairs}
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
