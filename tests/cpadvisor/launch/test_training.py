"""The real trainer under the real torchrun, on two CPU processes."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from cpadvisor import launch
from cpadvisor.errors import ConfigError
from cpadvisor.watch.logs import tail
from cpadvisor.watch.view import RunView

CONFIG = """\
base_model: tiny
output_dir: ./out
sequence_len: 512
micro_batch_size: 1
gradient_accumulation_steps: 1
max_steps: {steps}
learning_rate: 1e-3
optimizer: adamw_torch
save_strategy: "no"
bf16: false
context_parallel_size: 2
dp_shard_size: 1
cpadvisor:
  method: ring
  model: tiny
  random_weights: true
  corpus: python-stdlib
  tokenizer: bytes
"""


@pytest.fixture
def real_config(tmp_path: Path) -> Callable[[int], Path]:
    def write(steps: int) -> Path:
        path = tmp_path / "job.yaml"
        path.write_text(CONFIG.format(steps=steps))
        return path

    return write


def test_the_trainer_runs_to_its_end_and_tells_loss_and_memory(real_config: Callable[[int], Path], runs: Path) -> None:
    run_dir = launch.start(real_config(3), runs=runs)
    view = launch.wait(run_dir, poll_s=0.1)
    assert view.state == "done", (view.reason, tail(run_dir, 0, 20), tail(run_dir, None, 20))
    assert (view.exit, view.step, view.steps) == (0, 3, 3)
    assert [step for step, _ in view.loss] == [1, 2, 3]
    assert all(0 < loss < 20 for _, loss in view.loss)
    assert view.peak_bytes is not None and view.peak_bytes > 50 * 2**20  # torch alone takes more
    assert view.cp_method == "ring"
    assert all(rank.pid is not None and not rank.alive for rank in view.ranks)


def test_a_training_stopped_in_mid_run_leaves_no_process(
    real_config: Callable[[int], Path],
    runs: Path,
    poll_until: Callable[..., RunView],
    processes_of: Callable[[Path], list[int]],
) -> None:
    run_dir = launch.start(real_config(100_000), runs=runs)
    running = poll_until(run_dir, lambda view: view.state == "running" or view.is_final, seconds=120)
    assert running.state == "running", (running.reason, tail(run_dir, 0, 20))
    assert all(rank.alive for rank in running.ranks)
    view = launch.stop(run_dir)
    assert (view.state, view.reason) == ("stopped", "stopped on request")
    assert processes_of(run_dir) == []


def test_a_rank_killed_in_mid_run_is_the_cause_that_is_told(
    real_config: Callable[[int], Path],
    runs: Path,
    poll_until: Callable[..., RunView],
    processes_of: Callable[[Path], list[int]],
) -> None:
    run_dir = launch.start(real_config(100_000), runs=runs)
    running = poll_until(run_dir, lambda view: (view.step or 0) >= 1 or view.is_final, seconds=120)
    victim = running.ranks[1].pid
    assert victim is not None, (running.reason, tail(run_dir, 0, 20))
    os.kill(victim, signal.SIGKILL)
    view = launch.wait(run_dir, poll_s=0.1)
    assert (view.state, view.exit) == ("failed", 1)
    assert view.reason is not None and view.reason.startswith("rank 1 was ended by SIGKILL"), view.reason
    assert processes_of(run_dir) == []


def test_a_config_that_the_trainer_refuses_starts_nothing_and_is_told_in_its_words(
    real_config: Callable[[int], Path], runs: Path
) -> None:
    config = real_config(3)
    config.write_text(config.read_text() + "sample_packing: true\nseed: -4\n")
    with pytest.raises(ConfigError) as refused:
        launch.start(config, runs=runs)
    told = str(refused.value)
    assert told.startswith(f"{config}: 2 errors")
    assert "sample_packing true: the bundled trainer does not pack documents; set it to false" in told
    assert "seed -4 is not a whole number from 0 up" in told
    assert list(runs.iterdir()) == []


def test_a_training_that_was_killed_goes_on_from_its_last_checkpoint(
    real_config: Callable[[int], Path], runs: Path, poll_until: Callable[..., RunView]
) -> None:
    config = real_config(8)
    config.write_text(config.read_text().replace('save_strategy: "no"', "save_strategy: steps\nsave_steps: 2"))
    run_dir = launch.start(config, runs=runs)
    running = poll_until(run_dir, lambda view: (view.step or 0) >= 5 or view.is_final, seconds=120)
    victim = running.ranks[0].pid
    assert victim is not None and not running.is_final, (running.reason, tail(run_dir, 0, 20))
    os.kill(victim, signal.SIGKILL)
    failed = launch.wait(run_dir, poll_s=0.1)
    assert failed.state == "failed" and failed.failure is not None
    assert failed.checkpoint_step in (4, 6)
    assert failed.failure.mend == f"start it again: it goes on from its checkpoint of step {failed.checkpoint_step}"
    launch.resume(run_dir)
    view = launch.wait(run_dir, poll_s=0.1)
    assert (view.state, view.exit, view.step) == ("done", 0, 8), (view.reason, tail(run_dir, 0, 20))
    assert [step for step, _ in view.loss] == list(range(1, 9))
    lines = (run_dir / "events-rank0.jsonl").read_text().splitlines()
    starts = [event["resumed_from"] for event in map(json.loads, lines) if event["kind"] == "start"]
    assert starts == [None, failed.checkpoint_step]
