import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from cpadvisor.watch.failure import Failure
from cpadvisor.watch.report import exit_status, last_value, logs_json, run_json, runs_json, watch_json
from cpadvisor.watch.view import FINAL_STATES, LIVE_STATES, Exchange, RankView, RunView

VIEW = RunView(
    run="20261122T120000Z-tiny-1x1x1x2",
    directory=Path("/runs/20261122T120000Z-tiny-1x1x1x2"),
    state="done",
    exit=0,
    model="tiny",
    layout={"dp_replicate": 1, "dp_shard": 1, "tp": 1, "cp": 2},
    sequence_len=8192,
    world=2,
    step=3,
    steps=3,
    started=1_795_348_800.0,
    loss=((1, 4.0), (2, math.nan)),
    step_s=((1, 0.5),),
    ranks=(RankView(rank=0, pid=42, peak_bytes=2000),),
    peak_bytes=2000,
)


def with_state(state: str) -> RunView:
    return RunView(run="r", directory=Path("/runs/r"), state=state)


def test_launch_and_stop_print_the_agreed_fields() -> None:
    assert run_json(VIEW) == {
        "schema": 1,
        "run": "20261122T120000Z-tiny-1x1x1x2",
        "dir": "/runs/20261122T120000Z-tiny-1x1x1x2",
        "state": "done",
        "phase": "done",
        "exit": 0,
        "reason": None,
        "failure": None,
        "notes": [],
    }


def test_a_failure_is_an_object_with_every_field() -> None:
    failure = Failure(kind="killed", headline="rank 1 was ended by SIGKILL", rank=1, evidence=("a", "b"), command="c")
    view = replace(VIEW, state="failed", failure=failure, notes=("run.json has schema 7",))
    shape = run_json(view)
    assert shape["failure"] == {
        "kind": "killed",
        "headline": "rank 1 was ended by SIGKILL",
        "rank": 1,
        "step": None,
        "term": None,
        "evidence": ["a", "b"],
        "mend": None,
        "command": "c",
    }
    assert shape["notes"] == ["run.json has schema 7"]
    assert watch_json(view)["failure"] == runs_json([view])["runs"][0]["failure"] == shape["failure"]


def test_programs_see_four_states_only() -> None:
    public = {state: run_json(with_state(state))["state"] for state in (*LIVE_STATES, *FINAL_STATES)}
    assert {public[state] for state in LIVE_STATES} == {"running"}
    assert [public[state] for state in FINAL_STATES] == ["done", "failed", "failed", "stopped", "failed"]


def test_runs_add_when_what_and_how_long() -> None:
    (row,) = runs_json([VIEW])["runs"]
    assert row["started"] == 1_795_348_800.0
    assert (row["model"], row["layout"]["cp"], row["sequence_len"]) == ("tiny", 2, 8192)
    assert "schema" not in row


def test_every_shape_is_json_without_nan() -> None:
    for shape in (run_json(VIEW), runs_json([VIEW]), watch_json(VIEW), logs_json(VIEW, rank=None, lines=("a",))):
        json.dumps(shape, allow_nan=False)


def test_watching_gives_the_last_figures() -> None:
    shape = watch_json(VIEW)
    assert (shape["step"], shape["step_s"], shape["loss"], shape["peak_bytes"]) == (3, 0.5, None, 2000)
    assert shape["ranks"][0]["pid"] == 42
    assert shape["exchanges"] == []
    ring = Exchange(op="send_recv", sent_bytes=4096, exposed_s=0.5)
    assert watch_json(replace(VIEW, exchanges=(ring,)))["exchanges"] == [
        {"op": "send_recv", "bytes": 4096, "wire_s": None, "exposed_s": 0.5}
    ]


def test_the_last_value_of_nothing_is_unknown() -> None:
    assert last_value(()) is None
    assert last_value(((1, 2.5),)) == 2.5


@pytest.mark.parametrize(
    ("state", "status"),
    [
        ("done", 0),
        ("failed", 1),
        ("out_of_memory", 1),
        ("lost", 1),
        ("stopped", 130),
        ("running", 0),
        ("hung", 0),
        ("stopping", 0),
    ],
)
def test_a_run_gives_its_command_an_exit_status(state: str, status: int) -> None:
    assert exit_status(with_state(state)) == status
