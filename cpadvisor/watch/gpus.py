"""What the GPUs do now: one thread asks NVML each second and leaves a frozen row a GPU for whoever looks.

These are the figures that the card's row K4 reads off `nvidia-smi dmon`, and more.

NVML may stall for seconds when a GPU is lost, so nobody who draws ever calls it;
the age of the last rows tells when it does. Every figure may be missing: a
call that a product or a driver does not know gives None, never a crash.
"""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

PERIOD_S = 1.0
"""The driver renews utilisation at most six times a second, and each GPU costs about 6 ms a look (H200)."""

_ALL_LINKS = 0xFFFFFFFF  # nvml.h: scopeId UINT_MAX asks for the sum over all links
_NVLINK_DATA_TX, _NVLINK_DATA_RX = 138, 139  # NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_TX and _RX, in KiB since the start
_TEMPERATURE_OF_GPU = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuSample:
    """One GPU at one instant."""

    index: int
    t: float
    """Unix seconds."""
    name: str | None = None
    used_bytes: int | None = None
    total_bytes: int | None = None
    busy: float | None = None
    """Share of the time in which any kernel ran, 0 to 1; a hung collective shows 1."""
    power_w: float | None = None
    temperature_c: float | None = None
    nvlink_tx_bytes_per_s: float | None = None
    """Sent over all NVLinks since the sample before, by whatever used them."""
    nvlink_rx_bytes_per_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Counters:
    """NVLink counters of one GPU at one instant."""

    tx_kib: int
    rx_kib: int
    t_us: int


class GpuSampler:
    """Samples GPUs in a thread of its own between `start` and `close`; `latest` never waits."""

    def __init__(self, nvml: Any, indices: Sequence[int] | None = None, *, period_s: float = PERIOD_S) -> None:
        self._nvml = nvml
        count = nvml.nvmlDeviceGetCount()
        wanted = range(count) if indices is None else [index for index in indices if index < count]
        self._handles = {index: nvml.nvmlDeviceGetHandleByIndex(index) for index in wanted}
        self._names = {index: self._name(handle) for index, handle in self._handles.items()}
        self._period_s = period_s
        self._counters: dict[int, _Counters] = {}
        self._latest: tuple[GpuSample, ...] = ()
        self._done = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to sample each period."""
        self._thread = threading.Thread(target=self._loop, name="nvml", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Let the thread end; a call that NVML never answers is left behind."""
        self._done.set()
        if self._thread is not None:
            self._thread.join(timeout=self._period_s)

    def latest(self) -> tuple[GpuSample, ...]:
        """The newest row of each GPU; empty before the first look."""
        return self._latest

    def age_s(self, now: float | None = None) -> float | None:
        """Seconds since the newest rows; above some periods NVML stalls. None before the first look."""
        return (time.time() if now is None else now) - self._latest[0].t if self._latest else None

    def sample(self) -> tuple[GpuSample, ...]:
        """Look once, now. From one thread only: parts of NVML are not safe in parallel."""
        self._latest = tuple(self._sample_one(index, handle) for index, handle in self._handles.items())
        return self._latest

    def _loop(self) -> None:
        while not self._done.is_set():
            self.sample()
            self._done.wait(self._period_s)

    def _sample_one(self, index: int, handle: Any) -> GpuSample:
        nvml = self._nvml
        memory = self._ask(lambda: nvml.nvmlDeviceGetMemoryInfo(handle))
        busy = self._ask(lambda: nvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100)
        milliwatts = self._ask(lambda: nvml.nvmlDeviceGetPowerUsage(handle))
        sent, received = self._nvlink_rates(index, handle)
        return GpuSample(
            index=index,
            t=time.time(),
            name=self._names[index],
            used_bytes=None if memory is None else int(memory.used),
            total_bytes=None if memory is None else int(memory.total),
            busy=busy,
            power_w=None if milliwatts is None else milliwatts / 1000,
            temperature_c=self._ask(lambda: float(nvml.nvmlDeviceGetTemperature(handle, _TEMPERATURE_OF_GPU))),
            nvlink_tx_bytes_per_s=sent,
            nvlink_rx_bytes_per_s=received,
        )

    def _nvlink_rates(self, index: int, handle: Any) -> tuple[float | None, float | None]:
        """Rates since the last look: KiB x 1024 / seconds. 3,145,728 KiB in 1 s are 3.22e9 bytes/s.

        A counter that went back (a reset, a wrap) gives no rate for that interval.
        """
        now = self._ask(lambda: _read_counters(self._nvml, handle))
        before = self._counters.get(index)
        if now is None:
            self._counters.pop(index, None)
            return None, None
        self._counters[index] = now
        if before is None or now.t_us <= before.t_us:
            return None, None
        seconds = (now.t_us - before.t_us) / 1e6
        return (
            _rate(now.tx_kib - before.tx_kib, seconds),
            _rate(now.rx_kib - before.rx_kib, seconds),
        )

    def _name(self, handle: Any) -> str | None:
        return self._ask(lambda: _text(self._nvml.nvmlDeviceGetName(handle)))

    def _ask(self, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except self._nvml.NVMLError:
            return None


def open_sampler(indices: Sequence[int] | None = None) -> GpuSampler | None:
    """A sampler over the GPUs of this machine; None without a driver or a GPU."""
    import pynvml  # costs 30 ms, and only machines with a driver can use it

    try:
        pynvml.nvmlInit()
        sampler = GpuSampler(pynvml, indices)
    except pynvml.NVMLError:
        return None
    return sampler if sampler.sample() else None


def _read_counters(nvml: Any, handle: Any) -> _Counters | None:
    values = nvml.nvmlDeviceGetFieldValues(handle, [(_NVLINK_DATA_TX, _ALL_LINKS), (_NVLINK_DATA_RX, _ALL_LINKS)])
    if any(value.nvmlReturn for value in values):
        return None
    sent, received = values
    return _Counters(
        tx_kib=int(sent.value.ullVal),
        rx_kib=int(received.value.ullVal),
        t_us=int(sent.timestamp) or time.time_ns() // 1000,
    )


def _rate(kib: int, seconds: float) -> float | None:
    return kib * 1024 / seconds if kib >= 0 else None


def _text(value: str | bytes) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value
