"""The pool of gloo processes that the runtime's tests share."""

import sys
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
