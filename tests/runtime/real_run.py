"""Real trainings in processes of their own, on the CPU also where there are GPUs, and what their events say."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from runtime.telemetry import EventReader, events_path

ROOT = Path(__file__).parents[2]


def environment(**more: str) -> dict[str, str]:
    """Of a training that no test runner, launcher or GPU bears on."""
    foreign = ("WORLD_SIZE", "RANK", "MASTER_ADDR", "CPADVISOR_FAULT", "CPADVISOR_RESUME")
    kept = {key: value for key, value in os.environ.items() if key not in foreign}
    own = {"PYTHONPATH": str(ROOT), "PYTHONSAFEPATH": "1", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return {**kept, **own, **more}


def train(path: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """One process, no torchrun, to its end."""
    return subprocess.run(
        [sys.executable, "-m", "runtime.train", str(path)],
        env=environment(**more),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def torchrun(path: Path, world: int) -> list[str]:
    """The command that trains on so many processes."""
    agent = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(world)]
    return [*agent, "-m", "runtime.train", str(path)]


def train_on(path: Path, world: int, **more: str) -> subprocess.CompletedProcess[str]:
    """So many processes under torchrun, to their end."""
    command = torchrun(path, world)
    env = environment(**more)
    return subprocess.run(command, env=env, cwd=path.parent, capture_output=True, text=True, timeout=240, check=False)


@contextmanager
def started(command: list[str], folder: Path, **more: str) -> Iterator[subprocess.Popen[bytes]]:
    """A training under way, its output in `folder`/log; it is ended with all its ranks on the way out."""
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, env=environment(**more), stdout=log, stderr=log, cwd=folder)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)  # a killed agent would leave its ranks behind
            try:
                process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def events(folder: Path, rank: int = 0) -> list[dict[str, Any]]:
    """All events of a rank so far."""
    return list(EventReader(events_path(folder, rank)).poll())


def of_kind(folder: Path, kind: str, rank: int = 0) -> list[dict[str, Any]]:
    """Its events of one kind."""
    return [event for event in events(folder, rank) if event["kind"] == kind]


def wait_for_step(folder: Path, rank: int, step: int) -> None:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        if any(event["step"] >= step for event in of_kind(folder, "step", rank)):
            return
        time.sleep(0.1)
    raise AssertionError(f"rank {rank} did not reach step {step} within 90 s")


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=10)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def ask(door: str, handler: str = "cpadvisor") -> bytes:
    """What a door answers."""
    connection = UnixConnection(door)
    connection.request("POST", f"/handler/{handler}")
    response = connection.getresponse()
    body = response.read()
    connection.close()
    assert response.status == 200, body
    return body


def answer(door: str) -> dict[str, Any]:
    """The answer of the trainer's own handler."""
    return json.loads(ask(door))
