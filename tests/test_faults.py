"""What may happen to the app, to torchrun and to a rank, each with the real trainer.

After each fault the state that is told is the true one, its cause is named,
`stop` leaves no process, and the terminal of the app that watched is whole.
"""

import contextlib
import json
import os
import signal
from pathlib import Path

import pytest
from fault_scene import Scene, agent_of, keeper_of, processes_of, rank_of

# The app.


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_a_signal_to_the_app_leaves_run_and_terminal_whole(here: Scene, number: signal.Signals) -> None:
    run_dir, app, view = here.in_mid_run()
    os.kill(app.app, number)
    assert app.wait_for_status() == 128 + number
    app.assert_whole()
    told = here.told("watch", "--once", run_dir.name)
    assert (told["state"], told["phase"], told["failure"]) == ("running", "running", None)
    here.trains(run_dir, beyond=view.step or 0)
    other = here.app("attach", rows=24, columns=140)  # the newest that lives, from another terminal
    other.shows(run_dir.name)
    here.assert_stopped(run_dir, state="stopped")
    other.shows("stopped on request")
    here.assert_left(other)


def test_a_terminal_that_goes_away_leaves_the_run_alone(here: Scene) -> None:
    run_dir, app, view = here.in_mid_run()
    app.hang_up()
    here.trains(run_dir, beyond=view.step or 0)
    told = here.told("watch", "--once", run_dir.name)
    assert (told["state"], told["failure"]) == ("running", None)
    here.assert_stopped(run_dir, state="stopped")
    here.assert_left()


def test_a_run_that_the_app_started_has_nothing_of_the_app_and_outlives_it(here: Scene) -> None:
    app = here.app("--node", "cpu")
    app.shows("cpu")
    app.press("L")
    run_dir = here.first_run()
    here.until(run_dir, lambda view: all(rank.pid for rank in view.ranks))
    for pid in processes_of(run_dir):
        assert controlling_terminal(pid) == "0"
        assert open_files(pid) & open_files(app.app) <= {"/dev/null"}
    os.kill(app.app, signal.SIGKILL)
    assert app.wait_for_status() == 128 + signal.SIGKILL
    app.assert_whole()
    here.until(run_dir, lambda view: (view.step or 0) >= 1)
    assert json.loads(here.command("runs", "--json").stdout)["runs"][0]["state"] == "running"
    here.assert_stopped(run_dir, state="stopped")
    here.assert_left()


def controlling_terminal(pid: int) -> str:
    """Field 7 of /proc/<pid>/stat, 0 for none (proc(5): tty_nr)."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[4]


def open_files(pid: int) -> set[str]:
    """What the descriptors of a process lead to; kinds without a name of their own are left out."""
    links: set[str] = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            links.add(str(entry.readlink()))
    return {link for link in links if not link.startswith("anon_inode:")}


def test_a_launch_in_the_foreground_of_a_terminal_that_goes_away_goes_on(here: Scene) -> None:
    terminal = here.app("launch", str(here.config))
    terminal.shows("tok/s/GPU")  # a step
    terminal.hang_up()
    run_dir = here.first_run()
    view = here.trains(run_dir)
    here.trains(run_dir, beyond=view.step or 0)
    here.assert_stopped(run_dir, state="stopped")
    here.assert_left()


def test_two_apps_on_one_run_agree(here: Scene) -> None:
    run_dir, first, _ = here.in_mid_run()
    second = here.app("attach", run_dir.name, rows=40, columns=160)
    second.shows(run_dir.name)
    second.press("X")
    second.shows("Stop")
    second.press("X")
    for app in (first, second):
        app.shows("stopped on request")
    assert here.ended(run_dir)["state"] == "stopped"
    here.assert_stopped(run_dir, state="stopped")
    here.assert_left(first, second)


# torchrun.


def test_sigterm_to_torchrun_stops_the_run_and_is_told(here: Scene) -> None:
    run_dir, app, _ = here.in_mid_run()
    os.kill(agent_of(run_dir), signal.SIGTERM)
    told = here.ended(run_dir)
    assert (told["state"], told["failure"]) == ("stopped", None)
    assert told["reason"].startswith("SIGTERM at step ")
    app.shows("SIGTERM at step")
    here.assert_stopped(run_dir, state="stopped")
    here.assert_left(app)


def test_ranks_go_on_without_torchrun_until_they_are_stopped(here: Scene) -> None:
    run_dir, app, view = here.in_mid_run()
    os.kill(agent_of(run_dir), signal.SIGKILL)
    here.trains(run_dir, beyond=(view.step or 0) + 1)
    told = here.told("watch", "--once", run_dir.name)
    assert (told["state"], told["failure"], [rank["alive"] for rank in told["ranks"]]) == (
        "running",
        None,
        [True, True],
    )
    assert any(warning.startswith("torchrun is gone and its ranks go on") for warning in told["warnings"])
    app.shows("torchrun is gone")
    here.assert_stopped(run_dir, state="stopped")
    app.shows("stopped on request")
    here.assert_left(app)


def test_torchrun_and_its_ranks_killed_at_once_are_told_by_the_exit_status(here: Scene) -> None:
    run_dir, app, _ = here.in_mid_run()
    kill(agent_of(run_dir), *processes_of(run_dir))
    told = here.ended(run_dir)
    assert (told["state"], told["failure"]["kind"], told["exit"]) == ("failed", "launcher_killed", -signal.SIGKILL)
    app.shows("failed")
    here.assert_stopped(run_dir, state="failed")
    here.assert_left(app)


def test_a_run_of_which_nothing_is_left_to_tell_is_lost(here: Scene) -> None:
    run_dir, app, _ = here.in_mid_run()
    kill(keeper_of(run_dir), agent_of(run_dir), *processes_of(run_dir))
    told = here.ended(run_dir)
    assert (told["state"], told["phase"], told["failure"]["kind"]) == ("failed", "lost", "lost")
    assert told["failure"]["command"] == f"cpadvisor launch --resume {run_dir.name}"
    app.shows("lost")
    here.assert_stopped(run_dir, state="failed")
    here.assert_left(app)


def kill(*pids: int) -> None:
    """SIGKILL to all of them."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


# A rank.


def test_a_rank_that_is_killed_is_the_cause(here: Scene) -> None:
    run_dir, app, view = here.in_mid_run()
    os.kill(rank_of(view, 1), signal.SIGKILL)
    told = here.ended(run_dir)
    assert (told["state"], told["failure"]["kind"], told["failure"]["rank"]) == ("failed", "killed", 1)
    assert told["failure"]["headline"].startswith("rank 1 was ended by SIGKILL")
    app.shows("failed")
    here.assert_stopped(run_dir, state="failed")
    here.assert_left(app)


def test_a_rank_that_is_halted_is_told_and_ended(here: Scene) -> None:
    run_dir, app, view = here.in_mid_run()
    os.kill(rank_of(view, 1), signal.SIGSTOP)
    here.until(run_dir, lambda view: view.state == "hung")
    told = here.told("watch", "--once", run_dir.name)
    assert (told["state"], told["phase"]) == ("running", "hung")
    assert (told["failure"]["kind"], told["failure"]["rank"]) == ("hung", 1)
    assert told["failure"]["command"] == f"kill -CONT {rank_of(view, 1)}"
    app.shows("hung")
    here.assert_stopped(run_dir, state="stopped")
    app.shows("stopped on request")
    here.assert_left(app)


def test_a_rank_that_is_halted_and_let_go_trains_on(here: Scene) -> None:
    run_dir, app, view = here.in_mid_run()
    os.kill(rank_of(view, 0), signal.SIGSTOP)
    hung = here.until(run_dir, lambda view: view.state == "hung")
    os.kill(rank_of(view, 0), signal.SIGCONT)
    here.trains(run_dir, beyond=(hung.step or 0) + 1)
    assert here.told("watch", "--once", run_dir.name)["failure"] is None
    here.assert_stopped(run_dir, state="stopped")
    app.shows("stopped on request")
    here.assert_left(app)


@pytest.mark.parametrize(
    ("fault", "phase", "kind", "rank"),
    [
        ("exception:rank=1,step=3", "failed", "exception", 1),
        ("out-of-memory:rank=0,step=2", "out_of_memory", "out_of_memory", 0),
        ("nan:step=3", "failed", "not_a_number", None),
    ],
    ids=["exception", "out of memory", "NaN"],
)
def test_a_rank_that_fails_is_told_with_its_step(
    here: Scene, fault: str, phase: str, kind: str, rank: int | None
) -> None:
    run_dir, app = here.watched(fault=fault)
    told = here.ended(run_dir)
    failure = told["failure"]
    assert (told["state"], told["phase"], failure["kind"]) == ("failed", phase, kind), failure
    assert f"step={failure['step']}" in fault
    assert rank is None or failure["rank"] == rank
    assert failure["mend"] and failure["command"]
    assert any(f"CPADVISOR_FAULT is {fault}" in warning for warning in told["warnings"])
    app.shows(phase.replace("_", " "))
    here.assert_stopped(run_dir, state="failed")
    here.assert_left(app)
