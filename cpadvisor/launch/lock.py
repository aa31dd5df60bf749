"""One at a time: an advisory lock on a small file, freed by the kernel when its holder ends, however it ends."""

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from cpadvisor.errors import LaunchError, WriteError

LOCK_FILE = ".lock"
WAIT_S = 90.0
"""Above the longest a launch or a stop works while it holds a lock."""
_LOOK_S = 0.05


@contextlib.contextmanager
def held(path: Path, *, wait_s: float = WAIT_S) -> Iterator[None]:
    """Hold the lock for the time of the block; waits for another holder.

    Raises LaunchError where another holds it for all of `wait_s` or its folder is gone, which it does not make again,
    WriteError where the file cannot be made.
    """
    descriptor = _open(path)
    try:
        _take(descriptor, path, wait_s)
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def held_if_possible(path: Path, *, wait_s: float = WAIT_S) -> Iterator[None]:
    """The same for work that must be done all the same: on a full disk, in a folder of others, beside a halted one."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(LaunchError, WriteError):
            stack.enter_context(held(path, wait_s=wait_s))
        yield


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except FileNotFoundError as error:
        raise LaunchError(f"{path.parent} has vanished; `cpadvisor runs` lists the runs that there are") from error
    except OSError as error:
        raise WriteError(f"cannot write {path}: {error.strerror}; choose another place with --runs DIR") from error


def _take(descriptor: int, path: Path, wait_s: float) -> None:
    deadline = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                return  # a file system without locks: two at once may then meet, as they might without a lock
        if time.monotonic() > deadline:
            raise LaunchError(
                f"another launch or stop has held {path} for {wait_s:.0f} s; `fuser {path}` names it, "
                "end it or wait for it"
            )
        time.sleep(_LOOK_S)
