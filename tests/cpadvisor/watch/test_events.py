import json
import os
from pathlib import Path

import pytest

from cpadvisor.watch.events import EventFile, number, numbers, read_event, text, whole


def line(step: int, **more: object) -> bytes:
    return json.dumps({"v": 1, "kind": "step", "step": step, **more}).encode() + b"\n"


def steps(events: EventFile) -> list[int]:
    return [event["step"] for event in events.poll()]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events-rank0.jsonl"


def test_each_look_gives_what_came_since_and_leaves_a_torn_line(path: Path) -> None:
    events = EventFile(path)
    assert steps(events) == []
    path.write_bytes(line(1) + line(2) + line(3)[:10])
    assert steps(events) == [1, 2]
    path.write_bytes(line(1) + line(2) + line(3))
    assert steps(events) == [3]
    assert (events.unread, events.versions) == (0, set())


def test_a_file_put_in_its_place_is_read_from_its_first_line(path: Path) -> None:
    events = EventFile(path)
    path.write_bytes(line(1) + line(2))
    assert steps(events) == [1, 2]
    other = path.with_name("other")
    other.write_bytes(line(7) + line(8) + line(9))
    other.replace(path)
    assert steps(events) == [7, 8, 9]


def test_a_file_that_gets_another_inode_at_each_look_is_read_once(path: Path) -> None:
    events = EventFile(path)
    path.write_bytes(line(1) + line(2))
    assert steps(events) == [1, 2]
    copy = path.with_name("copy")
    copy.write_bytes(path.read_bytes() + line(3))
    copy.replace(path)
    assert steps(events) == [3]


def test_a_file_that_was_cut_is_read_from_its_first_line(path: Path) -> None:
    events = EventFile(path)
    path.write_bytes(line(1) + line(2) + line(3))
    assert steps(events) == [1, 2, 3]
    path.write_bytes(line(4))
    assert steps(events) == [4]


def test_versions_and_lines_that_hold_no_event_are_counted(path: Path) -> None:
    path.write_bytes(line(1) + b"{torn\n\n[1]\n" + line(2, v=9) + b'{"kind": "step", "step": 3}\n')
    events = EventFile(path)
    assert steps(events) == [1, 2, 3]
    assert (events.unread, events.versions) == (2, {"9", "none"})


def test_a_path_that_cannot_be_read_gives_no_events(tmp_path: Path) -> None:
    assert EventFile(tmp_path).poll() == []


@pytest.mark.parametrize("raw", [b"", b"{", b"3", b"null", b'{"kind": 3}', b'{"v": 1}', b"\xff", b"[" * 100_000])
def test_what_is_no_event_is_none(raw: bytes) -> None:
    assert read_event(raw) is None


@pytest.mark.parametrize("value", ["1", None, True, [1], float("nan"), float("inf"), 10**400])
def test_a_field_of_another_kind_counts_as_left_out(value: object) -> None:
    event = {"field": value, "other": {"field": value, "good": 2}}
    assert number(event, "field") is None
    assert whole(event, "field") is None
    assert numbers(event, "other") == {"good": 2}
    assert numbers(event, "field") == numbers(event, "missing") == {}
    assert text(event, "field") == (value if isinstance(value, str) else None)


def test_whole_numbers_are_told_from_others() -> None:
    assert (number({"a": 2.5}, "a"), number({"a": 2}, "a"), whole({"a": 2}, "a"), whole({"a": 2.5}, "a")) == (
        *(2.5, 2, 2, None),
    )


def test_a_pipe_in_place_of_a_file_holds_no_events_and_keeps_nobody_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "events")
    assert EventFile(tmp_path / "events").poll() == []
