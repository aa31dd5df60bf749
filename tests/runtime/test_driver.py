import ctypes
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from runtime import driver

Calls = list[tuple[str, tuple[Any, ...]]]


class FakeFunction:
    """A function of the library: notes what it is called with, each argument as its C type holds it."""

    def __init__(self, name: str, calls: Calls, status: int) -> None:
        self.argtypes: tuple[Any, ...] = ()
        self._name, self._calls, self._status = name, calls, status

    def __call__(self, *arguments: int) -> int:
        held = [kind(argument).value for kind, argument in zip(self.argtypes, arguments, strict=True)]
        self._calls.append((self._name, tuple(held)))
        return self._status


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], Calls]]:
    """Puts a library in the driver's place whose functions return a status; gives what they are called with."""

    def load(status: int) -> Calls:
        calls: Calls = []

        class Library:
            def __init__(self, name: str) -> None:
                assert name == "libcuda.so.1"

            def __getattr__(self, name: str) -> FakeFunction:
                return FakeFunction(name, calls, status)

        monkeypatch.setattr(ctypes, "CDLL", Library)
        driver._function.cache_clear()
        return calls

    yield load
    driver._function.cache_clear()


STREAM, ADDRESS, PEER = 0x7F00_1234_5678, 0x7FA0_0000_0100, 0x7FB0_0000_0200
"""Handles and addresses of 64 bits, of which none may be cut."""


def test_a_flag_is_written_after_all_that_the_stream_wrote_before_and_awaited_until_it_is_reached(library) -> None:
    calls = library(0)
    driver.write_flag(STREAM, ADDRESS, 7)
    driver.wait_for_flag(STREAM, PEER, 8)
    # cuda.h: CU_STREAM_WRITE_VALUE_DEFAULT is 0, CU_STREAM_WAIT_VALUE_GEQ is 0.
    assert calls == [
        ("cuStreamWriteValue32_v2", (STREAM, ADDRESS, 7, 0)),
        ("cuStreamWaitValue32_v2", (STREAM, PEER, 8, 0)),
    ]


def test_values_beyond_32_bits_wrap_around(library) -> None:
    calls = library(0)
    driver.write_flag(STREAM, ADDRESS, 2**32 + 5)
    driver.wait_for_flag(STREAM, ADDRESS, 2**32 - 1)
    assert [arguments[2] for _, arguments in calls] == [5, 2**32 - 1]


def test_a_copy_names_its_place_before_its_source(library) -> None:
    calls = library(0)
    driver.copy(STREAM, to=PEER, source=ADDRESS, size_bytes=5 << 30)
    assert calls == [("cuMemcpyDtoDAsync_v2", (PEER, ADDRESS, 5 << 30, STREAM))]


def test_an_error_of_the_driver_is_told_with_its_number_and_the_function(library) -> None:
    library(801)  # CUDA_ERROR_NOT_SUPPORTED
    with pytest.raises(RuntimeError, match="cuStreamWriteValue32_v2 failed with CUDA driver error 801"):
        driver.write_flag(STREAM, ADDRESS, 1)


def test_a_machine_without_the_driver_raises_oserror(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", missing)
    driver._function.cache_clear()
    with pytest.raises(OSError, match=r"libcuda\.so\.1"):
        driver.copy(STREAM, ADDRESS, PEER, 4)
