"""The pool of gloo processes that the runtime's tests share, and a folder for sockets."""

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

# --import-mode=importlib adds no folder; the pool's processes inherit this path.
sys.path.insert(0, str(Path(__file__).parent))

from gloo_pool import GlooPool


@pytest.fixture(scope="session")
def gloo_pool() -> Iterator[GlooPool]:
    pool = GlooPool()
    yield pool
    pool.close()


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A folder whose name leaves room in the 108 bytes of a socket's address, as pytest's own may not."""
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="t-") as folder:
        yield Path(folder)
