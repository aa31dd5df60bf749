from pathlib import Path
from typing import Any

from cpadvisor.processes import ProcessId
from cpadvisor.watch.ranks import RankEvents
from cpadvisor.watch.view import Exchange


class Told:
    """Events that a test says one after the other."""

    unread = 0

    def __init__(self) -> None:
        self.versions: set[str] = set()
        self.waiting: list[dict[str, Any]] = []

    def poll(self) -> list[dict[str, Any]]:
        said, self.waiting = self.waiting, []
        return said


class Rank:
    """One rank and what it says."""

    def __init__(self) -> None:
        self.told = Told()
        self.events = RankEvents(Path("/nowhere"), 1, self.told)

    def says(self, kind: str, t: float = 1.0, **fields: object) -> RankEvents:
        self.told.waiting.append({"kind": kind, "t": t, **fields})
        self.events.poll()
        return self.events


def test_a_process_is_known_before_its_model_and_keeps_its_door() -> None:
    rank = Rank()
    seen = rank.says("process", pid=42, pid_start=7, door="/run/s")
    assert (seen.process, seen.pid, seen.door, seen.started_t) == (ProcessId(pid=42, start_ticks=7), 42, "/run/s", None)
    seen = rank.says("start", t=2.0, pid=42, pid_start=7)
    assert (seen.process, seen.door, seen.started_t) == (ProcessId(pid=42, start_ticks=7), "/run/s", 2.0)


def test_each_operation_of_context_parallelism_is_kept_as_it_was_last_told() -> None:
    rank = Rank()
    rank.says("start", pid=42, pid_start=7)
    rank.says("nccl", group="cp", op="send_recv", bytes=1, wire_s=None, exposed_s=None)
    rank.says("nccl", group="cp", op="send_recv", bytes=2, wire_s=0.5, exposed_s=0.25)
    rank.says("nccl", group="dp_shard", op="all_gather", bytes=9)
    seen = rank.says("nccl", group="cp", op="all_to_all", bytes=3)
    assert list(seen.exchanges.values()) == [
        Exchange(op="send_recv", sent_bytes=2, wire_s=0.5, exposed_s=0.25),
        Exchange(op="all_to_all", sent_bytes=3),
    ]
    assert rank.says("process", pid=43, pid_start=8).exchanges == {}


def test_a_trainer_that_announces_no_process_begins_with_its_model() -> None:
    rank = Rank()
    seen = rank.says("start", pid=42, pid_start=7)
    assert (seen.process, seen.door) == (ProcessId(pid=42, start_ticks=7), None)
    rank.says("step", step=1)
    seen = rank.says("start", pid=43, pid_start=8)
    assert (seen.process, seen.finished_steps) == (ProcessId(pid=43, start_ticks=8), 0)


def test_a_process_without_its_start_time_cannot_be_looked_for() -> None:
    seen = Rank().says("process", pid=42)
    assert (seen.process, seen.pid) == (None, 42)


def test_another_process_forgets_the_end_the_shortage_and_the_steps_of_the_one_before() -> None:
    rank = Rank()
    rank.says("process", pid=42, pid_start=7, door="/a")
    rank.says("start", steps=5)
    rank.says("step", step=1)
    rank.says("memory", allocated_bytes=5, peak_allocated_bytes=9)
    rank.says("out_of_memory", step=2)
    seen = rank.says("end", state="failed", reason="x", cause="out_of_memory", step=1, in_step=2)
    assert seen.end is not None and (seen.end.kind, seen.end.step) == ("out_of_memory", 2)
    assert seen.out_of_memory is not None
    seen = rank.says("process", pid=50, pid_start=9)
    assert (seen.end, seen.out_of_memory, seen.finished_steps, seen.start, seen.door) == (None, None, 0, {}, None)
    assert (seen.step, seen.peak_bytes) == (1, 9)


def test_a_warning_of_the_process_before_is_forgotten() -> None:
    rank = Rank()
    rank.says("process", pid=42, pid_start=7)
    rank.says("warning", rule="padding", message="most is padding")
    assert list(rank.says("start", pid=42).warnings) == ["rank 1: most is padding"]
    assert list(rank.says("process", pid=50, pid_start=9).warnings) == []


def test_what_a_trainer_without_announcement_warns_of_before_its_model_is_kept() -> None:
    rank = Rank()
    rank.says("warning", rule="padding", message="most is padding")
    assert list(rank.says("start", pid=42).warnings) == ["rank 1: most is padding"]
    assert list(rank.says("start", pid=50).warnings) == []


def test_an_end_without_the_step_under_way_tells_the_last_that_was_finished() -> None:
    seen = Rank().says("end", state="failed", reason="x", step=4)
    assert seen.end is not None and seen.end.step == 4


def test_the_longest_checkpoint_and_the_largest_peak_stay() -> None:
    rank = Rank()
    for seconds, peak in ((2.0, 70), (9.0, 90), (4.0, 80)):
        rank.says("checkpoint", step=1, seconds=seconds)
        rank.says("memory", allocated_bytes=peak - 10, peak_allocated_bytes=peak)
    assert (rank.events.checkpoint_s, rank.events.peak_bytes, rank.events.allocated_bytes) == (9.0, 90, 70)


def test_the_newest_training_state_is_remembered_also_by_the_next_process_and_a_model_is_none() -> None:
    rank = Rank()
    assert rank.events.checkpoint_step is None
    for step, resumable in ((2, True), (4, True), (5, False)):
        rank.says("checkpoint", step=step, seconds=1.0, resumable=resumable)
    rank.says("process", pid=43)
    assert rank.events.checkpoint_step == 4


def test_a_heartbeat_tells_the_step_and_is_none() -> None:
    seen = Rank().says("heartbeat", t=9.0, step=4)
    assert (seen.step, seen.finished_steps, seen.last_t) == (4, 0, 9.0)
