"""The door of a rank: a unix socket that tells what the main thread is doing, also while that thread hangs.

torch's WorkerServer listens in a thread of its own. `POST /handler/cpadvisor`
answers JSON with rank, step, phase, seconds since the last sign of life, exchanges
begun, and the main thread's Python stack; it needs the interpreter's lock, which a
thread that waits in a collective or sleeps has given up. torch's own
`dump_traceback`, behind the same door, needs no lock.
"""

import ctypes
import json
import os
import socket
import stat
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

from runtime.errors import TrainerError
from runtime.progress import Progress

HANDLER = "cpadvisor"
MAX_PATH_BYTES = 107
"""A unix socket's address holds 108 bytes, the last of them zero."""
DEEPEST = 200
"""Innermost frames that are told."""
PREFIX = "cpadvisor-door-"
STALE_S = 60.0
"""A door that refuses after so long is not about to open: its process was killed and could not take it away."""


class DoorError(TrainerError):
    """No door can be opened here; training goes on without."""


class Door:
    """One rank's door: closed, then open, then closed for good."""

    def __init__(self, *, rank: int, progress: Progress) -> None:
        self._rank = rank
        self._progress = progress
        self._folder: Path | None = None
        self.path: Path | None = None
        """Of the socket; None while the door is closed."""

    def open(self) -> Path:
        """Listen on a socket that this user alone reaches; its path. Raises DoorError with the reasons why not."""
        reasons: list[str] = []
        for base in _places():
            try:
                return self._open_in(base)
            # torch raises RuntimeError for a socket that cannot be bound, and ImportError where it has no such server.
            except (OSError, RuntimeError, ImportError, AttributeError) as error:
                self.close()
                reasons.append(f"{base}: {str(error).splitlines()[0] if str(error) else type(error).__name__}")
        raise DoorError("no door for questions while this rank hangs: " + "; ".join(reasons))

    def close(self) -> None:
        """Take socket and folder away. Never fails, and may be called again."""
        with suppress(OSError):
            if self.path is not None:
                self.path.unlink(missing_ok=True)
            if self._folder is not None:
                self._folder.rmdir()
        self.path = self._folder = None

    def answer(self) -> bytes:
        """What the handler tells, in JSON."""
        progress = self._progress
        place = {"rank": self._rank, "step": progress.step, "phase": progress.phase, "since_s": progress.since_s()}
        return json.dumps({**place, "exchanges": self._exchanges(), "stack": stack_of_main_thread()}).encode()

    def _exchanges(self) -> int | None:
        """None before the ranks have met, and for groups that do not count, whatever they raise: the rest is told."""
        try:
            return None if self._progress.exchanges is None else self._progress.exchanges()
        except Exception:
            return None

    def _open_in(self, base: Path) -> Path:
        _sweep(base)
        self._folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=base))  # mode 0700
        path = self._folder / f"rank{self._rank}.sock"
        if len(os.fsencode(path)) > MAX_PATH_BYTES:
            raise OSError(f"{path} is longer than the {MAX_PATH_BYTES} bytes of a socket's path")
        self.path = path
        _listen(path, self)
        path.chmod(0o600)
        return path


def _places() -> Iterator[Path]:
    """Folders to try: the user's runtime folder, the temporary one, and the one with the shortest name."""
    named = (os.environ.get("XDG_RUNTIME_DIR"), tempfile.gettempdir(), "/tmp")
    yield from dict.fromkeys(Path(name) for name in named if name and Path(name).is_absolute())


def _sweep(base: Path) -> None:
    """Take away what this user's killed processes left: folders of doors alone, never what a link leads to."""
    for folder in base.glob(f"{PREFIX}*"):
        with suppress(OSError):
            if _is_old_and_own(folder) and all(_is_closed_door(path) for path in folder.iterdir()):
                for path in folder.iterdir():
                    path.unlink()
                folder.rmdir()


def _is_old_and_own(folder: Path) -> bool:
    state = folder.lstat()
    return stat.S_ISDIR(state.st_mode) and state.st_uid == os.getuid() and time.time() - state.st_mtime > STALE_S


def _is_closed_door(path: Path) -> bool:
    """A socket behind which nobody listens; connecting to a plain file is refused too."""
    if not stat.S_ISSOCK(path.lstat().st_mode):
        return False
    with socket.socket(socket.AF_UNIX) as asker:
        asker.settimeout(0.1)
        try:
            asker.connect(str(path))
        except ConnectionRefusedError:
            return True
        except OSError:
            return False
    return False


_open: list[Door] = []
"""The door that answers now. torch keeps one handler of a name for the life of the process."""


def _listen(path: Path, door: Door) -> None:
    from torch._C import _distributed_c10d as c10d

    _open[:] = [door]
    with suppress(ValueError):  # an earlier door of this process has registered it
        c10d._register_handler(HANDLER, _answer)
        # torch drops its reference when the process ends, without the interpreter's lock: were it the last one, the
        # process would abort. So there is always another.
        _keep_for_ever(_answer)
    # Shutting the server down holds the interpreter's lock until the handlers are through, which wait for that lock.
    # The server is left to the end of the process instead; without its socket nobody reaches it.
    _keep_for_ever(c10d._WorkerServer(str(path)))


def _keep_for_ever(thing: Any) -> None:
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


def _answer(_request: Any, response: Any) -> None:
    response.set_content(_open[0].answer(), "application/json")
    response.set_status(200)


def stack_of_main_thread() -> list[str]:
    """`file:line function` of each frame, innermost last; empty where the thread runs no Python."""
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    return [f"{frame.f_code.co_filename}:{frame.f_lineno} {frame.f_code.co_name}" for frame in _outwards(frame)][::-1]


def _outwards(frame: FrameType | None) -> Iterator[FrameType]:
    for _ in range(DEEPEST):
        if frame is None:
            return
        yield frame
        frame = frame.f_back
