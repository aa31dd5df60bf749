"""Where the training states of a run lie: `checkpoints/step-<n>` in its run directory, whole or not there.

A state is written as step-<n>.partial and renamed when it is whole, so a folder
under its own name is torn only where something outside tore it.
"""

import re
import shutil
from collections.abc import Iterator
from itertools import count
from pathlib import Path

from runtime import state_index

FOLDER = "checkpoints"
PARTIAL = ".partial"
_NAME = re.compile(r"step-(\d+)")


def final(run_dir: Path, step: int) -> Path:
    """Where the state after a step lies."""
    return run_dir / FOLDER / f"step-{step}"


def partial(run_dir: Path, step: int) -> Path:
    """Where it is written."""
    return run_dir / FOLDER / f"step-{step}{PARTIAL}"


def steps(run_dir: Path) -> list[int]:
    """The steps whose states lie under their own names, whole or not, rising."""
    return sorted(int(match[1]) for path in _entries(run_dir) if (match := _NAME.fullmatch(path.name)))


def newest_whole(run_dir: Path) -> tuple[int | None, tuple[str, ...]]:
    """The last step with a whole state, None without one; and why later ones, and unfinished ones, were passed over."""
    passed_over = [f"{path} was not finished" for path in _entries(run_dir) if path.name.endswith(PARTIAL)]
    for step in reversed(steps(run_dir)):
        defect = state_index.defect(final(run_dir, step))
        if defect is None:
            return step, tuple(passed_over)
        passed_over.append(f"{final(run_dir, step)} is not whole: {defect}")
    return None, tuple(passed_over)


def begin(run_dir: Path, step: int) -> None:
    """Make the folder that a state is written to, empty. The run directory itself has to be there."""
    (run_dir / FOLDER).mkdir(exist_ok=True)
    shutil.rmtree(partial(run_dir, step), ignore_errors=True)
    partial(run_dir, step).mkdir()


def finish(run_dir: Path, step: int) -> None:
    """Give a state that is whole its own name; a torn one that had it gives way."""
    if final(run_dir, step).exists():
        shutil.rmtree(final(run_dir, step))
    partial(run_dir, step).replace(final(run_dir, step))


def give_up(run_dir: Path, step: int) -> None:
    """Remove what was written of a state: a part serves nobody, and its bytes keep the disk full."""
    shutil.rmtree(partial(run_dir, step), ignore_errors=True)


def keep_last(run_dir: Path, keep: int) -> None:
    """Remove all but the last `keep` states, and what earlier processes left unfinished."""
    for step in steps(run_dir)[:-keep]:
        shutil.rmtree(final(run_dir, step), ignore_errors=True)
    for path in list(_entries(run_dir)):
        if path.name.endswith(PARTIAL):
            shutil.rmtree(path, ignore_errors=True)


def set_aside(run_dir: Path) -> Path | None:
    """Move the states of an earlier run out of the way of a fresh one; where they lie now, None if there were none."""
    if not steps(run_dir):
        return None
    free = next(place for n in count(1) if not (place := run_dir / f"{FOLDER}.{n}").exists())
    (run_dir / FOLDER).replace(free)
    return free


def size_bytes(folder: Path) -> int:
    """Bytes of the files of one state."""
    return sum(path.stat().st_size for path in folder.iterdir())


def _entries(run_dir: Path) -> Iterator[Path]:
    folder = run_dir / FOLDER
    return iter(sorted(folder.iterdir())) if folder.is_dir() else iter(())
