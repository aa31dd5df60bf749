"""A run is a directory: its record, config, events and logs; every file here is replaced whole or not at all."""

import contextlib
import errno
import os
import re
import shlex
import shutil
import stat
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from cpadvisor.errors import LaunchError, NoSuchRunError, WriteError

RUN_FILE = "run.json"
CONFIG_FILE = "config.yaml"
STOP_FILE = "stop.json"
EXIT_FILE = "exit.json"
AGENT_FILE = "agent.json"
"""torchrun's process and its keeper's, by the keeper: whoever would write them into the record may be gone by then."""
ERROR_FILE = "error.json"
AGENT_LOG = "log-agent.txt"
TORCHRUN_FOLDER = "torchrun"
CODE_FOLDER = "code"
CHECKPOINTS_FOLDER = "checkpoints"
"""Holds `step-<n>` for each training state that is whole."""
BALLAST_FILE = "ballast"
BALLAST_BYTES = 64 << 10
"""Space for the last events of all ranks: each is a line under 4 kB."""

_SAME_SECOND_LIMIT = 10_000

_ADVICE = {
    errno.ENOSPC: "free some space or choose another place",
    errno.EDQUOT: "your quota is used up: free some space or choose another place",
    errno.EACCES: "choose a place that you may write to",
    errno.EPERM: "choose a place that you may write to",
    errno.EROFS: "the file system is read-only: choose another place",
    errno.EEXIST: "that is a file where a folder is needed: name another folder",
    errno.EISDIR: "that is a folder: name a file",
    errno.ENOTDIR: "a part of the path is a file: name another folder",
    errno.ENAMETOOLONG: "choose a shorter name",
}


def state_root(environ: Mapping[str, str] = os.environ) -> Path:
    """Where this program keeps what it writes unasked: $XDG_STATE_HOME/cpadvisor.

    A relative XDG_STATE_HOME is ignored, as the XDG base directory specification asks.
    """
    state = Path(environ.get("XDG_STATE_HOME", ""))
    if not state.is_absolute():
        state = Path.home() / ".local" / "state"
    return state / "cpadvisor"


def runs_root(explicit: Path | None = None, environ: Mapping[str, str] = os.environ) -> Path:
    """Where runs are kept: `--runs`, else $XDG_STATE_HOME/cpadvisor/runs, else ~/.local/state/cpadvisor/runs."""
    return state_root(environ) / "runs" if explicit is None else explicit.expanduser().absolute()


def stat_of(path: Path) -> os.stat_result | None:
    """What the file system says of a path; None where nothing is there, or it lies in a folder of another user's."""
    try:
        return path.stat()
    except (OSError, ValueError):  # ValueError: a name with a zero byte
        return None


def is_there(path: Path) -> bool:
    """Whether anything is there, as far as this user may see: `Path.exists` of Python 3.11 raises PermissionError."""
    return stat_of(path) is not None


def is_file(path: Path) -> bool:
    """Whether a file is there, as far as this user may see."""
    told = stat_of(path)
    return told is not None and stat.S_ISREG(told.st_mode)


def nearest_there(path: Path) -> Path:
    """The path, or the nearest folder above it that is there: where it would be made."""
    return next(place for place in (path, *path.absolute().parents) if is_there(place))


def log_path(run_dir: Path, rank: int) -> Path:
    """What one rank printed, standard output and standard error in their order."""
    return run_dir / f"log-rank{rank}.txt"


def kept_step(run_dir: Path) -> int | None:
    """The last step whose training state lies in the run directory; None without one."""
    try:
        names = [path.name for path in (run_dir / CHECKPOINTS_FOLDER).iterdir()]
    except OSError:
        return None
    return max((int(found[1]) for name in names if (found := re.fullmatch(r"step-(\d{1,18})", name))), default=None)


def boot_id() -> str | None:
    """The kernel's name for this boot; process numbers and start ticks of another boot mean nothing here."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None


def create_run(root: Path, *, model: str, layout: str, now: float | None = None) -> Path:
    """A new directory `<utc time>-<model>-<layout>` of mode 0700; a second one within the second gets `-2`."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
    name = f"{stamp}-{_file_name(model)}-{_file_name(layout.replace('×', 'x'))}"
    make_root(root)
    with _telling_why(root):
        for number in range(1, _SAME_SECOND_LIMIT):
            directory = root / (name if number == 1 else f"{name}-{number}")
            with contextlib.suppress(FileExistsError):
                directory.mkdir(mode=0o700)
                directory.chmod(0o700)
                return directory
    raise LaunchError(f"{root} holds {_SAME_SECOND_LIMIT - 1} runs named {name}; wait a second and start again")


def make_root(root: Path) -> None:
    """Make the folder for runs where it is not there."""
    with _telling_why(root):
        root.mkdir(parents=True, exist_ok=True, mode=0o700)


def write_ballast(run_dir: Path) -> None:
    """Take space that a rank gives back when the disk is full, so that its last event still has a place.

    The bytes are random: some file systems keep no block for zeros. Raises WriteError on a disk that is full already.
    """
    path = run_dir / BALLAST_FILE
    with _telling_why(path), path.open("wb") as file:
        file.write(os.urandom(BALLAST_BYTES))
        file.flush()
        os.fsync(file.fileno())


def _file_name(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-.") or "run"


def list_runs(root: Path) -> tuple[Path, ...]:
    """Directories with a record, oldest first: none where there is no root.

    Hidden ones are on their way out, and those of other users, who keep them private, are left out.
    """
    try:
        entries = sorted(root.iterdir(), key=_age_order)
    except OSError:
        return ()
    return tuple(path for path in entries if not path.name.startswith(".") and is_file(path / RUN_FILE))


def _age_order(path: Path) -> tuple[str, int, str]:
    """By time, then by the number of those that began within one second, which has no leading zeros."""
    number = re.search(r"-(\d+)$", path.name)
    return path.name[:16], int(number[1]) if number else 1, path.name


def find_run(root: Path, name_prefix: str) -> Path:
    """The run of this name, the one run whose name begins so, or a run directory given by its path.

    Raises NoSuchRunError naming the runs between which the prefix does not decide, or those that there are.
    """
    given = Path(name_prefix).expanduser()
    if "/" in name_prefix and is_file(given / RUN_FILE):
        return given.absolute()
    if "/" in name_prefix and stat_of(given) is not None:
        raise NoSuchRunError(
            f"{given} is no run: it has no {RUN_FILE} that you may read; `cpadvisor runs` lists the runs"
        )
    runs = {path.name: path for path in list_runs(root)}
    if name_prefix in runs:
        return runs[name_prefix]
    matches = [name for name in runs if name_prefix and name.startswith(name_prefix)]
    if len(matches) == 1:
        return runs[matches[0]]
    if matches:
        raise NoSuchRunError(
            f"{name_prefix!r} begins the names of {len(matches)} runs: {_few(matches)}; give more of the name"
        )
    if not runs:
        raise NoSuchRunError(f"no run {name_prefix!r}: {root} holds no runs; start one with `cpadvisor launch FILE`")
    raise NoSuchRunError(f"no run {name_prefix!r} in {root}; it holds {_few(list(runs))}")


def command_name(run_dir: Path) -> str:
    """How a command names a run: by its name where runs usually are, else by its path."""
    path = run_dir.absolute()
    return path.name if path.parent == runs_root() else str(path)


def shell_name(run_dir: Path) -> str:
    """The same, as a shell reads it."""
    return shlex.quote(command_name(run_dir))


def _few(names: list[str]) -> str:
    shown = ", ".join(names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"


def read_existing(path: Path) -> str | None:
    """The text of a file, None where there is none yet. Raises WriteError where it is there and is no text."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        raise WriteError(f"cannot read {path}: {reason}; name another file, or mend this one") from error


def write_atomically(path: Path, text: str, *, makes_folder: bool = True) -> None:
    """Replace a file whole: written beside it, synced, renamed. Raises WriteError; the old file then stays as it was.

    The mode of an old file is kept, and a symbolic link goes on pointing where it points. Without `makes_folder` a
    folder that is not there is an error: a run directory that has vanished must not come back with one file in it.
    """
    target = path.resolve() if path.is_symlink() else path
    with _telling_why(path):
        if target.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if makes_folder:
            target.parent.mkdir(parents=True, exist_ok=True)
        fresh = target.with_name(f".{target.name[:100]}.{os.getpid()}.{time.monotonic_ns()}")
        try:
            with fresh.open("x", encoding="utf-8", newline="") as file:
                file.write(text)
                file.flush()
                if target.exists():
                    os.fchmod(file.fileno(), stat.S_IMODE(target.stat().st_mode))
                os.fsync(file.fileno())
            fresh.replace(target)
        except BaseException:
            fresh.unlink(missing_ok=True)
            raise
        _sync_folder(target.parent)


def replace_with_backup(path: Path, text: str) -> Path | None:
    """Replace a file and keep its old content as FILE.bak; gives that path, None where there was no old content.

    A file that already holds this text is left alone.
    """
    backup = path.with_name(path.name + ".bak")
    with _telling_why(path):
        old = path.read_bytes() if path.is_file() else None
    if old == text.encode():
        return None
    if old is not None:
        with _telling_why(backup):
            shutil.copy2(path, backup)
    write_atomically(path, text)
    return None if old is None else backup


def _sync_folder(folder: Path) -> None:
    """Make the rename itself durable; file systems that cannot sync a folder are left to their habits."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def _telling_why(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        advice = _ADVICE.get(error.errno or 0, "choose another place")
        reason = error.strerror or str(error)
        raise WriteError(f"cannot write {path}: {reason}; {advice} (what was there is unchanged)") from error
