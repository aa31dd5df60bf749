"""What this host tells of a run beside its processes: kills for want of memory, who has a port, space on a disk."""

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cpadvisor.processes import PROC, all_stats

CGROUPS = Path("/sys/fs/cgroup")
FULL_BYTES = 128 << 10
"""A file system with less to give has no space: an event of every rank and torchrun's table need as much."""
_LISTENING = "0A"  # TCP_LISTEN, include/net/tcp_states.h


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """What the file system of a path has left for this user."""

    place: Path
    """Its mount point."""
    free_bytes: int
    free_files: int | None
    """Inodes; None where the file system does not count them."""

    @property
    def is_full(self) -> bool:
        """Whether nothing more can be written."""
        return self.free_bytes < FULL_BYTES or self.free_files == 0


def space_of(path: Path) -> Space | None:
    """The space of the file system that holds `path`; None where the path is gone."""
    try:
        told = os.statvfs(path)
    except OSError:
        return None
    place = next(parent for parent in (path.resolve(), *path.resolve().parents) if parent.is_mount())
    return Space(
        place=place, free_bytes=told.f_bavail * told.f_frsize, free_files=told.f_favail if told.f_files else None
    )


def space_for(path: Path) -> Space | None:
    """The space of the file system on which `path` lies, or would lie: that of its nearest parent that is there."""
    return next((space for place in (path, *path.parents) if (space := space_of(place)) is not None), None)


def oom_kills() -> int | None:
    """How many processes the kernel has killed for want of memory: of our own control group, else of this boot.

    The difference of two looks tells of the time between them. None where no counter can be read.
    """
    counters = ((path, "oom_kill") for path in (*_group_counters(), PROC / "vmstat"))
    return next((count for path, name in counters if (count := _counter(path, name)) is not None), None)


def _group_counters() -> Iterator[Path]:
    """memory.events of version 2, memory.oom_control of version 1 (Documentation/admin-guide/cgroup-v2.rst, -v1)."""
    try:
        lines = (PROC / "self" / "cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            yield CGROUPS / path.lstrip("/") / "memory.events"
        elif "memory" in controllers.split(","):
            yield CGROUPS / "memory" / path.lstrip("/") / "memory.oom_control"


def _counter(path: Path, name: str) -> int | None:
    """The number behind a name in a file of `name number` lines."""
    try:
        rows = [line.split() for line in path.read_text().splitlines()]
        return next((int(row[1]) for row in rows if len(row) == 2 and row[0] == name), None)
    except (OSError, ValueError):
        return None


def listener(port: int) -> str | None:
    """Who listens on a TCP port of this host, as `process 4711 (python -m http.server)`; None where nobody is seen.

    The processes of other users show their sockets to root alone.
    """
    inodes = {f"socket:[{inode}]" for inode in _listening_inodes(port)}
    if not inodes:
        return None
    for stat in all_stats():
        pid = stat.process.pid
        if not inodes.isdisjoint(_open_files(pid)):
            return f"process {pid} ({command_of(pid) or 'unknown'})"
    return None


def _open_files(pid: int) -> Iterator[str]:
    """What the descriptors of a process point to; one that is closed while they are listed is left out."""
    folder = PROC / str(pid) / "fd"
    try:
        entries = list(folder.iterdir())
    except OSError:
        return
    for entry in entries:
        with suppress(OSError):
            yield str(entry.readlink())


def _listening_inodes(port: int) -> Iterator[str]:
    """Fields of /proc/net/tcp: slot, local address as HEX:PORT, remote address, state, ..., the tenth is the inode."""
    for name in ("tcp", "tcp6"):
        try:
            lines = (PROC / "net" / name).read_text().splitlines()[1:]
        except OSError:
            continue
        for fields in map(str.split, lines):
            if len(fields) > 9 and fields[3] == _LISTENING and fields[1].rpartition(":")[2] == f"{port:04X}":
                yield fields[9]


def command_of(pid: int) -> str | None:
    """The command line of a process in one line of at most 80 characters; None where it is gone or has none."""
    try:
        words = (PROC / str(pid) / "cmdline").read_bytes().rstrip(b"\0").split(b"\0")
    except OSError:
        return None
    return " ".join(b" ".join(words).decode(errors="replace").split())[:80] or None
