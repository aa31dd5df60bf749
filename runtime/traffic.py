"""What the ranks that share a sequence send each other: bytes of all messages, seconds of a sample of them."""

import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

SAMPLED = 11
"""One message in so many is timed on a GPU: prime to the 3 x (ranks - 1) of a layer up to 11 ranks, so that the sample
goes through all of them."""


class Timing:
    """One message: from where it is free to go until it is there, and how long the computation waited for it."""

    def __init__(self, *, on_gpu: bool) -> None:
        self._events = [torch.cuda.Event(enable_timing=True) for _ in range(4 if on_gpu else 0)]
        self._asked_s = self._got_s = 0.0

    def posted(self, stream: torch.cuda.Stream) -> None:
        """The message goes out now; on its own stream."""
        self._events[0].record(stream)

    def arrived(self, stream: torch.cuda.Stream) -> None:
        """What was awaited is here; on the message's stream."""
        self._events[1].record(stream)

    def asked(self) -> None:
        """The computing stream begins to wait."""
        self._asked_s = time.perf_counter()
        if self._events:
            self._events[2].record()

    def got(self) -> None:
        """The computing stream goes on."""
        self._got_s = time.perf_counter()
        if self._events:
            self._events[3].record()

    def wire_s(self) -> float | None:
        """Seconds from the first byte out to the last one in; None where only the host's clock looked on."""
        return self._events[0].elapsed_time(self._events[1]) / 1e3 if self._events else None

    def exposed_s(self) -> float:
        """Seconds in which nothing was computed for want of the message."""
        if not self._events:
            return self._got_s - self._asked_s
        return self._events[2].elapsed_time(self._events[3]) / 1e3


@dataclass(slots=True)
class Traffic:
    """What a group has sent from this rank since the last look."""

    messages: int = 0
    sent_bytes: int = 0
    timings: deque[Timing] = field(default_factory=lambda: deque[Timing](maxlen=256))
    """The latest of the sample; where nobody looks, they do not pile up."""

    def wire_s(self) -> float | None:
        """Seconds of all messages on the wire, from those that were timed; the device has to be past them."""
        seconds = [timing.wire_s() for timing in self.timings]
        timed = [each for each in seconds if each is not None]
        return self.messages * sum(timed) / len(timed) if timed else None

    def exposed_s(self) -> float | None:
        """Seconds in which nothing was computed for want of messages, from those that were timed."""
        timed = [timing.exposed_s() for timing in self.timings]
        return self.messages * sum(timed) / len(timed) if timed else None


_traffic: dict[str, Traffic] = {}
_counted = 0


def count(group_name: str, outgoing: Mapping[int, tuple[Tensor, ...]], *, on_gpu: bool) -> Timing | None:
    """Book one exchange; what times it, if it is one of the sample."""
    global _counted
    _counted += 1
    entry = _traffic.setdefault(group_name, Traffic())
    entry.messages += 1
    entry.sent_bytes += sum(part.numel() * part.element_size() for parts in outgoing.values() for part in parts)
    if on_gpu and _counted % SAMPLED:
        return None
    timing = Timing(on_gpu=on_gpu)
    entry.timings.append(timing)
    return timing


def take(group_name: str) -> Traffic:
    """What the group sent since the last call, and start again from zero."""
    return _traffic.pop(group_name, Traffic())
