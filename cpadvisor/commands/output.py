"""Data goes to stdout, prose to stderr."""

import json
import os
import shutil
import sys
from collections.abc import Mapping
from typing import Any

NARROWEST, WIDEST = 60, 100
"""Columns between which prose is read easily."""


def text_width() -> int:
    """Columns for prose on stdout: those of the terminal or of $COLUMNS within reason, 80 where there is neither."""
    columns = shutil.get_terminal_size().columns if os.isatty(1) or "COLUMNS" in os.environ else 80
    return min(max(columns, NARROWEST), WIDEST)


def is_terminal() -> bool:
    """Whether a person sits at both ends; a stream that was closed has nobody."""
    return all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stdout))


def say(*lines: str) -> None:
    """Prose for people, one line each, on stderr."""
    for line in lines:
        print(line, file=sys.stderr, flush=True)


def print_file(text: str) -> None:
    """The text of a file on stdout, in UTF-8 as the file itself would be."""
    if sys.stdout is not None:  # None where stdout was closed, and then print() is silent, too
        sys.stdout.flush()
        sys.stdout.buffer.write(text.encode())


def print_json(data: Mapping[str, Any]) -> None:
    """One whole JSON object on stdout, in ASCII: whole in every locale and for every file name."""
    print(json.dumps(data, allow_nan=False))
