import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_run import write_folder

from runtime import config as configs
from runtime.errors import ConfigError
from runtime.telemetry import EventReader, events_path
from runtime.train import out_of_memory
from runtime.trainer import uses_bf16

ROOT = Path(__file__).parents[2]


def environment() -> dict[str, str]:
    """Processes on the CPU, also on a machine with GPUs."""
    kept = {key: value for key, value in os.environ.items() if key not in ("WORLD_SIZE", "RANK", "MASTER_ADDR")}
    return {**kept, "PYTHONPATH": str(ROOT), "PYTHONSAFEPATH": "1", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def train(path: Path) -> subprocess.CompletedProcess[str]:
    """One process, no torchrun."""
    return subprocess.run(
        [sys.executable, "-m", "runtime.train", str(path)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def events(folder: Path, rank: int = 0) -> list[dict[str, Any]]:
    return list(EventReader(events_path(folder, rank)).poll())


def test_one_process_trains_reports_and_writes_the_model(tmp_path: Path) -> None:
    path = write_folder(tmp_path, gradient_accumulation_steps=2, logging_steps=1)
    (tmp_path / "run.json").write_text("{}")
    result = train(path)
    assert result.returncode == 0, result.stderr
    found = events(tmp_path)
    assert [event["kind"] for event in found] == ["start", "warning", *["step", "memory"] * 4, "checkpoint", "end"]
    start = found[0]
    assert start["layout"] == {"dp_replicate": 1, "dp_shard": 1, "tp": 1, "cp": 1}
    assert (start["world"], start["backend"], start["device"], start["kernel"]) == (1, "gloo", "cpu", "cpu")
    assert (start["steps"], start["global_batch"], start["local_tokens"]) == (4, 2, 128)
    assert start["recompute"] == {"none": 2}
    # 2 layers x (32x32 x2 + 32x16 x2 + 3x32x96 + 2x32) + 2 x 384x32 + 32
    assert start["parameters"] == 2 * 12_352 + 2 * 12_288 + 32
    steps = [event for event in found if event["kind"] == "step"]
    assert [event["step"] for event in steps] == [1, 2, 3, 4]
    assert all(event["tokens"] == 256 for event in steps)
    assert steps[-1]["loss"] < steps[0]["loss"]
    assert steps[0]["tokens_per_s_per_gpu"] == pytest.approx(256 / steps[0]["step_s"])
    assert sum(steps[1]["split_s"].values()) == pytest.approx(steps[1]["step_s"], rel=0.1)
    assert found[-1]["state"] == "done"
    lines = [line for line in result.stdout.splitlines() if line.startswith("step ")]
    assert len(lines) == 4
    assert (tmp_path / "out" / "model.safetensors").stat().st_size > 4 * start["parameters"]


def test_a_config_that_cannot_run_says_why_on_one_line_and_leaves_with_2(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{}")
    path = write_folder(tmp_path, sample_packing=True)
    result = train(path)
    assert result.returncode == 2
    assert result.stderr.splitlines()[-1] == (
        f"error: {path}: sample_packing true: the bundled trainer does not pack documents; set it to false"
    )
    assert "Traceback" not in result.stderr
    [end] = events(tmp_path)
    assert end["state"] == "failed"
    assert "does not pack documents" in end["reason"]


def test_a_loss_that_is_no_number_ends_the_run_at_its_step(tmp_path: Path) -> None:
    path = write_folder(tmp_path, learning_rate=1e30, save_strategy="no")
    result = train(path)
    assert result.returncode == 1
    end = events(tmp_path / "out")[-1]
    assert (end["kind"], end["state"]) == ("end", "failed")
    assert "at step 2; lower learning_rate" in end["reason"]
    assert end["reason"] in result.stderr
    assert not (tmp_path / "out" / "model.safetensors").exists()


def wait_for_step(folder: Path, rank: int, step: int) -> None:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        if any(event["kind"] == "step" and event["step"] >= step for event in events(folder, rank)):
            return
        time.sleep(0.1)
    raise AssertionError(f"rank {rank} did not reach step {step} within 90 s")


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_two_ranks_under_torchrun_stop_on_sigterm_and_say_so(tmp_path: Path) -> None:
    path = write_folder(tmp_path, context_parallel_size=2, max_steps=100_000)
    (tmp_path / "run.json").write_text("{}")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    with (tmp_path / "log").open("wb") as log:
        agent = subprocess.Popen(
            [*command, "-m", "runtime.train", str(path)], env=environment(), stdout=log, stderr=log, cwd=tmp_path
        )
    try:
        for rank in (0, 1):
            wait_for_step(tmp_path, rank, 2)
        agent.send_signal(signal.SIGTERM)
        assert agent.wait(timeout=30) != 0
    finally:
        agent.kill()
    for rank in (0, 1):
        found = events(tmp_path, rank)
        assert [event["state"] for event in found if event["kind"] == "end"] == ["stopped"], (
            tmp_path / "log"
        ).read_text()
        assert found[-1]["kind"] == "end"
        assert found[0]["layout"]["cp"] == 2
        assert found[0]["cp_method"] == "ring"
        assert not is_alive(found[0]["pid"])


def test_a_rank_that_waits_for_its_peer_in_vain_still_stops_on_sigterm(tmp_path: Path) -> None:
    path = write_folder(tmp_path, context_parallel_size=2)
    (tmp_path / "run.json").write_text("{}")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    alone = {**environment(), "WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    rank_0 = subprocess.Popen([sys.executable, "-m", "runtime.train", str(path)], env=alone)
    try:
        deadline = time.monotonic() + 60
        while not events_path(tmp_path, 0).exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        time.sleep(3)  # now the main thread waits in the rendezvous, outside Python
        rank_0.send_signal(signal.SIGTERM)
        assert rank_0.wait(timeout=10) == 128 + signal.SIGTERM
    finally:
        rank_0.kill()
    [end] = events(tmp_path)
    assert (end["state"], end["reason"]) == ("stopped", "SIGTERM at step 0")


@pytest.mark.parametrize(
    ("device", "bf16", "message"),
    [
        ("cpu", True, "bf16 true, but torch sees no GPU here; write bf16: auto or false"),
        ("cuda", False, "bf16 false, but attention kernels of GPUs take no float32; write bf16: auto or true"),
    ],
)
def test_a_precision_that_the_device_lacks_is_refused(tmp_path: Path, device: str, bf16: bool, message: str) -> None:
    config = configs.load(write_folder(tmp_path, bf16=bf16), world=1)
    with pytest.raises(ConfigError) as caught:
        uses_bf16(config, torch.device(device))
    assert caught.value.problems == (message,)
    agreeing = configs.load(write_folder(tmp_path, bf16="auto"), world=1)
    assert uses_bf16(agreeing, torch.device(device)) is not bf16


def test_running_out_of_memory_names_the_allocation() -> None:
    # As torch 2.11 words it.
    error = torch.OutOfMemoryError(
        "CUDA out of memory. Tried to allocate 7.83 GiB. GPU 0 has a total capacity of 139.80 GiB of which 3.12 GiB is "
        "free. Including non-PyTorch memory, this process has 136.67 GiB memory in use."
    )
    assert out_of_memory(error) == (
        "out of GPU memory: Tried to allocate 7.83 GiB. "
        "GPU 0 has a total capacity of 139.80 GiB of which 3.12 GiB is free"
    )
