"""`launch`, `attach`, `stop`, `logs` and `watch` as typed, on runs without torch."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cpadvisor import cli, launch, rundir
from cpadvisor.commands.running import StepPrinter
from cpadvisor.report.run import resumed_text
from cpadvisor.runrecord import read_record
from cpadvisor.tui.guard import Guard
from cpadvisor.watch.view import RunView

Fake = Callable[[str], None]
Until = Callable[..., RunView]
Typed = Callable[..., tuple[int, str, str]]


@pytest.fixture
def typed(runs: Path, capsys: pytest.CaptureFixture[str]) -> Typed:
    """Runs one command on the folder of the test; gives its exit status, stdout and stderr."""

    def run(*argv: object) -> tuple[int, str, str]:
        capsys.readouterr()
        try:
            status = cli.main([*map(str, argv), "--runs", str(runs)])
        except SystemExit as leave:
            status = int(leave.code or 0)
        told = capsys.readouterr()
        return status, told.out, told.err

    return run


@pytest.fixture
def failed_run(config: Path, runs: Path, fake_torch: Fake, poll_until: Until) -> Path:
    fake_torch("fail")
    run_dir = launch.start(config, runs=runs)
    poll_until(run_dir, lambda view: view.is_final and (run_dir / "exit.json").exists())
    return run_dir


@pytest.fixture
def long_run(config: Path, runs: Path, fake_torch: Fake, poll_until: Until) -> Path:
    fake_torch("long")
    run_dir = launch.start(config, runs=runs)
    poll_until(run_dir, lambda view: view.step is not None and all(rank.pid for rank in view.ranks))
    return run_dir


def test_launch_needs_a_file_or_a_run_and_not_both(typed: Typed, config: Path) -> None:
    status, out, err = typed("launch")
    assert (status, out) == (2, "")
    assert "launch takes a config FILE or --resume RUN, and neither was given" in err
    assert "and both were given" in typed("launch", config, "--resume", "2026")[2]


def test_a_failed_run_is_resumed_by_name_and_followed_to_its_end(
    typed: Typed, failed_run: Path, fake_torch: Fake
) -> None:
    fake_torch("train")
    status, out, err = typed("launch", "--resume", failed_run.name, "--json")
    told = json.loads(out)
    assert (status, told["state"], told["run"], told["dir"]) == (0, "done", failed_run.name, str(failed_run))
    assert read_record(failed_run).attempt == 2
    assert "step 3/3" in err


def test_a_step_is_said_once_and_again_where_a_resume_makes_it_again(capsys: pytest.CaptureFixture[str]) -> None:
    before = RunView(
        run="r", directory=Path("/runs/r"), state="warming_up", step=2, steps=3, step_s=((1, 1.0), (2, 1.5))
    )
    again = replace(before, step_s=((1, 1.0), (2, 1.6)))
    show = StepPrinter(before)
    for view in (before, again, again):
        show(view)
    assert capsys.readouterr().err.count("step 2/3") == 1
    StepPrinter()(before)
    assert "step 2/3" in capsys.readouterr().err


def test_a_resume_does_not_begin_with_the_step_of_the_attempt_before(
    typed: Typed, config: Path, runs: Path, fake_torch: Fake, failed_run: Path
) -> None:
    line = {"v": 1, "seq": 9, "t": 1.0, "kind": "step", "step": 3, "loss": 9.25, "step_s": 77.0}
    (failed_run / "events-rank0.jsonl").write_text(json.dumps(line) + "\n")
    fake_torch("train")
    _, _, err = typed("launch", "--resume", failed_run.name)
    assert "77.0 s" not in err and "step 3/3" in err


def test_an_unknown_run_is_not_resumed(typed: Typed, failed_run: Path) -> None:
    status, out, err = typed("launch", "--resume", "nope")
    assert (status, out) == (2, "")
    assert f"no run 'nope' in {failed_run.parent}; it holds {failed_run.name}" in err


@pytest.mark.parametrize("port", ["0", "65536", "-1"])
def test_a_number_that_is_no_port_is_a_usage_error_and_starts_nothing(
    typed: Typed, config: Path, runs: Path, fake_torch: Fake, port: str
) -> None:
    fake_torch("train")
    status, _, err = typed("launch", config, f"--port={port}")
    assert (status, rundir.list_runs(runs)) == (2, ())
    assert f"--port {port} is no port: ports go from 1 to 65535" in err


def test_a_port_goes_to_torchrun(typed: Typed, config: Path, runs: Path, fake_torch: Fake) -> None:
    fake_torch("train")
    assert typed("launch", config, "--port", "29477")[0] == 0
    (run_dir,) = rundir.list_runs(runs)
    assert "--rdzv-endpoint=127.0.0.1:29477" in read_record(run_dir).argv


def test_attach_without_a_terminal_follows_the_newest_run_that_lives(
    typed: Typed, config: Path, runs: Path, fake_torch: Fake, failed_run: Path
) -> None:
    fake_torch("train")
    newest = launch.start(config, runs=runs)
    status, out, _ = typed("attach", "--json")
    told = json.loads(out)
    assert (status, told["run"], told["state"], told["step"]) == (0, newest.name, "done", 3)


def test_attach_names_a_run_as_the_other_commands_do(typed: Typed, failed_run: Path) -> None:
    status, out, _ = typed("attach", failed_run.name[:10])
    assert status == 1  # a follower's exit status is that of the run
    assert failed_run.name in out and "failed" in out


def test_an_interrupted_follower_says_so_and_leaves_the_run(
    typed: Typed, long_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(self: StepPrinter, view: RunView) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(StepPrinter, "__call__", interrupt)
    for command in ("watch", "attach"):
        status, out, _ = typed(command, long_run.name, "--json")
        assert (status, json.loads(out)["state"]) == (130, "running")
    assert typed("stop", long_run.name)[0] == 0
    monkeypatch.undo()
    assert launch.open_monitor(long_run).poll().state == "stopped"


@pytest.mark.parametrize(
    ("step", "kept", "told"),
    [
        (52, 40, "goes on from its checkpoint of step 40: steps 41 to 52 are made again"),
        (40, 40, "goes on from its checkpoint of step 40"),
        (52, None, "begins anew: its steps up to 52 are made again (save_strategy: steps keeps some)"),
        (None, None, "begins anew (save_strategy: steps keeps some)"),
    ],
)
def test_a_resume_says_which_steps_are_made_again(step: int | None, kept: int | None, told: str) -> None:
    view = RunView(run="r", directory=Path("/runs/r"), state="failed", step=step, checkpoint_step=kept)
    assert resumed_text(view).endswith(told)


def test_the_command_that_resumes_says_where_it_goes_on(typed: Typed, failed_run: Path, fake_torch: Fake) -> None:
    fake_torch("train")
    status, _, err = typed("launch", "--resume", failed_run.name)
    assert status == 0
    assert f"{failed_run.name} has kept no checkpoint and begins anew" in err


def test_attach_says_so_where_no_run_lives(typed: Typed, failed_run: Path) -> None:
    status, out, err = typed("attach")
    assert (status, out) == (1, "")
    assert f"no run lives in {failed_run.parent}; `cpadvisor runs` lists those that have ended" in err


def test_attach_on_a_terminal_opens_the_app_on_that_run(
    long_run: Path, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, object] = {}

    def open_app(**wishes: object) -> int:
        asked.update(wishes)
        return 0

    monkeypatch.setattr("cpadvisor.commands.running.is_terminal", lambda: True)
    monkeypatch.setattr("cpadvisor.tui.app.run_app", open_app)
    argv = ["attach", "--runs", str(runs), "--theme", "light", "--no-mouse", "--read-only", "--lang", "zh"]
    assert cli.main(argv) == 0
    assert isinstance(asked.pop("watch"), Guard)
    assert asked == {
        "run": long_run,
        "runs": runs,
        "theme": "light",
        "mouse": False,
        "read_only": True,
        "lang": "zh",
    }
    launch.stop(long_run)


def test_a_run_without_its_directory_is_watched_refused_by_the_app_and_stopped(
    typed: Typed, long_run: Path, monkeypatch: pytest.MonkeyPatch, processes_of: Callable[[Path], list[int]]
) -> None:
    shutil.rmtree(long_run)
    told = json.loads(typed("watch", long_run.name, "--once", "--json")[1])
    assert (told["state"], told["run"], told["dir"]) == ("running", long_run.name, str(long_run))
    monkeypatch.setattr("cpadvisor.commands.running.is_terminal", lambda: True)
    status, _, err = typed("attach", long_run.name)
    assert status == 1 and "has vanished, and with it all that the app could show" in err
    assert f"`cpadvisor stop {long_run}`" in err
    status, out, _ = typed("stop", long_run.name, "--json")
    assert (status, json.loads(out)["state"]) == (0, "stopped")
    assert processes_of(long_run) == []


@pytest.mark.parametrize(("rank", "near"), [(2, 1), (-1, 0), (10**9, 1)])
def test_a_rank_that_is_not_there_names_those_that_are(typed: Typed, failed_run: Path, rank: int, near: int) -> None:
    status, out, err = typed("logs", failed_run.name, f"--rank={rank}")
    assert (status, out) == (2, "")
    assert f"--rank {rank}: {failed_run.name} has ranks 0 to 1; use {near}" in err


def test_the_end_of_a_log_is_printed(typed: Typed, failed_run: Path) -> None:
    assert typed("logs", failed_run.name, "--rank", 1, "--lines", 1)[1] == "to standard error\n"


@pytest.mark.parametrize("speed", ["0", "-2", "nan", "inf"])
def test_a_speed_that_is_none_is_told(typed: Typed, failed_run: Path, speed: str) -> None:
    status, out, err = typed("watch", failed_run.name, "--replay", f"--speed={speed}")
    assert (status, out) == (2, "")
    assert f"--speed {speed} is no speed: give a number above 0" in err


def test_a_replay_shows_the_steps_again_and_ends_where_the_run_did(
    typed: Typed, config: Path, runs: Path, fake_torch: Fake
) -> None:
    fake_torch("train")
    run_dir = launch.start(config, runs=runs)
    launch.wait(run_dir, poll_s=0.02)
    live = json.loads(typed("watch", run_dir.name, "--once", "--json")[1])
    status, out, err = typed("watch", run_dir.name, "--replay", "--speed", "0.5")
    assert status == 0
    assert [line.split()[1] for line in err.splitlines()] == ["1/3", "2/3", "3/3"]
    assert f"{run_dir.name}  done" in out
    told = json.loads(typed("watch", run_dir.name, "--replay", "--json")[1])
    assert told == live
