"""The whole way by commands alone, from the machine to a trained model: on two CPU processes, and on two GPUs."""

import json
import math
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from cpadvisor.processes import ProcessId, is_alive


@dataclass(frozen=True)
class Way:
    """What is trained where."""

    node: tuple[str, ...]
    model: str
    tokens: int
    steps: int
    device: str
    rounding: float
    """How far losses of two layouts may lie apart, relative: float32, or bfloat16 over some steps."""


ON_CPU = Way(node=("--node", "cpu"), model="tiny", tokens=1024, steps=6, device="cpu", rounding=1e-4)
ON_GPUS = Way(node=(), model="llama-3.2-1b", tokens=32_768, steps=20, device="gpu", rounding=2e-2)


def gpus():
    """GPUs that NVML shows here."""
    done = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    return done.stdout.count("GPU ")


def has_two_gpus():
    try:
        return gpus() >= 2
    except FileNotFoundError:
        return False


NEEDS_TWO_GPUS = [pytest.mark.gpu, pytest.mark.skipif(not has_two_gpus(), reason="fewer than two GPUs")]


@pytest.fixture(params=[ON_CPU, pytest.param(ON_GPUS, marks=NEEDS_TWO_GPUS)], ids=lambda way: way.device)
def way(request):
    return request.param


@pytest.fixture
def command(tmp_path):
    """Runs `cpadvisor … --json` with a state folder of its own; gives the object and the exit status."""
    env = {**os.environ, "XDG_STATE_HOME": str(tmp_path / "state")}

    def run(*argv):
        argv = (sys.executable, "-m", "cpadvisor", *argv, "--json")
        done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False)
        assert "Traceback" not in done.stderr, done.stderr
        return json.loads(done.stdout), done.returncode

    return run


def written(command, way, tmp_path, *, steps, cp=2):
    """A config for `cp` processes that share each sequence."""
    file = tmp_path / f"job-cp{cp}.yaml"
    job = (
        "--model",
        way.model,
        "--seq",
        str(way.tokens),
        "--gpus",
        str(cp),
        "--lock",
        f"cp={cp}",
        "--cp-method",
        "ring",
    )
    data, status = command("write", *way.node, *job, "--steps", str(steps), "-o", str(file))
    assert (status, data["path"]) == (0, str(file))
    assert data["plan"]["layout"] == {"dp_replicate": 1, "dp_shard": 1, "tp": 1, "cp": cp}
    assert data["plan"]["cp_method"] == ("ring" if cp > 1 else "none")
    return str(file), data["plan"]


def events(folder, rank, kind):
    """Events of one kind that a rank wrote."""
    lines = Path(folder, f"events-rank{rank}.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    return [record for record in records if record["kind"] == kind]


def test_from_the_machine_to_a_trained_model(command, way, tmp_path):
    node, status = command("inspect", *way.node)
    assert (status, len(node["gpus"]) >= 2) == (0, True)
    assert not [warning for warning in node["warnings"] if "nvidia-smi" in warning], "NVML and topo -m disagree"
    file, plan = written(command, way, tmp_path, steps=way.steps)
    assert command("check", file) == ({"schema": 1, "ok": True, "findings": []}, 0)
    run, status = command("launch", file)
    assert (run["state"], run["reason"], status) == ("done", None, 0)
    for rank in range(2):
        steps = events(run["dir"], rank, "step")
        assert [event["step"] for event in steps] == list(range(1, way.steps + 1))
        assert steps[-1]["loss"] < steps[0]["loss"] < 1.1 * math.log(128_256)
        assert all(event["step_s"] > 0 and event["tokens"] == way.tokens for event in steps)
        (start,) = events(run["dir"], rank, "start")
        assert (start["cp_method"], start["local_tokens"]) == ("ring", way.tokens // 2)
        peak = max(event["peak_allocated_bytes"] for event in events(run["dir"], rank, "memory"))
        # A run of few tokens is mostly its process; the plan's band is for the whole of it.
        assert 0.5 * plan["memory"]["low_bytes"] < peak < 1.2 * plan["memory"]["high_bytes"]
    first = [event["loss"] for event in events(run["dir"], 0, "step")]
    assert first == [event["loss"] for event in events(run["dir"], 1, "step")]


def test_context_parallelism_changes_no_loss(command, way, tmp_path):
    losses = []
    for cp in (1, 2):
        file, _ = written(command, way, tmp_path, steps=4, cp=cp)
        run, status = command("launch", file)
        assert (run["state"], status) == ("done", 0)
        losses.append([event["loss"] for event in events(run["dir"], 0, "step")])
    assert losses[1] == pytest.approx(losses[0], rel=way.rounding)


def test_a_stopped_run_leaves_no_process_and_no_memory(command, way, tmp_path):
    file, _ = written(command, way, tmp_path, steps=100_000)
    run, status = command("launch", file, "--detach")
    assert (run["state"], status) == ("running", 0)
    deadline = time.monotonic() + 120
    while not (command("watch", run["run"], "--once")[0]["step"] or 0) >= 2:
        assert time.monotonic() < deadline, "no second step within two minutes"
        time.sleep(0.5)
    ranks = [events(run["dir"], rank, "start")[0] for rank in range(2)]
    processes = [ProcessId(pid=start["pid"], start_ticks=start["pid_start"]) for start in ranks]
    assert all(is_alive(process) for process in processes)
    stopped, status = command("stop", run["run"])
    assert (stopped["state"], status) == ("stopped", 0)
    assert not any(is_alive(process) for process in processes)
    listed = command("runs")[0]["runs"]
    assert [(row["run"], row["state"], row["model"]) for row in listed] == [(run["run"], "stopped", way.model)]
    assert command("logs", run["run"], "--rank", "0")[0]["lines"]
    if way.device == "gpu":
        held = [gpu["used_bytes"] for gpu in command("inspect")[0]["gpus"]]
        assert max(held) < 2**30, "a GPU still holds memory"
