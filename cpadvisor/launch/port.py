"""A port for torchrun's rendezvous: one that nobody listens on, or who does and the nearest free one."""

import errno
import socket
from collections.abc import Iterator

from cpadvisor.errors import LaunchError, UsageError
from cpadvisor.watch.host import listener

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
                who = listener(port) if by_whom else None
                return f"{who or 'a process that cannot be seen from here'} listens on it"
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
