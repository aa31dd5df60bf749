"""The user's editor on a file: `$VISUAL`, `$EDITOR`, or the first of a few that every system has."""

import shlex
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from cpadvisor.errors import MissingError, UsageError

VARIABLES = ("VISUAL", "EDITOR")
USUAL = ("sensible-editor", "nano", "vim", "vi")


def editor_argv(environ: Mapping[str, str]) -> list[str]:
    """The editor and its arguments. Raises UsageError or MissingError where it cannot be started."""
    for name in VARIABLES:
        text = environ.get(name, "").strip()
        if text:
            return _require(_split(name, text), name)
    found = next((editor for editor in USUAL if shutil.which(editor, path=environ.get("PATH"))), None)
    if found is None:
        raise MissingError(f"no editor: EDITOR is not set and none of {', '.join(USUAL)} is here; set EDITOR")
    return [found]


def _split(name: str, text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise UsageError(f"${name} is {text!r}, which is no command: {error}; close the quotation") from error


def _require(argv: list[str], name: str) -> list[str]:
    if not argv or shutil.which(argv[0]) is None:
        missing = argv[0] if argv else ""
        raise MissingError(
            f"${name} names the editor {missing!r}, which is not found; set ${name} to one that is, as vi"
        )
    return argv


def edit(argv: list[str], path: Path, *, terminal: int) -> int:
    """Run the editor on the terminal, without a shell; its exit status."""
    done = subprocess.run([*argv, str(path)], stdin=terminal, stdout=terminal, stderr=terminal, check=False)
    return done.returncode
