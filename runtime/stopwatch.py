"""Seconds that each part of a step takes: CUDA events on a GPU, the clock elsewhere. Adds no wait of its own."""

import time

import torch

PARTS: tuple[str, ...] = ("data", "forward", "backward", "optimizer")


class Mark:
    """A point in the work of a device."""

    def __init__(self, device: torch.device) -> None:
        self._clock = time.perf_counter()
        self._event = torch.cuda.Event(enable_timing=True) if device.type == "cuda" else None
        if self._event is not None:
            self._event.record()

    def since(self, earlier: "Mark") -> float:
        """Seconds from an earlier mark to this one; a GPU has to be past both."""
        if self._event is None or earlier._event is None:
            return self._clock - earlier._clock
        return earlier._event.elapsed_time(self._event) / 1000


class Stopwatch:
    """`start` a step, `lap` after each part, read `split_s` when the step is over and the device was waited for."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._started = 0.0
        self._laps: list[tuple[str, Mark]] = []

    def start(self) -> None:
        """Begin a step."""
        self._started = time.perf_counter()
        self._laps = [("", Mark(self._device))]

    def lap(self, part: str) -> None:
        """What ran since the last mark belongs to `part`; the laps of one part add up."""
        self._laps.append((part, Mark(self._device)))

    def split_s(self) -> dict[str, float]:
        """Seconds by part."""
        split = dict.fromkeys(PARTS, 0.0)
        for (_, before), (part, after) in zip(self._laps, self._laps[1:], strict=False):
            split[part] += after.since(before)
        return split

    def step_s(self) -> float:
        """Seconds since `start`."""
        return time.perf_counter() - self._started
