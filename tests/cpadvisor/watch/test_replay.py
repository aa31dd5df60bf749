import json
from collections import Counter
from pathlib import Path

import pytest
from written_runs import STARTED, WrittenRun

from cpadvisor.errors import LaunchError
from cpadvisor.watch.monitor import Monitor
from cpadvisor.watch.replay import Replay
from cpadvisor.watch.report import watch_json


def finished(folder: Path) -> WrittenRun:
    """Ranks at 3 s, models at 4 s, steps at 6, 8, 10, 12, 14 s, the end at 15 s, torchrun's at 16 s."""
    run = WrittenRun(folder / "r")
    run.begin(3.0, cp_method="ring")
    for number in range(1, 6):
        run.step(4.0 + 2 * number, number, loss=5.0 - number / 2)
    run.end(15.0, "done")
    run.file("exit.json", exit=0, t=STARTED + 16.0)
    return run


def states(replay: Replay, *seconds: float) -> list[str]:
    return [replay.at(t).state for t in seconds]


def test_a_run_goes_through_its_states_as_a_monitor_would_have_seen_them(tmp_path: Path) -> None:
    replay = Replay(finished(tmp_path).directory)
    assert replay.duration_s == 16.0
    told = states(replay, 0, 2.9, 3, 4, 9.9, 10, 15.5, 16)
    assert told == ["launching", "launching", "initialising", "warming_up", "warming_up", "running", "running", "done"]


def test_each_frame_shows_what_was_known_then(tmp_path: Path) -> None:
    replay = Replay(finished(tmp_path).directory)
    view = replay.at(10.5)
    assert (view.step, view.elapsed_s, view.eta_s, view.exit) == (3, 10.5, 4.0, None)
    assert view.loss == ((1, 4.5), (2, 4.0), (3, 3.5))
    assert [rank.alive for rank in view.ranks] == [True, True]
    assert [rank.alive for rank in replay.at(15.5).ranks] == [False, False]


def test_the_last_frame_is_what_a_monitor_shows_each_time(tmp_path: Path) -> None:
    run = finished(tmp_path).directory
    shown = Monitor(run).poll()
    for _ in range(2):
        replay = Replay(run)
        assert list(replay.frames())[-1] == shown
        assert replay.at(replay.duration_s) == replay.at(1e9) == shown
    assert (shown.state, shown.exit, shown.elapsed_s) == ("done", 0, 15.0)


def test_frames_are_an_interval_apart_and_the_last_stands_at_the_end(tmp_path: Path) -> None:
    frames = list(Replay(finished(tmp_path).directory).frames(interval_s=0.5))
    assert len(frames) == 33
    assert [view.elapsed_s for view in frames[:3]] == [0.0, 0.5, 1.0]
    assert Counter(view.state for view in frames) == {
        "launching": 6,
        "initialising": 2,
        "warming_up": 12,
        "running": 12,
        "done": 1,
    }


def test_going_back_in_time_gives_the_frame_that_was_shown_before(tmp_path: Path) -> None:
    replay = Replay(finished(tmp_path).directory)
    early, late = replay.at(7.0), replay.at(13.0)
    assert (early.step, late.step) == (1, 4)
    assert replay.at(7.0) == early
    assert replay.at(13.0) == late
    assert replay.at(16.0).state == "done"
    assert replay.at(7.0) == early


def test_a_replay_pauses_between_its_frames_and_goes_as_fast_as_asked(tmp_path: Path) -> None:
    slept: list[float] = []
    frames = list(Replay(finished(tmp_path).directory).play(40.0, tick_s=0.1, sleep=slept.append))
    assert [view.elapsed_s for view in frames] == [0.0, 4.0, 8.0, 12.0, 15.0]
    assert slept == [0.1] * 4


def test_a_silence_is_shown_as_the_hang_that_it_was(tmp_path: Path) -> None:
    run = WrittenRun(tmp_path / "r")
    run.begin(1.0)
    for number in range(1, 4):
        run.step(2.0 + 2 * number, number)
    run.file("stop.json", t=STARTED + 120.0)
    run.end(121.0, "stopped", reason="SIGTERM at step 3")
    replay = Replay(run.directory)
    assert states(replay, 60, 68, 68.5, 119, 120.5, 121) == [
        "running",
        "running",
        "hung",
        "hung",
        "stopping",
        "stopped",
    ]
    hung = replay.at(100.0)
    assert hung.reason is not None and hung.reason.startswith("no rank has given a sign of life for 1 min 32 s")


def test_a_failure_is_told_at_the_end_and_not_before(tmp_path: Path) -> None:
    run = WrittenRun(tmp_path / "r")
    run.begin(1.0)
    run.step(4.0, 1)
    run.event(1, 5.0, "end", state="failed", reason="ValueError: x", step=1)
    run.file("exit.json", exit=1, t=STARTED + 7.0)
    (run.directory / "log-agent.txt").write_text("torchrun's table\n")
    replay = Replay(run.directory)
    assert (replay.at(6.0).state, replay.at(6.0).failure) == ("warming_up", None)
    last = replay.at(7.0)
    assert (last.state, last.reason) == ("failed", "rank 1: ValueError: x")
    assert last == Monitor(run.directory).poll()


def test_an_attempt_before_a_resume_ends_and_another_begins(tmp_path: Path) -> None:
    run = WrittenRun(tmp_path / "r", attempt=2, started=STARTED + 100.0)
    run.begin(1.0)
    run.step(4.0, 1)
    run.step(6.0, 2, loss=3.5)
    run.end(7.0, "failed", reason="ValueError: x")
    run.begin(103.0, resumed_from=1)
    run.step(106.0, 2, loss=3.0)
    run.end(108.0, "done")
    # What lies in the files is of the last attempt.
    (run.directory / "log-agent.txt").write_text("  rank : 1 (local_rank: 1)\n  exitcode : -9 (pid: 9)\n")
    replay = Replay(run.directory)
    assert replay.duration_s == 107.0
    told = states(replay, 0, 5, 50, 99.5, 102, 103, 106, 107)
    assert told == [
        *("initialising", "warming_up", "failed", "launching", "initialising", "warming_up", "warming_up", "done"),
    ]
    assert replay.at(50.0).reason == "rank 0: ValueError: x"
    assert replay.at(5.0).loss == ((1, 4.0), (2, 3.5))
    assert replay.at(106.0).loss == ((1, 4.0), (2, 3.0))
    assert list(replay.frames())[-1] == Monitor(run.directory).poll()


def test_a_run_of_another_version_replays_with_its_notes(tmp_path: Path) -> None:
    run = finished(tmp_path)
    values = json.loads((run.directory / "run.json").read_text())
    (run.directory / "run.json").write_text(json.dumps({**values, "schema": 7, "started": None}))
    run.event(0, 15.5, "sonnet", v=9)
    (run.directory / "events-rank1.jsonl").open("a").write('{"torn')
    replay = Replay(run.directory)
    # Nothing says when it began, so it begins with its first event.
    assert replay.duration_s == 13.0
    assert replay.at(5.0).notes == replay.at(1e9).notes == Monitor(run.directory).poll().notes
    assert len(replay.at(5.0).notes) == 2
    assert replay.at(1e9) == Monitor(run.directory).poll()


def test_a_run_that_never_spoke_is_one_frame(tmp_path: Path) -> None:
    replay = Replay(WrittenRun(tmp_path / "r").directory)
    assert replay.duration_s == 0.0
    assert [view.state for view in replay.frames()] == ["lost"]


def test_a_run_of_axolotl_is_not_shown_to_have_hung_before_its_end(tmp_path: Path) -> None:
    run = WrittenRun(tmp_path / "r", engine="axolotl", config="/job.yaml")
    log = tmp_path / "r" / "torchrun" / "none_x1" / "attempt_0" / "0" / "stderr.log"
    log.parent.mkdir(parents=True)
    log.write_text("{'loss': 2.5}\n")
    run.file("exit.json", exit=0, t=STARTED + 3600.0)
    assert states(Replay(run.directory), 30, 1800, 3600) == ["running", "running", "done"]


def test_a_checkpoint_that_was_deleted_since_was_there_then(tmp_path: Path) -> None:
    run = finished(tmp_path)
    run.event(0, 5.0, "checkpoint", step=1, resumable=True)
    run.event(0, 60.0, "heartbeat", step=1)
    replay = Replay(run.directory)
    assert (replay.at(30.0).checkpoint_step, replay.at(1e9).checkpoint_step) == (1, None)


def test_frames_are_json_like_a_look_at_a_live_run(tmp_path: Path) -> None:
    for view in Replay(finished(tmp_path).directory).frames(2.0):
        json.dumps(watch_json(view), allow_nan=False)


def test_a_directory_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LaunchError, match="is no run"):
        Replay(tmp_path)
