"""The real trainer, twice: on two CPU processes, and on one."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from cpadvisor import launch
from cpadvisor.cli import main
from cpadvisor.errors import LaunchError
from cpadvisor.launch.environment import RUN_VARIABLE
from cpadvisor.launch.jobfile import read_job
from cpadvisor.parity import make_pair, run_pair
from cpadvisor.parity.readings import RankReading, Reading
from cpadvisor.parity.running import expected_bytes
from cpadvisor.processes import carrying, send
from cpadvisor.rundir import list_runs
from cpadvisor.watch.failure import Failure
from cpadvisor.watch.view import RunView


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for runs; whatever a failed test left running is ended."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    root = tmp_path / "runs"
    yield root
    for run in list_runs(root):
        for process in carrying(RUN_VARIABLE, str(run)):
            with contextlib.suppress(OSError):
                send(process, signal.SIGKILL)


def processes(runs: Path) -> list[int]:
    return [process.pid for run in list_runs(runs) for process in carrying(RUN_VARIABLE, str(run))]


def test_the_product_is_equal_and_nothing_is_saved(config: Path, runs: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["parity", str(config), "--steps", "3", "--runs", str(runs), "--json"]) == 0
    out, err = capsys.readouterr()
    data = json.loads(out)
    assert (data["schema"], data["verdict"], data["cp"], data["first_wrong_step"]) == (1, "equal", 2, None)
    assert [step["step"] for step in data["steps"]] == [1, 2, 3]
    for step in data["steps"]:
        assert step["loss"]["cp_n"] == pytest.approx(step["loss"]["cp_1"], rel=1e-4)
        assert step["grad_norm"]["cp_n"] == pytest.approx(step["grad_norm"]["cp_1"], rel=1e-4)
    # The loss moves, so that equality says something.
    assert data["steps"][2]["loss"]["cp_1"] < 0.95 * data["steps"][0]["loss"]["cp_1"]
    outcomes = {check["name"]: check["outcome"] for check in data["checks"]}
    assert outcomes == dict.fromkeys(("split", "traffic", "loss", "grad_norm"), "passed")
    names = [run["run"] for run in data["runs"]]
    assert [name[17:] for name in names] == ["tiny-parity-1x1x1x2", "tiny-parity-1x1x1x1"]
    assert {run.name for run in list_runs(runs)} == set(names)
    assert not (config.parent / "out").exists()
    assert not any((run / "checkpoints").exists() for run in list_runs(runs))
    assert processes(runs) == []
    assert "3 steps of 512 tokens at cp 2, then at cp 1" in err


@pytest.mark.parametrize("rank", [0, 1])
def test_one_rank_that_does_not_exchange_is_found_and_named(
    config: Path, runs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, rank: int
):
    monkeypatch.setenv("CPADVISOR_FAULT", f"drop-exchange:rank={rank}")
    assert main(["parity", str(config), "--steps", "2", "--runs", str(runs)]) == 1
    out = capsys.readouterr().out
    assert "verdict: differs: step 1 is the first that is wrong" in out
    assert "<- differs" in out
    assert "warning: " in out and "drop-exchange" in out


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_stops_the_run_that_is_under_way_and_starts_no_other(
    config: Path, runs: Path, signum: signal.Signals, status: int
):
    argv = [sys.executable, "-m", "cpadvisor", "parity", str(config), "--steps", "100000", "--runs", str(runs)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ) as command:
        deadline = time.monotonic() + 120
        while not any('"kind":"step"' in file.read_text() for file in runs.glob("*/events-rank0.jsonl")):
            assert command.poll() is None and time.monotonic() < deadline, command.communicate()
            time.sleep(0.1)
        command.send_signal(signum)
        out, err = command.communicate(timeout=60)
    assert (command.returncode, out) == (status, ""), err
    (run,) = list_runs(runs)
    assert launch.stop(run).state == "stopped"
    assert processes(runs) == []


# What happens between the two runs, without any.


def view(directory: Path, state: str, **fields: object) -> RunView:
    return RunView(run=directory.name, directory=directory, state=state, world=2, **fields)


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """`launch` by a script: gives the states that runs end in, and keeps what was started and stopped."""

    class Script:
        started: list[str]
        stopped: list[str]
        faults: list[str | None]

        def __init__(self) -> None:
            self.started, self.stopped, self.faults = [], [], []

        def ends(self, *views: RunView) -> None:
            waiting = iter(views)

            def wait(directory: Path, on_view):
                last = next(waiting)
                on_view(last)
                return last

            monkeypatch.setattr(launch, "wait", wait)

    script = Script()

    def start(config: Path, *, environ: Mapping[str, str], **flags: object) -> Path:
        script.started.append(config.name)
        script.faults.append(environ.get("CPADVISOR_FAULT"))
        return tmp_path / f"run-{len(script.started)}"

    def stop(directory: Path) -> RunView:
        script.stopped.append(directory.name)
        return view(directory, "stopped")

    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(launch, "start", start)
    monkeypatch.setattr(launch, "stop", stop)
    return script


def test_a_run_that_fails_is_told_with_its_cause_and_no_other_is_started(config: Path, scripted, tmp_path: Path):
    cause = Failure(kind="exception", headline="ValueError: bad shape", rank=1)
    scripted.ends(view(tmp_path / "run-1", "failed", failure=cause))
    with pytest.raises(LaunchError, match="the run at cp 2 did not reach its end: ValueError: bad shape; `cpadvisor d"):
        run_pair(make_pair(read_job(config), steps=1))
    assert len(scripted.started) == 1


def test_the_commands_that_say_more_of_a_run_are_told_as_a_shell_reads_them(config: Path, scripted, tmp_path: Path):
    scripted.ends(view(tmp_path / "my runs" / "run-1", "failed"))
    with pytest.raises(LaunchError, match=f"`cpadvisor doctor '{tmp_path}/my runs/run-1'` says more"):
        run_pair(make_pair(read_job(config), steps=1))


def test_a_run_that_hangs_is_stopped_and_told(config: Path, scripted, tmp_path: Path):
    scripted.ends(view(tmp_path / "run-1", "hung", reason="rank 1 has not come back from step 1"))
    with pytest.raises(LaunchError, match="the run at cp 2 did not reach its end: rank 1 has not come back"):
        run_pair(make_pair(read_job(config), steps=1))
    assert scripted.stopped == ["run-1"]


def test_a_stopped_run_interrupts(config: Path, scripted, tmp_path: Path):
    scripted.ends(view(tmp_path / "run-1", "stopped"))
    with pytest.raises(KeyboardInterrupt):
        run_pair(make_pair(read_job(config), steps=1))
    assert len(scripted.started) == 1


def test_signals_are_heeded_as_before_once_both_runs_are_over(config: Path, scripted, tmp_path: Path):
    handler = signal.getsignal(signal.SIGTERM)
    scripted.ends(view(tmp_path / "run-1", "failed"))
    with pytest.raises(LaunchError):
        run_pair(make_pair(read_job(config), steps=1))
    assert signal.getsignal(signal.SIGTERM) is handler


def test_whatever_breaks_between_start_and_end_the_run_is_stopped(config: Path, scripted):
    scripted.ends()

    def full_disk(directory: Path) -> None:
        raise OSError("no space")

    with pytest.raises(OSError, match="no space"):
        run_pair(make_pair(read_job(config), steps=1), on_start=full_disk)
    assert scripted.stopped == ["run-1"]


def test_the_configs_of_one_file_are_written_to_the_same_two_places(config: Path, scripted, tmp_path: Path):
    for _ in range(2):
        scripted.ends(view(tmp_path / "run-1", "done"), view(tmp_path / "run-2", "done"))
        run_pair(make_pair(read_job(config), steps=1))
    folder = tmp_path / "state" / "cpadvisor" / "configs"
    assert sorted(path.name for path in folder.iterdir()) == sorted(set(scripted.started))
    assert [name.rpartition("-")[2] for name in scripted.started] == ["cp2.yaml", "cp1.yaml"] * 2


def test_a_planted_fault_is_kept_from_the_run_that_is_the_measure(
    config: Path, scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("CPADVISOR_FAULT", "drop-exchange:rank=1")
    scripted.ends(view(tmp_path / "run-1", "done"), view(tmp_path / "run-2", "done"))
    run_pair(make_pair(read_job(config), steps=1))
    assert scripted.faults == ["drop-exchange:rank=1", None]


def test_the_expected_bytes_follow_the_model_the_method_and_what_ran(config: Path):
    def reading(backend: str, *, cp: int = 2, recomputed: int = 0) -> Reading:
        ranks = tuple(RankReading(rank=rank, backend=backend, recomputed_layers=recomputed) for rank in range(cp))
        return Reading(directory=config.parent, cp=cp, sequence_len=512, micro_batch=1, ranks=ranks)

    def expected(*changes: str, **told: Any) -> tuple[int, ...] | None:
        text = config.read_text()
        for change in changes:
            old, new = change.split(" -> ")
            assert old in text
            text = text.replace(old, new)
        path = config.with_name("changed.yaml")
        path.write_text(text)
        return expected_bytes(make_pair(read_job(path), steps=1), reading(**told))

    # tiny: 2 layers, a share of 2 x 256 x 4 x 16 x 4 bytes = 128 KiB. Halves: 1 + 1 + 2 on rank 0, 2 + 2 + 1 on rank 1.
    half = 64 * 1024
    assert expected(backend="gloo") == (2 * 4 * half, 2 * 5 * half)
    assert expected(backend="nccl") == (4 * half, 5 * half)
    assert expected(backend="gloo", recomputed=1) == (9 * half, 12 * half)
    thrice = "gradient_accumulation_steps: 1 -> gradient_accumulation_steps: 3"
    assert expected(thrice, backend="gloo") == (24 * half, 30 * half)
    # Three shares of 128 KiB a layer; heads: 3 x 192 KiB of q, k, v and output or their gradients, 2 x 4 KiB of lse.
    assert expected("method: ring -> method: allgather", backend="gloo") == (2 * 3 * 128 * 1024,) * 2
    assert expected("method: ring -> method: ulysses", backend="gloo") == (2 * 584 * 1024,) * 2
    four = ("context_parallel_size: 2 -> context_parallel_size: 4", "rank_order: [1, 0] -> rank_order: [0, 1, 2, 3]")
    # Heads over 2 neighbours, of 128 tokens each: then 256 tokens of 2 KV heads, half as much a share, round 2 ranks.
    told = expected(*four, "method: ring -> method: usp", backend="gloo", cp=4)
    heads = 584 * 1024
    assert told == (4 * half + heads, 4 * half + heads, 5 * half + heads, 5 * half + heads)


def test_usage_errors_are_told_before_anything_is_asked_or_started(
    config: Path, scripted, capsys: pytest.CaptureFixture[str]
):
    config.write_text(config.read_text().replace("context_parallel_size: 2", "context_parallel_size: 1"))
    assert main(["parity", str(config)]) == 2
    assert main(["parity", str(config), "--seq", "12x"]) == 2
    assert main(["parity", str(config.parent / "none.yaml")]) == 2
    out, err = capsys.readouterr()
    assert (out, scripted.started) == ("", [])
    assert "nothing to compare" in err and "12x" in err and "none.yaml" in err
