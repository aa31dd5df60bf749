"""GPUs of one host as threads: memory that all of them write, a driver that really writes, waits and copies, streams.

For the copy engine and the lanes above it. A rank is a thread. With `Driver` a
stream is the thread of its rank, which does each thing when it is asked for; with
`StreamDriver` and `Stream` the thread of a rank is the host, which runs ahead.
"""

import ctypes
import itertools
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from runtime import copy_engine

PATIENCE_S = 20.0


class Host:
    """What the ranks of a group share: where they meet, the memory that each of them made."""

    def __init__(self, ranks: int) -> None:
        self.ranks = ranks
        self.made: list[list[Tensor]] = [[] for _ in range(ranks)]
        self.barrier = threading.Barrier(ranks, timeout=PATIENCE_S)


@dataclass(frozen=True)
class Group:
    """The group of one rank."""

    rank: int
    host: Host
    group_name: str = "gpus of a host"


class Shared:
    """Stands in for copy_engine._Shared on plain memory, which every thread has mapped."""

    def __init__(self, size: int, group: Group, device: torch.device) -> None:
        self._own = torch.zeros(size, dtype=torch.uint8)
        made = group.host.made
        made[group.rank].append(self._own)  # kept, as a peer's mapping keeps memory that its owner let go
        nth = len(made[group.rank]) - 1
        group.host.barrier.wait()
        assert {len(own[nth]) for own in made} == {size}, "all ranks make room for as much at the same time"
        self.addresses = [own[nth].data_ptr() for own in made]

    views = copy_engine._Shared.views


class Driver:
    """Stands in for runtime.driver."""

    def __init__(self) -> None:
        self.failures: list[BaseException] = []
        """Of all ranks, the first one first; the others fail for want of that rank."""

    def write_flag(self, stream: int, address: int, value: int) -> None:
        ctypes.c_int32.from_address(address).value = value

    def wait_for_flag(self, stream: int, address: int, value: int) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while ctypes.c_int32.from_address(address).value - value < 0:
            assert time.monotonic() < deadline and not self.failures, f"no flag reached {value}"
            time.sleep(0)

    def copy(self, stream: int, to: int, source: int, size_bytes: int) -> None:
        half = size_bytes // 2
        ctypes.memmove(to, source, half)
        time.sleep(0)  # others run while a message is half there
        ctypes.memmove(to + half, source + half, size_bytes - half)


class Stream:
    """Work done in order by a thread of its own, long after it was asked for."""

    _numbers = itertools.count(1)
    by_handle: dict[int, "Stream"] = {}  # noqa: RUF012

    def __init__(self, device: torch.device | None = None, priority: int = 0) -> None:
        self.cuda_stream = next(self._numbers)
        self.by_handle[self.cuda_stream] = self
        self.failures: list[BaseException] = []
        self._work: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
        threading.Thread(target=self._run, daemon=True).start()

    def enqueue(self, work: Callable[[], object]) -> None:
        self._work.put(work)

    def record_event(self) -> threading.Event:
        event = threading.Event()
        self.enqueue(event.set)
        return event

    def wait_event(self, event: threading.Event) -> None:
        self.enqueue(lambda: event.wait(PATIENCE_S))

    def synchronize(self) -> None:
        """Wait until all is done; what went wrong on this stream is raised."""
        done = self.record_event().wait(PATIENCE_S)
        if self.failures:
            raise self.failures[0]
        assert done, f"stream {self.cuda_stream} does not end"

    def _run(self) -> None:
        while True:
            try:
                self._work.get()()
            except BaseException as failure:
                self.failures.append(failure)


class StreamDriver(Driver):
    """The driver on streams that run behind their host."""

    def write_flag(self, stream: int, address: int, value: int) -> None:
        Stream.by_handle[stream].enqueue(lambda: super(StreamDriver, self).write_flag(stream, address, value))

    def wait_for_flag(self, stream: int, address: int, value: int) -> None:
        Stream.by_handle[stream].enqueue(lambda: super(StreamDriver, self).wait_for_flag(stream, address, value))

    def copy(self, stream: int, to: int, source: int, size_bytes: int) -> None:
        Stream.by_handle[stream].enqueue(lambda: super(StreamDriver, self).copy(stream, to, source, size_bytes))


class Ranks:
    """Puts stand-ins in the place of shared memory, driver and groups, and runs functions as ranks."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._patch = monkeypatch
        monkeypatch.setattr(copy_engine, "_Shared", Shared)
        monkeypatch.setattr(copy_engine, "dist", GROUPS)

    def run(self, ranks: int, fn: Callable[..., Any], *args: Any, driver: Driver | None = None) -> list[Any]:
        """Call `fn(group, *args)` on a thread a rank; the results in rank order."""
        driver = driver or Driver()
        self._patch.setattr(copy_engine, "driver", driver)
        host = Host(ranks)

        def one(rank: int) -> Any:
            try:
                return fn(Group(rank, host), *args)
            except BaseException as failure:
                driver.failures.append(failure)
                host.barrier.abort()

        with ThreadPoolExecutor(ranks) as pool:
            results = list(pool.map(one, range(ranks)))
        if driver.failures:
            raise driver.failures[0]
        return results


GROUPS = SimpleNamespace(get_rank=lambda group: group.rank, get_world_size=lambda group: group.host.ranks)
"""What of torch.distributed a lane asks for."""
