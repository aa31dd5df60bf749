"""What a new file changes of the old one, as a unified diff."""

import difflib


def unified_diff(old: str, new: str, *, name: str = "config.yaml") -> str:
    """The difference as `diff -u` prints it; empty where the texts are the same. An empty `old` is a new file."""
    lines = difflib.unified_diff(
        old.splitlines(),
        new.splitlines(),
        fromfile=name if old else "/dev/null",
        tofile=name,
        lineterm="",
    )
    return "\n".join(lines)
