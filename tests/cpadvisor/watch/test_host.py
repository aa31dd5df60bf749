import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cpadvisor.watch import host
from cpadvisor.watch.host import Space, command_of, listener, oom_kills, space_of


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """/proc and /sys/fs/cgroup of our own making."""
    monkeypatch.setattr(host, "PROC", tmp_path / "proc")
    monkeypatch.setattr(host, "CGROUPS", tmp_path / "cgroup")
    (tmp_path / "proc" / "self").mkdir(parents=True)
    return tmp_path


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_our_own_group_is_asked_before_the_whole_machine(fake: Path) -> None:
    write(fake / "proc" / "vmstat", "nr_free_pages 12\noom_kill 9\n")
    write(fake / "proc" / "self" / "cgroup", "0::/user.slice/job\n")
    assert oom_kills() == 9
    write(fake / "cgroup" / "user.slice" / "job" / "memory.events", "low 0\noom 3\noom_kill 2\noom_group_kill 0\n")
    assert oom_kills() == 2


def test_groups_of_version_one_are_read_too(fake: Path) -> None:
    write(fake / "proc" / "self" / "cgroup", "4:memory:/docker/abc\n3:cpu,cpuacct:/\n0::/\n")
    write(
        fake / "cgroup" / "memory" / "docker" / "abc" / "memory.oom_control",
        "oom_kill_disable 0\nunder_oom 0\noom_kill 5\n",
    )
    assert oom_kills() == 5


def test_where_no_counter_can_be_read_nothing_is_claimed(fake: Path) -> None:
    assert oom_kills() is None
    write(fake / "proc" / "vmstat", "oom_kill many\n")
    assert oom_kills() is None


def test_the_counter_of_this_machine_never_falls() -> None:
    first, second = oom_kills(), oom_kills()
    assert first is None or (second is not None and second >= first >= 0)


def test_whoever_listens_on_a_port_is_named_with_its_command() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        told = listener(port)
        assert told is not None
        assert told.startswith(f"process {os.getpid()} (") and "pytest" in told
    assert listener(port) is None


def test_a_listener_on_the_other_family_is_seen() -> None:
    try:
        server = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        pytest.skip("this host has no IPv6")
    with server:
        assert listener(server.getsockname()[1]) is not None


def test_a_connection_is_no_listener() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        assert listener(client.getsockname()[1]) is None


def test_a_process_that_is_gone_has_no_command() -> None:
    assert command_of(os.getpid()) is not None
    assert command_of(2**22 + 1) is None


def test_space_is_that_of_the_file_system_with_its_mount_point(tmp_path: Path) -> None:
    space = space_of(tmp_path)
    assert space is not None
    assert space.place.is_mount() and tmp_path.resolve().is_relative_to(space.place)
    assert space.free_bytes > 0
    assert space_of(tmp_path / "gone") is None


@pytest.mark.parametrize(
    ("free_bytes", "free_files", "full"),
    [(131_071, None, True), (131_072, None, False), (10**9, 0, True), (10**9, 1, False)],
)
def test_a_file_system_is_full_without_128_kib_or_without_a_file_to_spare(
    free_bytes: int, free_files: int | None, full: bool
) -> None:
    assert Space(place=Path("/"), free_bytes=free_bytes, free_files=free_files).is_full == full


def test_a_command_stands_in_one_line() -> None:
    with subprocess.Popen([sys.executable, "-c", "import sys\nsys.stdin.read()"], stdin=subprocess.PIPE) as child:
        told, end = None, time.monotonic() + 10
        while not (told or "").endswith("sys.stdin.read()") and time.monotonic() < end:
            told = command_of(child.pid)
        assert told is not None and told.endswith("-c import sys sys.stdin.read()"[-30:])
        child.communicate()
