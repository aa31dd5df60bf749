import time
from collections.abc import Iterator

import pytest
import torch

from runtime import traffic
from runtime.traffic import Timing, Traffic

GROUP = "of the test"


class FakeTiming(Timing):
    """A message that was on the wire and waited for as long as it is told."""

    def __init__(self, wire_s: float | None, exposed_s: float) -> None:
        super().__init__(on_gpu=False)
        self._told = wire_s, exposed_s

    def wire_s(self) -> float | None:
        return self._told[0]

    def exposed_s(self) -> float:
        return self._told[1]


@pytest.fixture(autouse=True)
def nothing_counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(traffic, "_counted", 0)
    traffic.take(GROUP)
    yield
    traffic.take(GROUP)


def test_messages_and_the_bytes_of_all_their_parts_are_counted() -> None:
    k, v, lse = torch.zeros(2, 3, dtype=torch.bfloat16), torch.zeros(4, dtype=torch.float64), torch.zeros(0)
    traffic.count(GROUP, {1: (k, v)}, on_gpu=False)
    traffic.count(GROUP, {0: (k,), 2: (k, lse)}, on_gpu=False)
    sent = traffic.take(GROUP)
    # 6 numbers of 2 bytes and 4 of 8; then twice the 6, in one exchange.
    assert (sent.messages, sent.sent_bytes) == (2, 12 + 32 + 12 + 12)


def test_a_look_starts_again_from_zero_and_groups_are_counted_apart() -> None:
    traffic.count(GROUP, {1: (torch.zeros(1),)}, on_gpu=False)
    traffic.count("another", {1: (torch.zeros(2),)}, on_gpu=False)
    assert traffic.take(GROUP).sent_bytes == 4
    assert traffic.take(GROUP) == Traffic()
    assert traffic.take("another").sent_bytes == 8


def test_without_messages_nothing_is_known_of_seconds() -> None:
    assert Traffic().wire_s() is None and Traffic().exposed_s() is None


def test_on_a_cpu_every_wait_is_measured_and_nothing_is_known_of_the_wire() -> None:
    waits_s = (0.02, 0.03)
    for seconds in waits_s:
        timing = traffic.count(GROUP, {1: (torch.zeros(1),)}, on_gpu=False)
        assert timing is not None
        timing.asked()
        time.sleep(seconds)
        timing.got()
    sent = traffic.take(GROUP)
    exposed_s = sent.exposed_s()
    assert exposed_s is not None and sum(waits_s) <= exposed_s < sum(waits_s) + 0.2
    assert sent.wire_s() is None


def test_seconds_of_a_sample_are_scaled_to_all_messages() -> None:
    sent = Traffic(messages=10, timings=[FakeTiming(0.25, 0.0), FakeTiming(0.75, 0.5)])
    # 10 messages of (0.25 + 0.75) / 2 seconds each; (0.0 + 0.5) / 2 of them exposed.
    assert (sent.wire_s(), sent.exposed_s()) == (5.0, 2.5)


def test_messages_whose_wire_was_not_seen_do_not_lower_the_mean() -> None:
    sent = Traffic(messages=4, timings=[FakeTiming(None, 0.25), FakeTiming(0.5, 0.25)])
    assert (sent.wire_s(), sent.exposed_s()) == (2.0, 1.0)


class FakeEvent:
    """A CUDA event that was recorded at the second that its stream says."""

    def __init__(self, *, enable_timing: bool) -> None:
        assert enable_timing
        self.at_ms = 0.0

    def record(self, at_s: float = 0.0) -> None:
        self.at_ms = at_s * 1e3

    def elapsed_time(self, later: "FakeEvent") -> float:
        return later.at_ms - self.at_ms


def test_on_a_gpu_every_eleventh_message_is_timed_on_its_own_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "Event", FakeEvent)
    timings = [traffic.count(GROUP, {1: (torch.zeros(1),)}, on_gpu=True) for _ in range(24)]
    assert [index + 1 for index, timing in enumerate(timings) if timing is not None] == [11, 22]
    for timing, (out_s, in_s) in zip((timings[10], timings[21]), ((1.0, 1.5), (7.0, 8.0)), strict=True):
        assert timing is not None
        timing.posted(out_s)  # pyright: ignore[reportArgumentType]
        timing.arrived(in_s)  # pyright: ignore[reportArgumentType]
    sent = traffic.take(GROUP)
    # 24 messages of (0.5 + 1.0) / 2 seconds.
    assert (sent.messages, sent.wire_s()) == (24, pytest.approx(18.0))


def test_of_all_messages_of_a_layer_each_is_timed_as_often_as_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "Event", FakeEvent)
    for ranks in range(2, 12):
        kinds = 3 * (ranks - 1)
        timed = dict.fromkeys(range(kinds), 0)
        for index in range(6 * traffic.SAMPLED * kinds):
            if traffic.count(GROUP, {1: (torch.zeros(1),)}, on_gpu=True) is not None:
                timed[index % kinds] += 1
        assert set(timed.values()) == {6}
