"""Messages that GPUs of one host push into each other's memory with their copy engines.

NCCL moves data with kernels, which take multiprocessors from the attention that
runs beside them and queue behind it. Here each rank owns the places of a lane in
symmetric memory, which every rank of the group has mapped; a sender writes
straight into the place at the other end. Two counters guard the places of a pair:
the owner sets one when a place is free for exchange n, the sender the other when
it is full. NVLink multicast is not needed.
"""

import math
import os
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from runtime import driver

VARIABLE = "CPADVISOR_TRANSPORT"
"""Set to `sends` it leaves the messages to NCCL; without it the copy engines are used where they can be."""
SENDS = "sends"

ALIGNMENT = 256
FLAG_BYTES = 4
FREE, FULL = 0, 1
"""The two counters that each pair of ranks has in a lane."""


class CopyEngine:
    """The transport of one lane; see runtime.comm.Transport."""

    def __init__(self, group: dist.ProcessGroup, device: torch.device, *, slots: int) -> None:
        """Of two slots one is read while the other is filled."""
        self._group, self._device = group, device
        self._rank, self._size = dist.get_rank(group), dist.get_world_size(group)
        self._slots = slots
        self._room_bytes = 0
        """Of one source in one slot."""
        self._sources = 0
        self._exchanges = 0
        self._memory: _Shared | None = None
        self._known: dict[tuple[object, ...], tuple[Tensor, ...]] = {}
        """Views that were made before."""

    @property
    def held_bytes(self) -> int:
        """Memory of this rank's end."""
        return _flags_bytes(self._size) + self._slots * self._sources * self._room_bytes if self._memory else 0

    def places(
        self, incoming: Mapping[int, Sequence[Sequence[int]]], like: Tensor, room_bytes: int
    ) -> dict[int, tuple[Tensor, ...]]:
        """Views of this rank's own memory; the places of an earlier exchange become free with this call."""
        self._make_room(room_bytes, len(incoming))
        self._exchanges += 1
        return {source: self._views(source, shapes, like.dtype) for source, shapes in incoming.items()}

    def exchange(
        self,
        outgoing: Mapping[int, tuple[Tensor, ...]],
        places: Mapping[int, object],
        stream: torch.cuda.Stream,
        on_its_way: Callable[[], None],
    ) -> None:
        """Say that the places here are free, hear the same of the peers, copy, say so, hear that all is here."""
        handle = stream.cuda_stream
        for source in places:
            driver.write_flag(handle, self._flag(source, self._rank, FREE), self._exchanges)
        for peer in outgoing:
            driver.wait_for_flag(handle, self._flag(self._rank, peer, FREE), self._exchanges)
        on_its_way()
        for peer, parts in outgoing.items():
            address = self._address(peer) + self._place(peer, self._rank)
            for part in parts:
                size = part.numel() * part.element_size()
                driver.copy(handle, address, part.data_ptr(), size)
                address += size
            driver.write_flag(handle, self._flag(peer, self._rank, FULL), self._exchanges)
        for source in places:
            driver.wait_for_flag(handle, self._flag(self._rank, source, FULL), self._exchanges)

    def _flag(self, owner: int, writer: int, kind: int) -> int:
        """Address of the counter that `writer` sets in the memory of `owner`."""
        return self._address(owner) + FLAG_BYTES * (2 * writer + kind)

    def _address(self, owner: int) -> int:
        assert self._memory is not None, "room is made before anything is exchanged"
        return self._memory.addresses[owner]

    def _place(self, owner: int, source: int) -> int:
        """Where the parts of a source begin in the current slot of an owner, in bytes."""
        # A ring's lane has one source at a time, another one at each exchange; its place is always the same.
        nth = 0 if self._sources == 1 else (source - owner) % self._size - 1
        slot = self._exchanges % self._slots
        return _flags_bytes(self._size) + (slot * self._sources + nth) * self._room_bytes

    def _make_room(self, room_bytes: int, sources: int) -> None:
        """Memory of the lane; grows with the messages, on all ranks at the same exchange."""
        room_bytes = -(-room_bytes // ALIGNMENT) * ALIGNMENT
        sources = self._size - 1 if sources > 1 else sources  # _place deals them out by distance
        if room_bytes <= self._room_bytes and sources <= self._sources:
            return
        # The old memory goes first, and waits for its device as it goes: nobody still copies into it.
        self._memory = None
        self._known.clear()
        room_bytes, sources = max(room_bytes, self._room_bytes), max(sources, self._sources)
        size = _flags_bytes(self._size) + self._slots * sources * room_bytes
        self._room_bytes = self._sources = 0
        self._memory = _Shared(size, self._group, self._device)
        self._room_bytes, self._sources = room_bytes, sources

    def _views(self, source: int, shapes: Sequence[Sequence[int]], dtype: torch.dtype) -> tuple[Tensor, ...]:
        """The parts of a source in the current slot, one after the other."""
        at = self._place(self._rank, source)
        key = (at, dtype, *shapes)
        if key not in self._known:
            assert self._memory is not None, "room was made"
            self._known[key] = self._memory.views(shapes, dtype, at)
        return self._known[key]


def _flags_bytes(ranks: int) -> int:
    return -(-2 * ranks * FLAG_BYTES // ALIGNMENT) * ALIGNMENT


class _Shared:
    """Memory of `size` bytes on each rank of a group, zero at first, mapped by all of them. Every rank makes it."""

    def __init__(self, size: int, group: dist.ProcessGroup, device: torch.device) -> None:
        from torch._C._distributed_c10d import _SymmetricMemory

        self._own = _SymmetricMemory.empty_strided_p2p((size,), (1,), torch.uint8, device)
        self._own.zero_()
        torch.cuda.current_stream(device).synchronize()  # zero before another rank can see it
        self._handle: Any = _SymmetricMemory.rendezvous(self._own, group.group_name)
        self.addresses: list[int] = list(self._handle.buffer_ptrs)

    def views(self, shapes: Sequence[Sequence[int]], dtype: torch.dtype, at: int) -> tuple[Tensor, ...]:
        """Tensors one after the other from byte `at` of this rank's memory on."""
        views: list[Tensor] = []
        for shape in shapes:
            size = math.prod(shape) * dtype.itemsize
            views.append(self._own[at : at + size].view(dtype).view(shape))
            at += size
        return tuple(views)


def obstacle(group: dist.ProcessGroup, device: torch.device) -> str | None:
    """Why this group's messages cannot go by copy engine; None where they can. All ranks ask at once, and agree."""
    told = _told(group, (socket.gethostname(), _own_obstacle(device)))
    if len({host for host, _ in told}) > 1:
        return "the ranks are on several hosts"
    return _first(why for _, why in told) or _first(_told(group, _mapping_obstacle(group, device)))


def _own_obstacle(device: torch.device) -> str | None:
    """What this rank lacks by itself."""
    if os.environ.get(VARIABLE) == SENDS:
        return f"{VARIABLE} is {SENDS}"
    try:
        flags = torch.zeros(2, dtype=torch.int32, device=device)
        stream = torch.cuda.current_stream(device)
        driver.write_flag(stream.cuda_stream, flags.data_ptr(), 1)
        driver.wait_for_flag(stream.cuda_stream, flags.data_ptr(), 1)
        driver.copy(stream.cuda_stream, flags.data_ptr() + FLAG_BYTES, flags.data_ptr(), FLAG_BYTES)
        return None if flags.tolist() == [1, 1] else "the driver's stream memory operations do not work here"
    except (OSError, AttributeError, RuntimeError) as error:
        return _words(error)


def _mapping_obstacle(group: dist.ProcessGroup, device: torch.device) -> str | None:
    """Why the ranks cannot map each other's memory."""
    try:
        _Shared(ALIGNMENT, group, device)
    except (ImportError, RuntimeError) as error:
        return _words(error)
    return None


def _words(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _told(group: dist.ProcessGroup, own: Any) -> list[Any]:
    """What every rank of a group has to say, in rank order."""
    told: list[Any] = [None] * dist.get_world_size(group)
    dist.all_gather_object(told, own, group=group)
    return told


def _first(reasons: Iterable[str | None]) -> str | None:
    return next((why for why in reasons if why is not None), None)
