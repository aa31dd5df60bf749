"""Messages between the ranks that share a sequence: begun at once, awaited later, computed beside in between.

A lane carries one kind of message over a group, in order, on a stream of its own;
`wait` makes the current stream wait for the arrival, not the host. Where GPUs
reach each other's memory, the copy engines bring messages (runtime.copy_engine)
and take no multiprocessor; elsewhere a lane sends and receives through the
group's own communicator. What a rank has begun is counted: it tells who lags.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import torch
import torch.distributed as dist
from torch import Tensor

from runtime import copy_engine, traffic
from runtime.copy_engine import CopyEngine
from runtime.traffic import Timing

Parts = tuple[Tensor, ...]
Shapes = Sequence[Sequence[int]]

_begun = 0
"""Messages that this rank has begun."""


def begun(groups: Sequence[dist.ProcessGroup]) -> int:
    """Exchanges that this rank has begun since it met the others: messages, and what these groups count (collectives).

    All ranks begin the same ones in the same order. On GPUs the host runs ahead of its device until it reads a value:
    of ranks that wait for each other, the one that has begun the fewest stopped first, wherever the others stand.
    """
    counted = (group._get_sequence_number_for_group() for group in groups)  # pyright: ignore[reportAttributeAccessIssue]
    return _begun + sum(counted)


_keeping_own: set[str] = set()


def keep_own(group_name: str) -> None:
    """A fault to test with: from now on this rank takes what it sent in place of what arrives."""
    _keeping_own.add(group_name)


class Transport(Protocol):
    """How the parts of one exchange reach other GPUs."""

    def places(self, incoming: Mapping[int, Shapes], like: Tensor, room_bytes: int) -> dict[int, Parts]:
        """Where the parts of each source will be. `room_bytes` is the most that one source sends, as on all ranks."""
        ...

    def exchange(
        self,
        outgoing: Mapping[int, Parts],
        places: Mapping[int, Parts],
        stream: torch.cuda.Stream,
        on_its_way: Callable[[], None],
    ) -> None:
        """Let a stream send all parts and wait for all that come; `on_its_way` is called where the sending begins."""
        ...


class Sends:
    """Sends and receives of a process group, all of one exchange in one batch; on CPU processes too."""

    def __init__(self, group: dist.ProcessGroup) -> None:
        self._group = group

    def places(self, incoming: Mapping[int, Shapes], like: Tensor, room_bytes: int) -> dict[int, Parts]:
        """Fresh memory; it may be kept for as long as it is of use."""
        return {source: tuple(like.new_empty(shape) for shape in shapes) for source, shapes in incoming.items()}

    def exchange(
        self,
        outgoing: Mapping[int, Parts],
        places: Mapping[int, Parts],
        stream: torch.cuda.Stream,
        on_its_way: Callable[[], None],
    ) -> None:
        """The communicator has a stream of its own, which waits for this one and is waited for."""
        with torch.cuda.stream(stream):
            on_its_way()
            for work in self.begin(outgoing, places):
                work.wait()

    def begin(self, outgoing: Mapping[int, Parts], places: Mapping[int, Parts]) -> list[dist.Work]:
        """Messages between two ranks are told apart by their order alone, the same at both ends."""
        operations = [self._operation(dist.isend, part, peer) for peer, parts in outgoing.items() for part in parts]
        operations += [self._operation(dist.irecv, part, peer) for peer, parts in places.items() for part in parts]
        return dist.batch_isend_irecv(operations)

    def _operation(self, kind: Callable[..., dist.Work | None], part: Tensor, peer: int) -> dist.P2POp:
        return dist.P2POp(kind, part, group=self._group, group_peer=peer)


class Message:
    """One exchange under way; `wait` gives what came, by source."""

    def __init__(self, outgoing: Mapping[int, Parts], places: dict[int, Parts], timing: Timing | None) -> None:
        self.outgoing = outgoing
        """Held until the exchange is over: the transport reads it."""
        self.places = places
        self.timing = timing
        self.finish: Callable[[], None] = _nothing
        """Makes the current stream wait, or the host where there is none."""

    def wait(self) -> dict[int, Parts]:
        """The parts by source, good until the lane has begun as many exchanges more as it has slots."""
        if self.timing is not None:
            self.timing.asked()
        self.finish()
        if self.timing is not None:
            self.timing.got()
        return self.places

    def wait_for_one(self) -> Parts:
        """The parts of the only source."""
        (parts,) = self.wait().values()
        return parts


class KeptMessage(Message):
    """The fault of `keep_own`: what came is not looked at."""

    def wait(self) -> dict[int, Parts]:
        """Own parts, cut or doubled to the length of those that came."""
        own = next(iter(self.outgoing.values()))
        return {source: tuple(map(_as_long, own, came)) for source, came in super().wait().items()}


def _as_long(own: Tensor, came: Tensor) -> Tensor:
    return torch.cat((own, own), dim=1)[:, : came.shape[1]].view(came.shape)


def _nothing() -> None:
    pass


class Lane:
    """One kind of message over a group: at most one exchange under way, the next one after it."""

    _is_on_gpu = False

    def __init__(self, group: dist.ProcessGroup, transport: Transport) -> None:
        self.group = group
        self.rank, self.size = dist.get_rank(group), dist.get_world_size(group)
        self.transport = transport

    def start(
        self, outgoing: Mapping[int, Sequence[Tensor]], incoming: Mapping[int, Shapes], *, room_bytes: int
    ) -> Message:
        """Send parts to ranks of the group and receive theirs, of one dtype. Returns at once.

        Every rank of the group has to start the same exchanges in the same order.
        """
        global _begun
        _begun += 1
        sent = {peer: tuple(part.contiguous() for part in parts) for peer, parts in outgoing.items()}
        places = self.transport.places(incoming, next(iter(sent.values()))[0], room_bytes)
        timing = traffic.count(self.group.group_name, sent, on_gpu=self._is_on_gpu)
        kind = KeptMessage if self.group.group_name in _keeping_own else Message
        message = kind(sent, places, timing)
        message.finish = self._begin(message)
        return message

    def _begin(self, message: Message) -> Callable[[], None]:
        assert isinstance(self.transport, Sends), "CPU processes send and receive"
        works = self.transport.begin(message.outgoing, message.places)

        def finish() -> None:
            for work in works:
                work.wait()

        return finish


_streams: dict[tuple[int, int, int], torch.cuda.Stream] = {}


def _current_stream(device: torch.device) -> torch.cuda.Stream:
    """torch.cuda.current_stream, which makes a new object each time: at 8K tokens the host's microseconds count."""
    key = torch._C._cuda_getCurrentStream(device.index)
    if key not in _streams:
        _streams[key] = torch.cuda.current_stream(device)
    return _streams[key]


class GpuLane(Lane):
    """A lane with a stream of its own."""

    _is_on_gpu = True

    def __init__(self, group: dist.ProcessGroup, transport: Transport, device: torch.device) -> None:
        super().__init__(group, transport)
        self._device = device
        # Above the attention kernels: what a message needs of the multiprocessors must not queue behind them.
        self._stream = torch.cuda.Stream(device, priority=-1)
        self._readers: set[torch.cuda.Stream] = set()
        """Streams that waited for messages since the last one began."""

    def _begin(self, message: Message) -> Callable[[], None]:
        """On the lane's own stream, once what the current stream was told so far is done."""
        stream, timing = self._stream, message.timing
        # What arrived earlier may still be read, also by another stream than the one that sends now.
        for reader in self._readers | {_current_stream(self._device)}:
            stream.wait_event(reader.record_event())
        self._readers.clear()
        on_its_way = _nothing if timing is None else lambda: timing.posted(stream)
        self.transport.exchange(message.outgoing, message.places, stream, on_its_way)
        if timing is not None:
            timing.arrived(stream)
        arrival = stream.record_event()

        def finish() -> None:
            reader = _current_stream(self._device)
            reader.wait_event(arrival)
            self._readers.add(reader)

        return finish


_lanes: dict[tuple[str, str], Lane] = {}
_obstacles: dict[str, tuple[dist.ProcessGroup, str | None]] = {}


def lane(group: dist.ProcessGroup, kind: str, device: torch.device, *, slots: int = 2) -> Lane:
    """The group's lane of that kind, made when it is first asked for: all ranks ask for the same ones in order.

    What arrived is good until `slots` more exchanges have begun.
    """
    key = (group.group_name, kind)
    found = _lanes.get(key)
    if found is None or found.group is not group:  # names begin anew with every default group
        found = _lanes[key] = _make_lane(group, device, slots)
    return found


def _make_lane(group: dist.ProcessGroup, device: torch.device, slots: int) -> Lane:
    if device.type != "cuda":
        return Lane(group, Sends(group))
    on_engines = obstacle(group, device) is None
    return GpuLane(group, CopyEngine(group, device, slots=slots) if on_engines else Sends(group), device)


def pair_bytes(share: Tensor) -> int:
    """Bytes of K and V of a share, or of their gradients: the most that one rank sends another at once."""
    return 2 * share.numel() * share.element_size()


def forget(group: dist.ProcessGroup) -> None:
    """Drop the lanes of a group after an exception in the middle of an exchange; every rank has to do it.

    Ranks may have begun different numbers of exchanges then, and the next one would take what was meant for another.
    """
    for key in [key for key in _lanes if key[0] == group.group_name]:
        del _lanes[key]


def obstacle(group: dist.ProcessGroup, device: torch.device) -> str | None:
    """Why messages between the GPUs of a group do not go by copy engine; None where they do, and on CPUs.

    All ranks ask at once: the first time they find it out together.
    """
    if device.type != "cuda":
        return None
    known, why = _obstacles.get(group.group_name, (None, None))
    if known is not group:
        why = copy_engine.obstacle(group, device)
        _obstacles[group.group_name] = group, why
    return why


def carrier(group: dist.ProcessGroup, device: torch.device) -> str:
    """What brings the messages of a group: `copy_engine`, or the group's backend, `nccl` or `gloo`."""
    by_engine = device.type == "cuda" and obstacle(group, device) is None
    return "copy_engine" if by_engine else dist.get_backend(group)


def held_bytes() -> int:
    """GPU memory of all lanes of this process, which torch's allocator does not count."""
    engines = (lane.transport for lane in _lanes.values())
    return sum(engine.held_bytes for engine in engines if isinstance(engine, CopyEngine))


def read(values: Tensor) -> list[float]:
    """Numbers on the host. Here it waits for its device, and so for the ranks that the device waits for."""
    return values.tolist()
