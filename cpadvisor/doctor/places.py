"""What stands at a path, as far as this user may see: a path inside another's folder counts as not there."""

import stat
from pathlib import Path


def is_there(path: Path) -> bool:
    """Whether anything stands there."""
    return _mode(path) is not None


def is_file(path: Path) -> bool:
    """Whether a file stands there."""
    return stat.S_ISREG(_mode(path) or 0)


def _mode(path: Path) -> int | None:
    """`Path.exists` and `Path.is_file` of Python 3.11 raise PermissionError."""
    try:
        return path.stat().st_mode
    except (OSError, ValueError):
        return None
