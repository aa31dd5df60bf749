"""The states of a run as a monitor tells them, from processes, events and the silence between them."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from living_runs import STARTED, append, gone, monitor_at, step

from cpadvisor.processes import identify
from cpadvisor.runrecord import RunRecord, read_record, write_record
from cpadvisor.watch.door import Answer
from cpadvisor.watch.lost import VanishedError
from cpadvisor.watch.monitor import Monitor
from cpadvisor.watch.sources import Sources
from cpadvisor.watch.view import RunView


def lives(tmp_path: Path, record: RunRecord, *events: dict[str, object], **facts: object) -> None:
    """A run of this very process with the events of rank 0, all of second 10."""
    write_record(tmp_path, replace(record, **facts))  # pyright: ignore[reportArgumentType]
    append(tmp_path, 0, *events)


PROCESS: dict[str, object] = {"kind": "process", "pid": 1, "door": "/run/door", "host": "h"}
START: dict[str, object] = {"kind": "start", "pid": 1}
STEPS = [step(1), step(2), step(3)]


@pytest.mark.parametrize(
    ("events", "seconds", "state"),
    [
        ([], 599.0, "launching"),
        ([], 601.0, "hung"),
        ([PROCESS], 609.0, "initialising"),
        ([PROCESS], 611.0, "hung"),
        ([PROCESS, START], 609.0, "warming_up"),
        ([PROCESS, START, *STEPS[:2]], 69.0, "warming_up"),
        ([PROCESS, START, *STEPS], 69.0, "running"),
        ([PROCESS, START, *STEPS], 71.0, "hung"),
        ([START, step(1, step_s=9.0), step(2, step_s=9.0), step(3, step_s=9.0)], 99.0, "running"),
        ([START, step(1, step_s=9.0), step(2, step_s=9.0), step(3, step_s=9.0)], 101.0, "hung"),
        ([START, *STEPS, {"kind": "checkpoint", "step": 3, "seconds": 40.0}], 129.0, "running"),
        ([START, *STEPS, {"kind": "checkpoint", "step": 3, "seconds": 40.0}], 131.0, "hung"),
        # All steps are done: the model is written, which says nothing.
        ([START, step(49), step(50)], 609.0, "warming_up"),
    ],
)
def test_a_state_follows_from_what_was_said_and_from_the_silence_since(
    tmp_path: Path, record: RunRecord, events: list[dict[str, object]], seconds: float, state: str
) -> None:
    lives(tmp_path, record, *events)
    assert monitor_at(tmp_path, seconds).poll().state == state


def test_any_rank_that_speaks_breaks_the_silence(tmp_path: Path, record: RunRecord) -> None:
    lives(tmp_path, record, START, *STEPS)
    append(tmp_path, 3, {"kind": "heartbeat", "step": 3, "t": STARTED + 60})
    monitor = monitor_at(tmp_path, 119)
    assert monitor.poll().state == "running"
    assert monitor_at(tmp_path, 121).poll().state == "hung"


def test_a_halted_rank_hangs_the_run_at_once_and_one_that_goes_on_frees_it(tmp_path: Path, record: RunRecord) -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        process = identify(child.pid)
        assert process is not None
        lives(tmp_path, record, START, *STEPS)
        append(tmp_path, 1, {"kind": "process", "pid": process.pid, "pid_start": process.start_ticks})
        monitor = monitor_at(tmp_path)
        assert monitor.poll().state == "running"
        os.kill(child.pid, signal.SIGSTOP)
        os.waitpid(child.pid, os.WUNTRACED)
        view = monitor.poll()
        assert (view.state, [rank.halted for rank in view.ranks]) == ("hung", [False, True, False, False])
        assert view.failure is not None
        assert (view.failure.kind, view.failure.rank, view.failure.command) == ("hung", 1, f"kill -CONT {child.pid}")
        assert view.reason == view.failure.headline
        os.kill(child.pid, signal.SIGCONT)
        os.waitid(os.P_PID, child.pid, os.WCONTINUED)
        assert monitor.poll().state == "running"
    finally:
        child.kill()
        child.wait()


def prints(run_dir: Path, rank: int, seconds: float) -> None:
    """A rank that axolotl started prints a line, so many seconds after the launch."""
    log = run_dir / "torchrun" / "none_x1" / "attempt_0" / str(rank) / "stderr.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text("{'loss': 2.5}\n")
    os.utime(log, (STARTED + seconds, STARTED + seconds))


def test_a_run_of_axolotl_runs_while_its_logs_grow(tmp_path: Path, record: RunRecord) -> None:
    lives(tmp_path, record, engine="axolotl", config="/job.yaml")
    assert monitor_at(tmp_path, 30).poll().state == "launching"
    prints(tmp_path, 1, 3000.0)
    view = monitor_at(tmp_path, 3590).poll()
    assert (view.state, view.failure) == ("running", None)


def test_a_run_of_axolotl_whose_logs_are_silent_is_looked_at_before_it_is_ended(
    tmp_path: Path, record: RunRecord
) -> None:
    lives(tmp_path, record, engine="axolotl", config="/job.yaml")
    prints(tmp_path, 0, 100.0)
    view = monitor_at(tmp_path, 820).poll()
    assert view.failure is not None
    assert (view.state, view.failure.command) == ("hung", f"cpadvisor logs {tmp_path} --rank 0")
    assert view.reason == "its logs have been silent for 12 min 00 s: it hangs, or a step takes that long"


def test_a_run_of_axolotl_on_another_host_lives_as_long_as_its_logs_grow(tmp_path: Path, record: RunRecord) -> None:
    lives(tmp_path, record, engine="axolotl", config="/job.yaml", host="gpu-07")
    prints(tmp_path, 0, 3000.0)
    assert monitor_at(tmp_path, 3590).poll().state == "running"
    assert monitor_at(tmp_path, 3610).poll().state == "lost"
    (tmp_path / "exit.json").write_text(json.dumps({"exit": 0, "t": STARTED + 3001}))
    assert monitor_at(tmp_path, 3010).poll().state == "done"


class Answering(Sources):
    """Ranks that tell through their doors what they do; asked for nothing but that."""

    answers: Mapping[int, Answer] | None = None
    asked: Mapping[int, str] | None = None

    def ask(self, doors: Mapping[int, str]) -> Mapping[int, Answer] | None:
        self.asked = doors
        return self.answers


def hung(tmp_path: Path, record: RunRecord, *answers: Answer) -> tuple[RunView, Answering]:
    """Two living ranks that have been silent for 90 s, with what their doors answer."""
    me = identify(os.getpid())
    assert me is not None
    write_record(tmp_path, replace(record, world=2))
    for rank in range(2):
        process = {"pid": me.pid, "pid_start": me.start_ticks, "door": f"/run/{rank}"}
        append(tmp_path, rank, {"kind": "process", **process}, START, *STEPS)
    sources = Answering(tmp_path, clock=lambda: STARTED + 100)
    sources.answers = dict(enumerate(answers))
    return Monitor(tmp_path, sources=sources).poll(), sources


def test_ranks_of_a_hung_run_are_asked_through_their_doors_who_lags(tmp_path: Path, record: RunRecord) -> None:
    view, sources = hung(tmp_path, record, Answer(step=5, phase="optimizer"), Answer(step=4, phase="data"))
    assert sources.asked == {0: "/run/0", 1: "/run/1"}
    assert view.state == "hung"
    assert view.failure is not None
    assert view.failure.headline == "no rank has given a sign of life for 1 min 30 s; rank 1 lags at step 4"
    assert view.failure.evidence[0] == "rank 1: step 4 in data"


def test_ranks_that_write_a_model_are_silent_and_not_hung(tmp_path: Path, record: RunRecord) -> None:
    view, _ = hung(tmp_path, record, Answer(step=4, phase="save"), Answer(step=4, phase="save"))
    assert (view.state, view.failure) == ("running", None)


def test_a_run_that_goes_on_is_never_asked(tmp_path: Path, record: RunRecord) -> None:
    write_record(tmp_path, record)
    append(tmp_path, 0, PROCESS, START, *STEPS)
    sources = Answering(tmp_path, clock=lambda: STARTED + 12)
    Monitor(tmp_path, sources=sources).poll()
    assert sources.asked is None


# What has ended.


def ended(tmp_path: Path, record: RunRecord, *events: dict[str, object], **facts: object) -> RunView:
    lives(tmp_path, record, *events, agent=gone(record), **facts)
    return monitor_at(tmp_path, 60).poll()


def test_out_of_memory_is_a_state_of_its_own_with_term_and_knob(tmp_path: Path, record: RunRecord) -> None:
    gib = 2**30
    short = {
        "kind": "out_of_memory",
        "step": 4,
        "phase": "backward",
        "requested_bytes": 2 * gib,
        "allocated_bytes": 70 * gib,
        "reserved_bytes": 70 * gib,
        "terms_bytes": {"parameters": 4 * gib, "activations": 66 * gib},
    }
    end = {
        "kind": "end",
        "state": "failed",
        "reason": "out of GPU memory: Tried to",
        "cause": "out_of_memory",
        "step": 4,
    }
    predicted = {"terms_bytes": {"parameters": 4 * gib, "activations": 50 * gib}}
    view = ended(tmp_path, record, START, *STEPS, short, end, prediction=predicted)
    assert view.state == "out_of_memory"
    assert view.failure is not None
    assert (view.failure.kind, view.failure.term, view.failure.rank, view.failure.step) == (
        *("out_of_memory", "activations", 0, 4),
    )
    assert view.reason == (
        "rank 0 ran out of GPU memory in the backward pass of step 4: "
        "activations need 68.0 GiB, 50.0 GiB were predicted"
    )
    assert view.failure.command is not None


def test_a_run_that_was_stopped_has_a_reason_and_no_failure(tmp_path: Path, record: RunRecord) -> None:
    view = ended(tmp_path, record, START, {"kind": "end", "state": "stopped", "reason": "SIGTERM at step 3"})
    assert (view.state, view.reason, view.failure) == ("stopped", "SIGTERM at step 3", None)


def test_a_run_without_a_last_word_is_lost_with_the_command_that_goes_on(tmp_path: Path, record: RunRecord) -> None:
    view = ended(tmp_path, record, START, *STEPS)
    assert (view.state, view.exit) == ("lost", None)
    assert view.failure is not None
    assert (view.failure.kind, view.failure.command) == ("lost", f"cpadvisor launch --resume {tmp_path}")


def test_a_run_that_just_began_on_another_host_is_not_lost(tmp_path: Path, record: RunRecord) -> None:
    write_record(tmp_path, replace(record, host="gpu-07"))
    assert monitor_at(tmp_path, 30).poll().state == "launching"
    lost = monitor_at(tmp_path, 601).poll()
    assert lost.state == "lost"
    assert lost.failure is not None
    assert lost.failure.command == f"ssh gpu-07 cpadvisor watch --once {tmp_path}"


def test_a_long_step_on_another_host_is_no_end(tmp_path: Path, record: RunRecord) -> None:
    slow = [step(number, step_s=30.0) for number in (1, 2, 3)]
    lives(tmp_path, record, START, *slow, host="gpu-07")
    assert monitor_at(tmp_path, 309).poll().state == "running"
    assert monitor_at(tmp_path, 311).poll().state == "lost"


def test_a_run_that_is_lost_or_hangs_tells_the_checkpoint_from_which_it_goes_on(
    tmp_path: Path, record: RunRecord
) -> None:
    lives(tmp_path, record, START, *STEPS)
    (tmp_path / "checkpoints" / "step-2").mkdir(parents=True)
    hung = monitor_at(tmp_path, 300).poll()
    assert (hung.state, hung.checkpoint_step) == ("hung", 2)
    assert hung.failure is not None and hung.failure.mend is not None
    assert hung.failure.mend.endswith(": it goes on from its checkpoint of step 2")
    write_record(tmp_path, replace(record, agent=gone(record), boot_id="earlier"))
    lost = monitor_at(tmp_path, 300).poll()
    assert (lost.state, lost.checkpoint_step) == ("lost", 2)
    assert lost.failure is not None
    assert lost.failure.mend == "start it again: it goes on from its checkpoint of step 2"


def test_a_checkpoint_that_was_deleted_since_is_not_promised(tmp_path: Path, record: RunRecord) -> None:
    kept = {"kind": "checkpoint", "step": 2, "seconds": 1.0, "resumable": True}
    view = ended(tmp_path, record, START, *STEPS, kept)
    assert view.failure is not None and view.failure.mend is not None
    assert (view.checkpoint_step, view.failure.mend.startswith("start it again: it begins anew")) == (None, True)


def test_an_ended_run_is_judged_again_when_its_exit_status_comes(tmp_path: Path, record: RunRecord) -> None:
    lives(tmp_path, record, START, agent=gone(record))
    monitor = monitor_at(tmp_path, 60)
    assert monitor.poll().state == "lost"
    (tmp_path / "exit.json").write_text(json.dumps({"exit": -9, "t": STARTED + 20}))
    view = monitor.poll()
    assert (view.state, view.reason) == ("failed", "torchrun was ended by SIGKILL from outside")


@pytest.mark.parametrize("deep", [False, True])
def test_an_exit_status_that_is_damaged_says_nothing(tmp_path: Path, record: RunRecord, deep: bool) -> None:
    (tmp_path / "exit.json").write_text("[" * 100_000 if deep else '{"exit": NaN, "t": Infinity, "oom_kills": [1]}')
    view = ended(tmp_path, record, START)
    assert (view.state, view.exit) == ("lost", None)


def test_a_kill_is_judged_again_when_the_kernels_count_comes(tmp_path: Path, record: RunRecord) -> None:
    lives(tmp_path, record, START, agent=gone(record), oom_kills=4)
    (tmp_path / "log-agent.txt").write_text("  rank : 1 (local_rank: 1)\n  exitcode : -9 (pid: 9)\n")
    monitor = monitor_at(tmp_path, 60)
    for told, kind in (({"exit": 1}, "killed"), ({"exit": 1, "oom_kills": 6}, "host_memory")):
        (tmp_path / "exit.json").write_text(json.dumps({"t": STARTED + 20, **told}))
        view = monitor.poll()
        assert view.failure is not None and view.failure.kind == kind
    assert "the kernel killed 2 process(es) for want of memory while the run ran" in view.failure.evidence


def test_what_torchrun_wrote_between_two_looks_is_read(tmp_path: Path, record: RunRecord) -> None:
    write_record(tmp_path, replace(record, agent=None))
    monitor = monitor_at(tmp_path, 3)
    assert monitor.poll().state == "launching"
    write_record(tmp_path, replace(record, agent=gone(record)))
    (tmp_path / "log-agent.txt").write_text("RuntimeError: no rendezvous\n")
    (tmp_path / "exit.json").write_text(json.dumps({"exit": 1, "t": STARTED + 2}))
    view = monitor.poll()
    assert (view.state, view.reason) == ("failed", "RuntimeError: no rendezvous")


def test_what_was_written_while_a_run_of_another_host_seemed_lost_is_read(tmp_path: Path, record: RunRecord) -> None:
    lives(tmp_path, record, START, *STEPS, host="gpu-07")
    now = [STARTED + 80]
    monitor = Monitor(tmp_path, clock=lambda: now[0])
    assert monitor.poll().state == "lost"
    append(tmp_path, 0, {"kind": "heartbeat", "step": 3, "t": STARTED + 85})
    now[0] = STARTED + 90
    assert monitor.poll().state == "running"
    (tmp_path / "log-agent.txt").write_text("  rank : 1 (local_rank: 1)\n  exitcode : -9 (pid: 9)\n")
    now[0] = STARTED + 200
    assert (monitor.poll().state, monitor.poll().reason) == (
        *("failed", "rank 1 was ended by SIGKILL: killed from outside, or by the kernel for want of host memory"),
    )


def test_a_resume_begins_anew_while_a_monitor_looks_on(tmp_path: Path, record: RunRecord) -> None:
    lives(tmp_path, record, START, *STEPS, agent=gone(record))
    append(tmp_path, 0, {"kind": "end", "state": "failed", "reason": "ValueError: x"})
    now = [STARTED + 20]
    monitor = Monitor(tmp_path, clock=lambda: now[0])
    assert monitor.poll().reason == "rank 0: ValueError: x"
    write_record(tmp_path, replace(record, attempt=2, started=STARTED + 30))
    now[0] = STARTED + 31
    view = monitor.poll()
    assert (view.state, view.failure, view.elapsed_s) == ("launching", None, 1.0)
    append(tmp_path, 0, {**PROCESS, "t": STARTED + 32}, {**START, "t": STARTED + 33, "resumed_from": 2})
    now[0] = STARTED + 34
    assert monitor.poll().state == "warming_up"


def test_warnings_of_the_attempt_before_a_resume_are_gone(tmp_path: Path, record: RunRecord) -> None:
    warned: dict[str, object] = {"kind": "warning", "rule": "padding", "message": "most is padding"}
    lives(tmp_path, record, PROCESS, START, warned, step(1, loss=None))
    now = [STARTED + 20]
    monitor = Monitor(tmp_path, clock=lambda: now[0])
    assert monitor.poll().warnings == ("rank 0: most is padding", "the loss of step 1 is not a number")
    write_record(tmp_path, replace(record, attempt=2, started=STARTED + 30))
    now[0] = STARTED + 31
    assert monitor.poll().warnings == ()
    append(tmp_path, 0, {**PROCESS, "t": STARTED + 32}, {**START, "t": STARTED + 33})
    assert monitor.poll().warnings == ()


def test_what_vanished_is_told_with_the_processes_that_still_run(tmp_path: Path, record: RunRecord) -> None:
    lives(tmp_path, record, START, *STEPS)
    monitor = monitor_at(tmp_path)
    monitor.poll()
    (tmp_path / "run.json").unlink()
    with pytest.raises(VanishedError, match=f"has vanished.*processes {os.getpid()} of it still run") as told:
        monitor.poll()
    view = told.value.view
    assert (view.state, view.step) == ("running", 3)
    assert view.failure is not None
    assert (view.failure.kind, view.failure.command) == ("vanished", f"cpadvisor stop {tmp_path}")


def test_what_vanishes_between_two_looks_at_it_has_vanished(
    tmp_path: Path, record: RunRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    lives(tmp_path, record, START, *STEPS)
    monitor = monitor_at(tmp_path)
    write_record(tmp_path, replace(record, attempt=2, model="other"))

    def vanish(run_dir: Path) -> RunRecord:
        (run_dir / "run.json").unlink()
        return read_record(run_dir)

    monkeypatch.setattr("cpadvisor.watch.sources.read_record", vanish)
    with pytest.raises(VanishedError, match="has vanished"):
        monitor.poll()


def test_what_vanished_after_its_end_is_lost(tmp_path: Path, record: RunRecord) -> None:
    lives(tmp_path, record, START, agent=gone(record))
    monitor = monitor_at(tmp_path)
    (tmp_path / "run.json").unlink()
    with pytest.raises(VanishedError, match=r"no process of it runs; nothing of it is left to end$") as told:
        monitor.poll()
    assert told.value.view.state == "lost"


def test_a_torchrun_that_is_halted_is_a_warning_and_no_hang(tmp_path: Path, record: RunRecord) -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        lives(tmp_path, record, START, *STEPS, agent=identify(child.pid))
        monitor = monitor_at(tmp_path)
        assert monitor.poll().warnings == ()
        os.kill(child.pid, signal.SIGSTOP)
        os.waitpid(child.pid, os.WUNTRACED)
        view = monitor.poll()
        assert view.state == "running"
        assert view.warnings[0].startswith("torchrun is halted")
    finally:
        child.kill()
        child.wait()


def test_a_record_that_cannot_be_read_for_a_moment_is_noted_and_the_run_goes_on(
    tmp_path: Path, record: RunRecord
) -> None:
    lives(tmp_path, record, START, *STEPS)
    monitor = monitor_at(tmp_path, 20)
    assert (monitor.poll().state, monitor.poll().notes) == ("running", ())
    whole = (tmp_path / "run.json").read_text()
    (tmp_path / "run.json").write_text("{")
    torn = monitor.poll()
    assert (torn.state, torn.step) == ("running", 3)
    assert torn.notes[0].startswith(f"cannot read {tmp_path / 'run.json'}: ")
    assert torn.notes[0].endswith("; what it said before is shown")
    (tmp_path / "run.json").write_text(whole)
    assert (monitor.poll().state, monitor.poll().notes) == ("running", ())
