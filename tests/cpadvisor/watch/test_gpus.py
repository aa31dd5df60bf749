import time
from types import SimpleNamespace
from typing import Any

import pytest

from cpadvisor.watch.gpus import GpuSampler, open_sampler


class FakeError(Exception):
    """What NVML raises for a call that a product does not know."""


class FakeNvml:
    """NVML of two GPUs; `fields` holds (tx KiB, rx KiB, µs), None where NVLink is not supported."""

    NVMLError = FakeError

    def __init__(self) -> None:
        self.fields: tuple[int, int, int] | None = (0, 0, 1_000_000)
        self.broken: set[str] = set()
        self.asked: list[Any] = []

    def _check(self, name: str) -> None:
        if name in self.broken:
            raise FakeError(name)

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return 2

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802
        return index

    def nvmlDeviceGetName(self, handle: int) -> bytes:  # noqa: N802
        return b"NVIDIA H200"

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> SimpleNamespace:  # noqa: N802
        self._check("memory")
        return SimpleNamespace(used=3 * 2**30, total=143_771 * 2**20)

    def nvmlDeviceGetUtilizationRates(self, handle: int) -> SimpleNamespace:  # noqa: N802
        self._check("busy")
        return SimpleNamespace(gpu=97)

    def nvmlDeviceGetPowerUsage(self, handle: int) -> int:  # noqa: N802
        self._check("power")
        return 684_500

    def nvmlDeviceGetTemperature(self, handle: int, sensor: int) -> int:  # noqa: N802
        self._check("temperature")
        return 61

    def nvmlDeviceGetFieldValues(self, handle: int, ids: list[tuple[int, int]]) -> list[SimpleNamespace]:  # noqa: N802
        self._check("fields")
        self.asked = ids
        if self.fields is None:
            return [SimpleNamespace(nvmlReturn=3) for _ in ids]
        tx, rx, t = self.fields
        return [SimpleNamespace(nvmlReturn=0, value=SimpleNamespace(ullVal=kib), timestamp=t) for kib in (tx, rx)]


@pytest.fixture
def nvml() -> FakeNvml:
    return FakeNvml()


def test_a_sample_has_bytes_shares_watts_and_degrees(nvml: FakeNvml) -> None:
    sampler = GpuSampler(nvml)
    first, second = sampler.sample()
    assert (first.index, second.index, first.name) == (0, 1, "NVIDIA H200")
    assert (first.used_bytes, first.total_bytes) == (3_221_225_472, 150_754_820_096)
    assert (first.busy, first.power_w, first.temperature_c) == (0.97, 684.5, 61.0)
    assert sampler.latest() == (first, second)


def test_only_the_gpus_of_the_run_are_asked(nvml: FakeNvml) -> None:
    assert [sample.index for sample in GpuSampler(nvml, (1, 7)).sample()] == [1]


def test_nvlink_is_asked_over_all_links_and_needs_two_looks(nvml: FakeNvml) -> None:
    sampler = GpuSampler(nvml, (0,))
    (first,) = sampler.sample()
    assert nvml.asked == [(138, 0xFFFFFFFF), (139, 0xFFFFFFFF)]
    assert first.nvlink_tx_bytes_per_s is None
    nvml.fields = (3_145_728, 1_048_576, 1_500_000)
    (second,) = sampler.sample()
    # 3 GiB and 1 GiB in half a second
    assert second.nvlink_tx_bytes_per_s == 2 * 3 * 2**30
    assert second.nvlink_rx_bytes_per_s == 2 * 2**30


def test_a_counter_that_went_back_gives_no_rate_for_one_look(nvml: FakeNvml) -> None:
    sampler = GpuSampler(nvml, (0,))
    for fields in ((1000, 1000, 1_000_000), (10, 2000, 2_000_000), (1034, 2000, 3_000_000)):
        nvml.fields = fields
        (sample,) = sampler.sample()
        rates = (sample.nvlink_tx_bytes_per_s, sample.nvlink_rx_bytes_per_s)
        if fields[0] == 10:
            assert rates == (None, 1000 * 1024)
    assert rates == (1024 * 1024, 0.0)


def test_a_clock_that_stood_still_gives_no_rate(nvml: FakeNvml) -> None:
    sampler = GpuSampler(nvml, (0,))
    sampler.sample()
    (sample,) = sampler.sample()
    assert sample.nvlink_tx_bytes_per_s is None


def test_a_product_without_nvlink_has_no_rate(nvml: FakeNvml) -> None:
    nvml.fields = None
    sampler = GpuSampler(nvml, (0,))
    sampler.sample()
    (sample,) = sampler.sample()
    assert (sample.nvlink_tx_bytes_per_s, sample.nvlink_rx_bytes_per_s) == (None, None)


def test_each_figure_may_be_missing_alone(nvml: FakeNvml) -> None:
    nvml.broken = {"memory", "busy", "power", "temperature", "fields"}
    (sample,) = GpuSampler(nvml, (0,)).sample()
    assert (sample.used_bytes, sample.busy, sample.power_w, sample.temperature_c) == (None, None, None, None)
    nvml.broken = {"power"}
    (sample,) = GpuSampler(nvml, (0,)).sample()
    assert (sample.power_w, sample.temperature_c) == (None, 61.0)


def test_the_thread_keeps_samples_fresh_and_tells_their_age(nvml: FakeNvml) -> None:
    sampler = GpuSampler(nvml, period_s=0.01)
    assert (sampler.latest(), sampler.age_s()) == ((), None)
    sampler.start()
    deadline = time.monotonic() + 10
    while not sampler.latest():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    sampler.close()
    t = sampler.latest()[0].t
    assert sampler.age_s(t + 7) == 7


def test_without_a_driver_there_is_no_sampler(monkeypatch: pytest.MonkeyPatch) -> None:
    import pynvml

    def missing() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlInit", missing)
    assert open_sampler() is None
