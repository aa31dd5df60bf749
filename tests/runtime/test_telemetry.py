import errno
import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.telemetry import MAX_LINE_BYTES, EventReader, EventWriter, encode, events_path, parse

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats() | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def test_events_come_back_in_order_with_their_fields(tmp_path):
    writer = EventWriter(tmp_path, 3)
    writer.emit("step", step=1, loss=5.5)
    writer.emit("end", state="done", reason=None)
    first, second = EventReader(events_path(tmp_path, 3)).poll()
    assert (first["kind"], first["seq"], first["step"], first["loss"]) == ("step", 0, 1, 5.5)
    assert (second["kind"], second["seq"], second["reason"]) == ("end", 1, None)
    assert first["mono"] <= second["mono"]


def test_a_torn_last_line_waits_for_its_end(tmp_path):
    path = events_path(tmp_path, 0)
    line = encode({"v": 1, "kind": "step", "step": 1})
    path.write_bytes(line + line[:10])
    reader = EventReader(path)
    assert len(list(reader.poll())) == 1
    with path.open("ab") as file:
        file.write(line[10:])
    assert [event["step"] for event in reader.poll()] == [1]


def test_a_writer_that_comes_after_a_torn_line_starts_a_line_of_its_own(tmp_path):
    EventWriter(tmp_path, 0).emit("heartbeat", step=1)
    with events_path(tmp_path, 0).open("ab") as file:
        file.write(b'{"v": 1, "kin')
    EventWriter(tmp_path, 0).emit("heartbeat", step=2)
    assert [event["step"] for event in EventReader(events_path(tmp_path, 0)).poll()] == [1, 2]


def test_a_file_that_is_not_there_yet_gives_no_events(tmp_path):
    assert list(EventReader(tmp_path / "events-rank0.jsonl").poll()) == []


def test_what_is_not_finite_becomes_null(tmp_path):
    EventWriter(tmp_path, 0).emit("step", loss=float("nan"), split_s={"data": float("inf")})
    (event,) = EventReader(events_path(tmp_path, 0)).poll()
    assert event["loss"] is None
    assert event["split_s"] == {"data": None}


def test_a_long_text_is_cut_so_that_the_line_stays_whole():
    line = encode({"v": 1, "kind": "end", "reason": "é" * 10_000})
    assert len(line) < MAX_LINE_BYTES
    assert json.loads(line)["reason"].endswith("…")


def test_a_record_that_cannot_be_cut_says_which_kind_it_is():
    with pytest.raises(ValueError, match="'step'"):
        encode({"v": 1, "kind": "step", "split_s": {f"part{number}": 1.0 for number in range(2000)}})


@pytest.mark.parametrize("line", [b"", b"{", b"[1]", b'{"v": 2, "kind": "step"}', b'{"v": 1}', b"\xff\xfe"])
def test_what_is_no_event_is_none(line):
    assert parse(line) is None


@given(st.dictionaries(st.text(min_size=1, max_size=8), JSON, max_size=4))
def test_any_fields_make_one_whole_line(fields):
    line = encode({**fields, "v": 1, "kind": "x"})
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert parse(line) is not None


def test_a_line_that_finds_space_for_its_beginning_only_is_taken_back(tmp_path, monkeypatch):
    writer = EventWriter(tmp_path, 0)
    writer.emit("heartbeat", step=1)
    write = os.write
    lines_that_fit = [10]

    def nearly_full(descriptor, data):
        if not lines_that_fit:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(descriptor, data[: lines_that_fit.pop()])

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", nearly_full)
        with pytest.raises(OSError, match="No space left on device"):
            writer.emit("heartbeat", step=2)
    assert events_path(tmp_path, 0).read_bytes().count(b"\n") == 1
    assert events_path(tmp_path, 0).read_bytes().endswith(b"\n")
    writer.emit("heartbeat", step=3)
    found = list(EventReader(events_path(tmp_path, 0)).poll())
    assert [(event["seq"], event["step"]) for event in found] == [(0, 1), (1, 3)]


def test_a_file_under_its_name_is_in_place_and_a_moved_one_is_not(tmp_path):
    (tmp_path / "run").mkdir()
    writer = EventWriter(tmp_path / "run", 0)
    assert writer.is_in_place()
    (tmp_path / "run").rename(tmp_path / "elsewhere")
    assert not writer.is_in_place()
    (tmp_path / "run").write_text("no folder at all")
    assert not writer.is_in_place()
