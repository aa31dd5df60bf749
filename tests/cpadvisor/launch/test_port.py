import os
import socket
from collections.abc import Iterator

import pytest

from cpadvisor.errors import LaunchError, UsageError
from cpadvisor.launch.port import nearest_free_port, require_free_port


@pytest.fixture
def taken() -> Iterator[int]:
    """A port of the loopback interface on which this process listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_a_port_that_somebody_listens_on_is_refused_with_his_name_and_the_nearest_free_one(taken: int) -> None:
    with pytest.raises(LaunchError) as refused:
        require_free_port(taken)
    told = str(refused.value)
    assert told.startswith(f"port {taken} of this host cannot be listened on: process {os.getpid()} (")
    near = int(told.split("use --port ")[1].split(",")[0])
    assert near == nearest_free_port(taken) != taken
    require_free_port(near)


def test_a_listener_on_one_address_of_the_host_is_in_the_way_of_all() -> None:
    with socket.socket(socket.AF_INET6) as listener:
        listener.bind(("::1", 0))
        listener.listen()
        with pytest.raises(LaunchError, match="listens on it"):
            require_free_port(listener.getsockname()[1])


def test_the_nearest_free_port_leaves_out_those_that_are_taken(taken: int) -> None:
    near = nearest_free_port(taken)
    assert near is not None
    with socket.socket() as second:
        second.bind(("127.0.0.1", near))
        second.listen()
        assert nearest_free_port(taken) not in (near, taken, None)


@pytest.mark.parametrize(("port", "near"), [(0, 1024), (-1, 1024), (65536, 65535), (10**9, 65535)])
def test_a_number_that_is_no_port_names_the_range(port: int, near: int) -> None:
    with pytest.raises(UsageError, match=rf"--port {port} is no port: ports go from 1 to 65535; use {near}"):
        require_free_port(port)


def test_a_port_of_root_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: socket.socket, address: tuple[str, int]) -> None:
        if address[1] < 1024:
            raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", refuse)
    with pytest.raises(LaunchError, match=r"port 80 .*: ports below 1024 are for root; use --port 1024"):
        require_free_port(80)


def test_a_host_without_one_family_is_judged_by_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.socket.bind

    def without_ipv6(self: socket.socket, address: tuple[str, int]) -> None:
        if self.family == socket.AF_INET6:
            raise OSError(99, "Cannot assign requested address")
        real(self, address)

    monkeypatch.setattr(socket.socket, "bind", without_ipv6)
    with socket.socket() as free:
        real(free, ("127.0.0.1", 0))
        port = free.getsockname()[1]
    require_free_port(port)
