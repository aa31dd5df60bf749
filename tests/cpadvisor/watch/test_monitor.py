import json
import math
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest
from living_runs import STARTED, append, gone, monitor_at, step

from cpadvisor.errors import LaunchError
from cpadvisor.processes import identify
from cpadvisor.runrecord import RunRecord, write_record
from cpadvisor.watch.monitor import Monitor
from runtime.telemetry import EventWriter, events_path


def test_an_empty_run_is_launching_with_what_the_record_says(tmp_path: Path, record: RunRecord) -> None:
    write_record(tmp_path, record)
    view = monitor_at(tmp_path, 3).poll()
    assert (view.state, view.step, view.steps, view.elapsed_s) == ("launching", None, 50, 3.0)
    assert (view.layout_label, view.model, view.sequence_len) == ("1×2×1×2", "tiny", 8192)
    assert [rank.gpu for rank in view.ranks] == [3, 1, 2, 0]


def test_each_poll_adds_what_came_since(tmp_path: Path, record: RunRecord) -> None:
    write_record(tmp_path, record)
    monitor = monitor_at(tmp_path)
    append(tmp_path, 0, {"kind": "start", "pid": 1, "cp_method": "ring", "kernel": "cudnn", "steps": 40})
    assert monitor.poll().state == "warming_up"
    append(tmp_path, 0, step(1, loss=4.5), step(2, loss=4.25, grad_norm=1.5, split_s={"loss": 0.5}))
    view = monitor.poll()
    assert (view.state, view.step, view.steps, view.kernel) == ("warming_up", 2, 40, "cudnn")
    assert view.loss == ((1, 4.5), (2, 4.25))
    assert (view.grad_norm, view.split_s) == (1.5, {"loss": 0.5})
    append(tmp_path, 0, step(3))
    view = monitor.poll()
    assert [number for number, _ in view.step_s] == [1, 2, 3]
    assert view.state == "running"


def test_a_torn_last_line_is_read_when_it_is_whole(tmp_path: Path, record: RunRecord) -> None:
    write_record(tmp_path, record)
    monitor = monitor_at(tmp_path)
    append(tmp_path, 0, step(1))
    line = json.dumps({"v": 1, "t": STARTED, **step(2)})
    with events_path(tmp_path, 0).open("a") as file:
        file.write(line[:30])
    assert monitor.poll().step == 1
    with events_path(tmp_path, 0).open("a") as file:
        file.write(line[30:] + "\n{torn for ever\n" + json.dumps({"v": 1, "t": STARTED, **step(3)}) + "\n")
    assert monitor.poll().step == 3


def test_unknown_kinds_are_skipped(tmp_path: Path, record: RunRecord) -> None:
    write_record(tmp_path, record)
    append(tmp_path, 0, step(1), {"kind": "sonnet", "step": 7})
    view = monitor_at(tmp_path).poll()
    assert (view.step, view.ranks[0].step, view.notes) == (1, 1, ())


@pytest.mark.parametrize("version", [0, 9, "2.1", None])
def test_events_of_another_version_are_read_as_far_as_both_know_them_and_noted(
    tmp_path: Path, record: RunRecord, version: object
) -> None:
    write_record(tmp_path, record)
    strange = {"loss": {"mean": 3.5}, "split_s": [1], "tokens_per_s_per_gpu": "fast", "grad_norm": True}
    append(tmp_path, 0, step(1), {**step(2), "v": version}, {**step(3, **strange), "v": version})
    append(tmp_path, 1, {"kind": "process", "pid": "42", "pid_start": None, "door": 7, "t": "now", "v": version})
    append(tmp_path, 1, {"kind": "end", "state": 3, "reason": ["x"], "t": "now", "v": version})
    view = monitor_at(tmp_path).poll()
    assert (view.step, view.state) == (3, "running")
    assert (view.loss, view.tokens_per_s_per_gpu) == (((1, 4.0), (2, 4.0)), ((1, 1000.0), (2, 1000.0)))
    named = "none" if version is None else str(version)
    assert view.notes == (f"its events have version {named}, and this cpadvisor knows 1: what both know is shown",)


@pytest.mark.parametrize("schema", [0, 7, "two"])
def test_a_record_of_another_schema_opens_with_a_note(tmp_path: Path, record: RunRecord, schema: object) -> None:
    write_record(tmp_path, record)
    values = json.loads((tmp_path / "run.json").read_text())
    values |= {"schema": schema, "agent": "1234", "world": {"ranks": 2}, "colour": "red"}
    (tmp_path / "run.json").write_text(json.dumps(values))
    append(tmp_path, 0, step(1), {"kind": "end", "state": "done"})
    view = monitor_at(tmp_path).poll()
    assert (view.state, view.model, view.world, view.step) == ("done", "tiny", 1, 1)
    assert view.notes == (
        f"run.json has schema {schema}, and this cpadvisor writes 1: what both know is shown",
        "run.json says world, agent in a way that is not known here: shown as unknown",
    )


def test_whole_lines_that_hold_no_event_are_counted_and_a_torn_last_one_is_not(
    tmp_path: Path, record: RunRecord
) -> None:
    write_record(tmp_path, record)
    append(tmp_path, 0, step(1))
    with events_path(tmp_path, 0).open("ab") as file:
        file.write(b'{"kind": "ste\n\n[1]\n\xff\xfe\n{"v": 1, "kind": "st')
    assert monitor_at(tmp_path).poll().notes == ("3 lines of rank 0's events cannot be read",)


def test_the_time_left_is_steps_left_times_the_median_step(tmp_path: Path, record: RunRecord) -> None:
    write_record(tmp_path, record)
    append(tmp_path, 0, step(1, step_s=60.0), *(step(number, step_s=2.0) for number in range(2, 11)))
    assert monitor_at(tmp_path).poll().eta_s == 40 * 2.0


def test_the_peak_is_the_largest_over_ranks_and_time(tmp_path: Path, record: RunRecord) -> None:
    write_record(tmp_path, record)
    memory = {"kind": "memory", "allocated_bytes": 5}
    append(tmp_path, 0, {**memory, "peak_allocated_bytes": 70})
    append(tmp_path, 2, {**memory, "peak_allocated_bytes": 90}, {**memory, "peak_allocated_bytes": 80})
    view = monitor_at(tmp_path).poll()
    assert view.peak_bytes == 90
    assert [rank.peak_bytes for rank in view.ranks] == [70, None, 90, None]
    assert view.ranks[2].allocated_bytes == 5


def test_a_loss_that_is_no_number_is_nan_and_a_warning(tmp_path: Path, record: RunRecord) -> None:
    write_record(tmp_path, record)
    append(tmp_path, 0, step(1), step(2, loss=None))
    view = monitor_at(tmp_path).poll()
    assert math.isnan(view.loss[-1][1])
    assert "the loss of step 2 is not a number" in view.warnings


def test_warnings_of_ranks_are_told_once(tmp_path: Path, record: RunRecord) -> None:
    write_record(tmp_path, record)
    warning = {"kind": "warning", "rule": "kernel", "message": "cuDNN is missing"}
    append(tmp_path, 1, warning, warning)
    assert monitor_at(tmp_path).poll().warnings == ("rank 1: cuDNN is missing",)


def test_a_rank_is_alive_while_its_very_process_is(tmp_path: Path, record: RunRecord) -> None:
    write_record(tmp_path, record)
    me = identify(os.getpid())
    assert me is not None
    append(tmp_path, 0, {"kind": "start", "pid": me.pid, "pid_start": me.start_ticks})
    append(tmp_path, 1, {"kind": "start", "pid": me.pid, "pid_start": me.start_ticks + 1})
    view = monitor_at(tmp_path).poll()
    assert [(rank.pid, rank.alive) for rank in view.ranks] == [
        (me.pid, True),
        (me.pid, False),
        (None, False),
        (None, False),
    ]


def test_a_run_of_an_earlier_boot_is_lost(tmp_path: Path, record: RunRecord) -> None:
    write_record(tmp_path, replace(record, boot_id="another"))
    view = monitor_at(tmp_path).poll()
    assert (view.state, view.reason) == ("lost", "the machine was restarted while it ran")


def test_a_run_of_another_host_is_judged_by_its_events(tmp_path: Path, record: RunRecord) -> None:
    write_record(tmp_path, replace(record, host="gpu-07", agent=gone(record)))
    with_events = [{"kind": "start", "pid": 1}, step(1), step(2), step(3)]
    append(tmp_path, 0, *with_events)
    assert monitor_at(tmp_path, 30).poll().state == "running"
    silent = monitor_at(tmp_path, 100).poll()
    assert silent.state == "lost"
    assert silent.reason is not None and "gpu-07" in silent.reason
    for rank in range(4):
        append(tmp_path, rank, {"kind": "end", "state": "done"})
    assert monitor_at(tmp_path, 11).poll().state == "done"


def test_time_stops_with_the_last_event(tmp_path: Path, record: RunRecord) -> None:
    write_record(tmp_path, replace(record, agent=gone(record), world=1))
    append(tmp_path, 0, step(1), {"kind": "end", "state": "done"})
    view = Monitor(tmp_path, clock=time.time).poll()
    assert (view.state, view.elapsed_s, view.eta_s) == ("done", 10.0, None)


def test_a_start_after_an_end_is_a_resumed_run(tmp_path: Path, record: RunRecord) -> None:
    write_record(tmp_path, replace(record, world=1))
    writer = EventWriter(tmp_path, 0)
    writer.emit("step", step=5, loss=3.0)
    writer.emit("end", state="failed", reason="x")
    writer.emit("start", rank=0)
    writer.emit("step", step=4, loss=2.0)
    writer.close()
    view = Monitor(tmp_path).poll()
    assert (view.state, view.loss) == ("warming_up", ((4, 2.0),))


def test_a_directory_that_vanished_is_told(tmp_path: Path, record: RunRecord) -> None:
    write_record(tmp_path, record)
    monitor = monitor_at(tmp_path)
    (tmp_path / "run.json").unlink()
    with pytest.raises(LaunchError, match="has vanished"):
        monitor.poll()


def test_a_hundred_thousand_steps_are_read_once_and_then_cost_nothing(tmp_path: Path, record: RunRecord) -> None:
    write_record(tmp_path, record)
    lines = [json.dumps({"v": 1, "t": STARTED, **step(number)}) for number in range(1, 20_001)]
    events_path(tmp_path, 0).write_text("\n".join(lines) + "\n")
    monitor = monitor_at(tmp_path)
    assert len(monitor.poll().loss) == 20_000
    began = time.perf_counter()
    for _ in range(10):
        monitor.poll()
    assert (time.perf_counter() - began) / 10 < 0.02
