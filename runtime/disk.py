"""A full disk, or a run directory that is gone: in which words it is told, and the ballast that makes room for them."""

import errno
import os
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from runtime.errors import DiskFullError, TrainerError, VanishedError

BALLAST = "ballast"
"""File in the run directory that holds some space back: who cannot write removes it and says so in that space."""

_FULL = (errno.ENOSPC, errno.EDQUOT)


def is_full(error: BaseException) -> bool:
    """Whether an error says that the disk, or the user's share of it, is used up."""
    return isinstance(error, OSError) and error.errno in _FULL


def failure(error: OSError, path: Path) -> TrainerError:
    """What to raise for a file that cannot be written: DiskFullError with the bytes that are free, or plain words."""
    why = error.strerror or str(error)
    if not is_full(error):
        return TrainerError(f"cannot write {path}: {why}")
    free = free_bytes(path)
    left = "" if free is None else f" ({free:,} bytes are free there)"
    return DiskFullError(f"the disk is full: cannot write {path}: {why}{left}; free some space, then resume the run")


def vanished(run_dir: Path) -> VanishedError:
    """What to raise where the run directory was removed or moved under a live run."""
    return VanishedError(
        f"the run directory {run_dir} is gone: nobody can watch, stop or resume this run any more, "
        "so it ends here; leave a run's directory in place until the run is over"
    )


def free_bytes(path: Path) -> int | None:
    """Bytes that this user may still write where `path` lies or would lie; None where nothing says so."""
    for place in (path, *path.parents):
        with suppress(OSError):
            state = os.statvfs(place)
            return state.f_bavail * state.f_frsize
    return None


def drop_ballast(run_dir: Path) -> None:
    """Give the space back that the run directory holds for its last words."""
    with suppress(OSError):
        (run_dir / BALLAST).unlink()


def silence(stream: TextIO) -> None:
    """Send a standard stream nowhere, and what it could not write before.

    That waits in its buffer: at exit Python would try again, and leave with status 120.
    """
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
