"""What may happen to the app, to torchrun, to a rank and to the machine, each with the real trainer.

After each fault the state that is told is the true one, its cause is named,
`stop` leaves no process, and the terminal of the app that watched is whole.
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest
from app_terminal import AppTerminal
from fault_scene import Scene, agent_of, keeper_of, processes_of, rank_of, scene
from small_disk import fill, on_small_disk

from cpadvisor import launch
from cpadvisor.watch.view import RunView

DISK_KIB = 4096


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Scene]:
    with scene(tmp_path) as made:
        yield made


def watched(here: Scene, *words: str, fault: str | None = None) -> tuple[Path, AppTerminal]:
    """A training that begins, and the app that shows it."""
    run_dir = here.launch(*words, fault=fault)
    app = here.app("attach", str(run_dir))
    app.shows(run_dir.name)
    return run_dir, app


def in_mid_run(here: Scene, *words: str) -> tuple[Path, AppTerminal, RunView]:
    """A training in mid-run, and the app that shows it."""
    run_dir, app = watched(here, *words)
    return run_dir, app, here.trains(run_dir)


# The app.


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_a_signal_to_the_app_leaves_run_and_terminal_whole(here: Scene, number: signal.Signals) -> None:
    run_dir, app, view = in_mid_run(here)
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
    run_dir, app, view = in_mid_run(here)
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
    terminal.shows("step 1/")
    terminal.hang_up()
    run_dir = here.first_run()
    view = here.trains(run_dir)
    here.trains(run_dir, beyond=view.step or 0)
    here.assert_stopped(run_dir, state="stopped")
    here.assert_left()


def test_two_apps_on_one_run_agree(here: Scene) -> None:
    run_dir, first, _ = in_mid_run(here)
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
    run_dir, app, _ = in_mid_run(here)
    os.kill(agent_of(run_dir), signal.SIGTERM)
    told = here.ended(run_dir)
    assert (told["state"], told["failure"]) == ("stopped", None)
    assert told["reason"].startswith("SIGTERM at step ")
    app.shows("SIGTERM at step")
    here.assert_stopped(run_dir, state="stopped")
    here.assert_left(app)


def test_ranks_go_on_without_torchrun_until_they_are_stopped(here: Scene) -> None:
    run_dir, app, view = in_mid_run(here)
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
    run_dir, app, _ = in_mid_run(here)
    kill(agent_of(run_dir), *processes_of(run_dir))
    told = here.ended(run_dir)
    assert (told["state"], told["failure"]["kind"], told["exit"]) == ("failed", "launcher_killed", -signal.SIGKILL)
    app.shows("failed")
    here.assert_stopped(run_dir, state="failed")
    here.assert_left(app)


def test_a_run_of_which_nothing_is_left_to_tell_is_lost(here: Scene) -> None:
    run_dir, app, _ = in_mid_run(here)
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
    run_dir, app, view = in_mid_run(here)
    os.kill(rank_of(view, 1), signal.SIGKILL)
    told = here.ended(run_dir)
    assert (told["state"], told["failure"]["kind"], told["failure"]["rank"]) == ("failed", "killed", 1)
    assert told["failure"]["headline"].startswith("rank 1 was ended by SIGKILL")
    app.shows("failed")
    here.assert_stopped(run_dir, state="failed")
    here.assert_left(app)


def test_a_rank_that_is_halted_is_told_and_ended(here: Scene) -> None:
    run_dir, app, view = in_mid_run(here)
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
    run_dir, app, view = in_mid_run(here)
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
    run_dir, app = watched(here, fault=fault)
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


# The machine.


def test_a_disk_that_fills_up_is_the_cause(here: Scene, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    def train(disk: Path) -> None:
        run_dir, app, _ = in_mid_run(here, "--runs", str(disk))
        filler = fill(disk)
        here.until(run_dir, lambda view: view.is_final)
        told = here.told("watch", "--once", str(run_dir))
        assert (told["state"], told["failure"]["kind"]) == ("failed", "disk_full"), told["failure"]
        assert told["failure"]["command"] == f"cpadvisor launch --resume {run_dir}"
        app.shows("failed")
        here.assert_stopped(run_dir, state="failed")
        here.assert_left(app)
        filler.unlink()
        here.launch_again(run_dir)
        here.assert_stopped(run_dir, state="stopped")

    on_small_disk(request, tmp_path / "disk", DISK_KIB, train)


def test_a_run_directory_that_vanishes_ends_the_run_before_the_eyes_of_the_app(here: Scene) -> None:
    run_dir, app, _ = in_mid_run(here)
    shutil.rmtree(run_dir)
    app.shows("vanished")
    here.until_gone(run_dir)
    gone = here.command("watch", "--once", str(run_dir))
    assert gone.returncode == 1 and "no run" in gone.stderr
    assert here.command("stop", str(run_dir)).returncode == 1
    here.assert_left(app)


def test_a_run_that_hangs_without_its_directory_is_found_and_stopped(here: Scene) -> None:
    run_dir = here.launch()
    view = here.trains(run_dir)
    for rank in (0, 1):
        os.kill(rank_of(view, rank), signal.SIGSTOP)
    shutil.rmtree(run_dir)
    told = here.told("watch", "--once", run_dir.name)
    assert (told["state"], told["failure"]["kind"]) == ("running", "vanished")
    assert told["failure"]["command"] == f"cpadvisor stop {run_dir.name}"
    assert [rank["alive"] for rank in told["ranks"]] == [True, True]
    (row,) = here.told("runs")["runs"]
    assert (row["run"], row["state"], row["failure"]["kind"]) == (run_dir.name, "running", "vanished")
    stopped = here.told("stop", run_dir.name)
    assert (stopped["state"], stopped["failure"]["kind"]) == ("stopped", "vanished")
    assert processes_of(run_dir) == []
    assert here.told("runs")["runs"] == []
    here.assert_left()


@pytest.fixture
def taken() -> Iterator[int]:
    """A port on which this process listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_a_port_that_is_taken_starts_nothing(here: Scene, taken: int) -> None:
    refused = here.command("launch", str(here.config), "--port", str(taken))
    assert refused.returncode == 1
    assert f"port {taken} of this host cannot be listened on: process {os.getpid()} (" in refused.stderr
    assert here.told("runs")["runs"] == []


def test_a_port_that_is_taken_at_the_last_moment_is_the_cause(
    here: Scene, taken: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cpadvisor.launch.starting.require_free_port", lambda port: None)
    for name, value in here.env.items():
        monkeypatch.setenv(name, value)
    run_dir = launch.start(here.config, port=taken)
    app = here.app("attach", run_dir.name)
    told = here.ended(run_dir)
    failure = told["failure"]
    assert (told["state"], failure["kind"]) == ("failed", "port_taken")
    assert failure["headline"] == f"port {taken} of this host was taken already"
    assert any(f"process {os.getpid()} (" in line for line in failure["evidence"])
    app.shows("failed")
    here.assert_stopped(run_dir, state="failed")
    here.assert_left(app)


@pytest.fixture
def bare_python(tmp_path: Path) -> Path:
    """An interpreter without torch."""
    venv.create(tmp_path / "bare", with_pip=False)
    return tmp_path / "bare" / "bin" / "python"


def test_an_interpreter_without_torch_starts_nothing(here: Scene, bare_python: Path) -> None:
    refused = here.command("launch", str(here.config), "--python", str(bare_python))
    assert refused.returncode == 3
    assert f"{bare_python}: has no torch" in refused.stderr
    assert f"`{bare_python} -m pip install" in refused.stderr
    assert here.told("runs")["runs"] == []


def test_an_interpreter_that_loses_its_torch_is_the_cause(here: Scene, bare_python: Path, tmp_path: Path) -> None:
    changing = tmp_path / "python"
    changing.write_text(f'#!/bin/sh\n[ "$1" = -c ] && echo "[[3, 12], []]" && exit\nexec {bare_python} "$@"\n')
    changing.chmod(0o755)
    run_dir, app = watched(here, "--python", str(changing))
    told = here.ended(run_dir)
    failure = told["failure"]
    assert (told["state"], failure["kind"], failure["headline"]) == ("failed", "no_torch", f"{changing} has no torch")
    app.shows("failed")
    here.assert_stopped(run_dir, state="failed")
    here.assert_left(app)
