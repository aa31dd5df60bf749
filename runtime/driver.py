"""Work for GPU streams that torch has no call for: flags in each other's memory, and plain copies to any address.

The driver's stream memory operations write a flag after all earlier work of a
stream, and hold back all later work of a stream until a flag is set. They involve
neither a kernel nor the host, so they do not queue behind a running attention
kernel for a multiprocessor. Streams are handles, addresses are as this GPU has
memory mapped, its peers' included.
"""

import ctypes
from collections.abc import Callable
from functools import cache

_AT_LEAST = 0
"""CU_STREAM_WAIT_VALUE_GEQ: the difference as a signed number counts, so values may wrap around (cuda.h)."""
_AFTER_BARRIER = 0
"""CU_STREAM_WRITE_VALUE_DEFAULT: what the stream wrote before is visible to all first (cuda.h)."""

_FLAG_ARGUMENTS = (ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint32, ctypes.c_uint)
_ARGUMENTS = {
    "cuStreamWriteValue32_v2": _FLAG_ARGUMENTS,
    "cuStreamWaitValue32_v2": _FLAG_ARGUMENTS,
    "cuMemcpyDtoDAsync_v2": (ctypes.c_uint64, ctypes.c_uint64, ctypes.c_size_t, ctypes.c_void_p),
}


@cache
def _function(name: str) -> Callable[..., int]:
    function = getattr(ctypes.CDLL("libcuda.so.1"), name)
    function.argtypes = _ARGUMENTS[name]
    return function


def _call(name: str, *arguments: int) -> None:
    status = _function(name)(*arguments)
    if status:
        raise RuntimeError(f"{name} failed with CUDA driver error {status}")


def write_flag(stream: int, address: int, value: int) -> None:
    """Store 32 bits once the stream comes to it."""
    _call("cuStreamWriteValue32_v2", stream, address, value & 0xFFFFFFFF, _AFTER_BARRIER)


def wait_for_flag(stream: int, address: int, value: int) -> None:
    """Hold the stream back until the 32 bits are at least `value`."""
    _call("cuStreamWaitValue32_v2", stream, address, value & 0xFFFFFFFF, _AT_LEAST)


def copy(stream: int, to: int, source: int, size_bytes: int) -> None:
    """Copy between two addresses of GPU memory."""
    _call("cuMemcpyDtoDAsync_v2", to, source, size_bytes, stream)
