import json
import shutil
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cpadvisor import launch
from cpadvisor.errors import LaunchError, WriteError
from cpadvisor.launch.lock import LOCK_FILE
from cpadvisor.node import Gpu, Node
from cpadvisor.probe import nvml
from cpadvisor.runrecord import RunRecord, read_record, write_record
from cpadvisor.watch.logs import tail
from cpadvisor.watch.monitor import Monitor
from cpadvisor.watch.view import RunView

Fake = Callable[[str], None]
Until = Callable[..., RunView]


@pytest.fixture
def failed_run(config: Path, runs: Path, fake_torch: Fake, poll_until: Until) -> Path:
    """A run whose rank 1 failed; the next attempt trains to the end."""
    fake_torch("fail")
    run_dir = launch.start(config, runs=runs)
    poll_until(run_dir, lambda view: view.state == "failed" and (run_dir / "exit.json").exists())
    fake_torch("train")
    return run_dir


def contents(run_dir: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(run_dir)): path.read_bytes()
        for path in run_dir.rglob("*")
        if path.is_file() and path.name != LOCK_FILE
    }


def test_a_failed_run_goes_on_in_its_directory_to_done(failed_run: Path) -> None:
    assert launch.resume(failed_run) == failed_run
    view = launch.wait(failed_run, poll_s=0.02)
    assert (view.state, view.exit, view.reason) == ("done", 0, None)
    record = read_record(failed_run)
    assert record.attempt == 2
    assert record.env["CPADVISOR_RESUME"] == "1"
    assert record.argv[-1] == str(failed_run / "config.yaml")


def test_what_tells_of_the_earlier_attempt_is_kept_aside(failed_run: Path) -> None:
    before = contents(failed_run)
    launch.resume(failed_run)
    launch.wait(failed_run, poll_s=0.02)
    after = contents(failed_run)
    for name in ("run.json", "exit.json", "log-agent.txt"):
        assert after[f"attempt-1/{name}"] == before[name]
        assert after[name] != before[name]
    assert after["events-rank0.jsonl"].startswith(before["events-rank0.jsonl"])
    assert after["log-rank0.txt"].startswith(before["log-rank0.txt"])
    assert after["config.yaml"] == before["config.yaml"]
    assert "FAILED" not in "\n".join(tail(failed_run, None, 100))


def test_each_attempt_has_a_folder_of_its_own(failed_run: Path, fake_torch: Fake) -> None:
    for behaviour in ("fail", "fail", "train"):
        fake_torch(behaviour)
        launch.resume(failed_run)
        launch.wait(failed_run, poll_s=0.02)
    assert sorted(path.name for path in failed_run.glob("attempt-*")) == ["attempt-1", "attempt-2", "attempt-3"]
    told = [json.loads((failed_run / f"attempt-{n}" / "run.json").read_text())["attempt"] for n in (1, 2, 3)]
    assert told == [1, 2, 3]
    assert read_record(failed_run).attempt == 4


def test_a_first_launch_tells_the_trainer_nothing_of_a_resume(
    config: Path, runs: Path, fake_torch: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_torch("train")
    monkeypatch.setenv("CPADVISOR_RESUME", "1")
    run_dir = launch.start(config, runs=runs)
    launch.wait(run_dir, poll_s=0.02)
    assert "CPADVISOR_RESUME" not in read_record(run_dir).env


def test_the_trainer_that_ran_is_the_one_that_goes_on(failed_run: Path) -> None:
    (failed_run / "code" / "runtime" / "mark.py").touch()
    launch.resume(failed_run)
    launch.wait(failed_run, poll_s=0.02)
    assert (failed_run / "code" / "runtime" / "mark.py").exists()


def test_a_run_that_lost_its_trainer_and_its_ballast_gets_them_again(failed_run: Path) -> None:
    shutil.rmtree(failed_run / "code")
    (failed_run / "ballast").unlink()
    launch.resume(failed_run)
    assert launch.wait(failed_run, poll_s=0.02).state == "done"
    assert (failed_run / "code" / "runtime" / "train.py").is_file()
    assert (failed_run / "ballast").stat().st_size == 64 << 10


def test_a_living_run_is_refused_with_what_shows_and_what_ends_it(
    config: Path, runs: Path, fake_torch: Fake, poll_until: Until
) -> None:
    fake_torch("long")
    run_dir = launch.start(config, runs=runs)
    poll_until(run_dir, lambda view: view.step is not None)
    name = run_dir.name
    with pytest.raises(
        LaunchError, match=rf"run {name} is .*`cpadvisor attach {run_dir}` .*`cpadvisor stop {run_dir}`"
    ):
        launch.resume(run_dir)
    assert not list(run_dir.glob("attempt-*"))
    launch.stop(run_dir)


def test_a_run_that_is_done_has_nothing_to_go_on_with(config: Path, runs: Path, fake_torch: Fake) -> None:
    fake_torch("train")
    run_dir = launch.start(config, runs=runs)
    launch.wait(run_dir, poll_s=0.02)
    with pytest.raises(LaunchError, match=r"is done: all its steps are trained; to train more, raise max_steps in a"):
        launch.resume(run_dir)


def test_a_run_of_axolotl_is_resumed_by_axolotl(failed_run: Path) -> None:
    write_record(failed_run, replace(read_record(failed_run), engine="axolotl"))
    with pytest.raises(LaunchError, match=r"set `auto_resume_from_checkpoints: true` in .*job.yaml and launch that"):
        launch.resume(failed_run)


@pytest.mark.parametrize("failure", [WriteError("no space left"), KeyboardInterrupt()], ids=["full disk", "ctrl-c"])
def test_a_resume_that_fails_leaves_all_as_it_was(
    failed_run: Path,
    fake_torch: Fake,
    processes_of: Callable[[Path], list[int]],
    monkeypatch: pytest.MonkeyPatch,
    failure: BaseException,
) -> None:
    fake_torch("long")
    before, view = contents(failed_run), Monitor(failed_run).poll()

    def fail_once_the_agent_is_known(run_dir: Path, record: RunRecord) -> None:
        if record.agent is None:
            write_record(run_dir, record)
            return
        log, end = failed_run / "log-rank1.txt", time.monotonic() + 20
        while log.stat().st_size == len(before["log-rank1.txt"]) and time.monotonic() < end:
            time.sleep(0.01)  # the ranks of the new attempt have begun to write
        raise failure

    monkeypatch.setattr("cpadvisor.launch.spawning.write_record", fail_once_the_agent_is_known)
    with pytest.raises(type(failure)):
        launch.resume(failed_run)
    assert processes_of(failed_run) == []
    assert contents(failed_run) == before
    assert not list(failed_run.glob("attempt-*"))
    now = Monitor(failed_run).poll()
    assert (now.state, now.reason, now.exit) == (view.state, view.reason, view.exit)


def test_a_resume_whose_directory_vanishes_tells_why_it_failed_first(
    failed_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def vanish(*_: object) -> None:
        shutil.rmtree(failed_run)
        raise WriteError("no space left")

    monkeypatch.setattr("cpadvisor.launch.resuming.spawn", vanish)
    with pytest.raises(WriteError, match="no space left"):
        launch.resume(failed_run)


def test_of_two_resumes_at_once_one_is_refused(
    failed_run: Path, fake_torch: Fake, processes_of: Callable[[Path], list[int]], poll_until: Until
) -> None:
    fake_torch("long")
    refused: list[LaunchError] = []

    def resume() -> None:
        try:
            launch.resume(failed_run)
        except LaunchError as error:
            refused.append(error)

    threads = [threading.Thread(target=resume) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert len(refused) == 1
    assert read_record(failed_run).attempt == 2
    poll_until(failed_run, lambda view: len(processes_of(failed_run)) == 3)
    launch.stop(failed_run)
    assert processes_of(failed_run) == []


def test_the_interpreter_of_the_first_attempt_is_asked_first(failed_run: Path, tmp_path: Path) -> None:
    link = tmp_path / "venv" / "bin" / "python"
    link.parent.mkdir(parents=True)
    link.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    link.chmod(0o755)
    write_record(failed_run, replace(read_record(failed_run), interpreter=str(link)))
    launch.resume(failed_run)
    launch.wait(failed_run, poll_s=0.02)
    assert read_record(failed_run).interpreter == str(link)


def test_its_gpus_are_chosen_anew_and_those_of_a_living_run_refused(
    config: Path, runs: Path, fake_torch: Fake, monkeypatch: pytest.MonkeyPatch, poll_until: Until
) -> None:
    gpus = (Gpu(index=0), Gpu(index=1))
    node = Node(name="node", source="nvml", gpus=gpus, links=((None, "NV18"), ("NV18", None)))
    monkeypatch.setattr(nvml, "read_node", lambda **_: node)
    config.write_text(config.read_text().replace("bf16: false", "bf16: true"))
    fake_torch("fail")
    first = launch.start(config, runs=runs)
    launch.wait(first, poll_s=0.02)
    fake_torch("long")
    second = launch.start(config, runs=runs)
    poll_until(second, lambda view: view.step is not None)
    with pytest.raises(LaunchError, match=rf"run {second.name} is .* on GPU 0, 1"):
        launch.resume(first)
    launch.stop(second)
    launch.resume(first)
    assert read_record(first).gpus == (0, 1)
    launch.stop(first)
