"""What several folders of tests share lies in tests/support, which importlib's import mode has to be told."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from fault_scene import Scene

sys.path.insert(0, str(Path(__file__).parent / "support"))


@pytest.fixture
def here(tmp_path: Path) -> "Iterator[Scene]":
    """A training of the real trainer, the app that watches it, the commands that tell of it; nothing is left of it."""
    from fault_scene import scene

    with scene(tmp_path) as made:
        yield made
