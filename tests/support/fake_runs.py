"""A run without torch: an interpreter whose `torch` is a stand-in that starts ranks as torchrun does."""

import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cpadvisor.launch.environment import RUN_VARIABLE
from cpadvisor.processes import carrying, marked, send
from cpadvisor.watch.monitor import Monitor
from cpadvisor.watch.view import RunView

FAKE = Path(__file__).parents[1] / "data" / "fake_torch"

CONFIG = """\
base_model: tiny  # the smallest one
output_dir: ./out
sequence_len: 512
max_steps: 3
learning_rate: 1e-3
context_parallel_size: 2
bf16: false
cpadvisor:
  method: ring
  model: tiny
  random_weights: true
  tokenizer: bytes
  corpus: python-stdlib
  prediction: {peak_bytes: 2100, step_s: 0.2}
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "project" / "job.yaml"
    path.parent.mkdir()
    path.write_text(CONFIG)
    return path


@pytest.fixture
def runs(tmp_path: Path) -> Iterator[Path]:
    """A folder for runs; whatever a failed test left running is ended."""
    root = tmp_path / "runs"
    yield root
    for run_dir, processes in marked(RUN_VARIABLE).items():
        if Path(run_dir).parent == root:
            for process in processes:
                send(process, signal.SIGKILL)


@pytest.fixture
def fake_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Puts the stand-in before any real torch; called with how the ranks are to behave."""
    folder = tmp_path / "site"
    (folder / "torch" / "distributed").mkdir(parents=True)
    (folder / "safetensors").mkdir()
    for package in ("torch", "torch/distributed", "safetensors"):
        (folder / package / "__init__.py").touch()
    for script in FAKE.iterdir():
        shutil.copy(script, folder / "torch" / "distributed")
    monkeypatch.setenv("PYTHONPATH", str(folder))
    return lambda behaviour: monkeypatch.setenv("FAKE_RANK", behaviour)


def until(run_dir: Path, wanted: Callable[[RunView], bool], *, seconds: float = 20.0) -> RunView:
    """Poll until the view is as wanted; fails with the last view where it never is."""
    monitor = Monitor(run_dir)
    deadline = time.monotonic() + seconds
    view = monitor.poll()
    while not wanted(view):
        assert time.monotonic() < deadline, f"never as wanted: {view}\n{(run_dir / 'log-agent.txt').read_text()}"
        time.sleep(0.02)
        view = monitor.poll()
    return view


@pytest.fixture
def poll_until() -> Callable[..., RunView]:
    return until


def pids_of(run_dir: Path) -> list[int]:
    return sorted(process.pid for process in carrying(RUN_VARIABLE, str(run_dir)) if process.pid != os.getpid())


@pytest.fixture
def processes_of() -> Callable[[Path], list[int]]:
    return pids_of
