"""Data goes to stdout, prose to stderr."""

import json
import sys
from collections.abc import Mapping
from typing import Any


def say(*lines: str) -> None:
    """Prose for people, one line each, on stderr."""
    for line in lines:
        print(line, file=sys.stderr, flush=True)


def print_json(data: Mapping[str, Any]) -> None:
    """One whole JSON object on stdout."""
    print(json.dumps(data, ensure_ascii=False, allow_nan=False))
