"""What may happen to disk, run directory, port and interpreter, each with the real trainer; see test_faults."""

import os
import shutil
import signal
import socket
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest
from fault_scene import Scene, processes_of, rank_of
from small_disk import fill, on_small_disk

from cpadvisor import launch

DISK_KIB = 4096


def test_a_disk_that_fills_up_is_the_cause(here: Scene, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    def train(disk: Path) -> None:
        run_dir, app, _ = here.in_mid_run("--runs", str(disk))
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
    run_dir, app, _ = here.in_mid_run()
    shutil.rmtree(run_dir)
    app.shows("vanished")
    here.until_gone(run_dir)
    gone = here.command("watch", "--once", str(run_dir))
    assert gone.returncode == 2 and "no run" in gone.stderr
    assert here.command("stop", str(run_dir)).returncode == 2
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
    run_dir, app = here.watched("--python", str(changing))
    told = here.ended(run_dir)
    failure = told["failure"]
    assert (told["state"], failure["kind"], failure["headline"]) == ("failed", "no_torch", f"{changing} has no torch")
    app.shows("failed")
    here.assert_stopped(run_dir, state="failed")
    here.assert_left(app)
