"""A port for torchrun's rendezvous: one that nobody listens on, or who does and the nearest free one."""

import contextlib
import errno
import os
import socket
from collections.abc import Iterator

from cpadvisor.errors import LaunchError, UsageError

FIRST_OPEN_PORT = 1024
"""Ports below are for root alone."""
LAST_PORT = 65535

# torch's store listens on every address of the host, so a listener on any of them is in its way.
_EVERYWHERE = ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::"))


def require_free_port(port: int) -> None:
    """Refuse a port that torchrun could not listen on. It may still be taken in the moment before torchrun starts.

    Raises UsageError outside 1 to 65535, LaunchError naming the listener, where seen, and the nearest free port.
    """
    if not 1 <= port <= LAST_PORT:
        near = 1 if port < 1 else LAST_PORT
        raise UsageError(f"--port {port} is no port: ports go from 1 to {LAST_PORT}; use {max(near, FIRST_OPEN_PORT)}")
    why = _why_not(port)
    if why is not None:
        near = nearest_free_port(port)
        mend = "leave --port out for a free one" if near is None else f"use --port {near}, or leave it out"
        raise LaunchError(f"port {port} of this host cannot be listened on: {why}; {mend}")


def nearest_free_port(port: int) -> int | None:
    """The free port with the smallest distance, the higher of two; None where there is none."""
    return next((near for near in _outward(port) if _why_not(near, by_whom=False) is None), None)


def _outward(port: int) -> Iterator[int]:
    for distance in range(1, LAST_PORT):
        for near in (port + distance, port - distance):
            if FIRST_OPEN_PORT <= near <= LAST_PORT:
                yield near


def _why_not(port: int, *, by_whom: bool = True) -> str | None:
    """Why no socket of this user can listen on it on every address; None where it can."""
    for family, address in _EVERYWHERE:
        try:
            _listen(family, address, port)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return f"{_listener(port) if by_whom else 'another process'} listens on it"
            if error.errno == errno.EACCES:
                return f"ports below {FIRST_OPEN_PORT} are for root"
            # A host without IPv6 has one family less to listen on.
    return None


def _listen(family: socket.AddressFamily, address: str, port: int) -> None:
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # As torch's store does: connections that wait to be forgotten are not in its way.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        probe.bind((address, port))
        probe.listen()


def _listener(port: int) -> str:
    """Who listens, as far as this user may see: `process 4711 (python -m http.server)`."""
    import psutil  # only an error gets here

    with contextlib.suppress(psutil.Error, OSError):
        for each in psutil.net_connections(kind="tcp"):
            if each.status == psutil.CONN_LISTEN and each.laddr and each.laddr.port == port and each.pid:
                return _named(each.pid)
    return "a process that cannot be seen from here"


def _named(pid: int) -> str:
    import psutil

    if pid == os.getpid():
        return f"process {pid} (this one)"
    try:
        words = psutil.Process(pid).cmdline()
    except psutil.Error:
        words = []
    command = " ".join(words)
    return f"process {pid} ({command[:80] or 'unknown'})"
