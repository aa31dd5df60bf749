"""A small NVML in place of the driver's."""

import pytest
from fake_nvml import FakeNvml, FakeWitness


@pytest.fixture(scope="session")
def fake_nvml():
    return FakeNvml


@pytest.fixture(scope="session")
def fake_witness():
    return FakeWitness
