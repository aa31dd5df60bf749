"""A training of the real trainer on two CPU processes, the app that watches it, and the commands that tell of it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from app_terminal import AppTerminal

from cpadvisor.launch.environment import RUN_VARIABLE
from cpadvisor.processes import ProcessId, carrying, is_alive, send
from cpadvisor.rundir import list_runs
from cpadvisor.runrecord import read_record
from cpadvisor.watch.monitor import Monitor
from cpadvisor.watch.view import RunView

CONFIG = """\
base_model: tiny
output_dir: ./out
sequence_len: 512
micro_batch_size: 1
gradient_accumulation_steps: 1
max_steps: 100000
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
LONGEST_S = 120.0
"""Two cores start four interpreters with torch; a test fails after so long, and passes after some seconds."""
_STATE_VARIABLE = "XDG_STATE_HOME"


class Scene:
    """One test's own state folder, its runs and its terminals."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "job.yaml"
        self.config.write_text(CONFIG)
        self.env = {
            **os.environ,
            _STATE_VARIABLE: str(folder / "state"),
            "XDG_CONFIG_HOME": str(folder / "config"),
            "OMP_NUM_THREADS": "1",
        }
        self.env.pop("CPADVISOR_FAULT", None)
        self._terminals: list[AppTerminal] = []

    def command(self, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
        """`cpadvisor WORDS`, to its end."""
        argv = [sys.executable, "-m", "cpadvisor", *words]
        done = subprocess.run(
            argv, env={**self.env, **env}, cwd=self.folder, capture_output=True, text=True, check=False
        )
        assert "Traceback" not in done.stderr, done.stderr
        return done

    def told(self, *words: str) -> dict[str, Any]:
        """What a command says in JSON."""
        done = self.command(*words, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def launch(self, *words: str, fault: str | None = None) -> Path:
        """Start the training and leave it to itself; its directory. The process that started it is gone then."""
        env = {} if fault is None else {"CPADVISOR_FAULT": fault}
        done = self.command("launch", str(self.config), "--detach", "--json", *words, **env)
        assert done.returncode == 0, done.stderr
        return Path(json.loads(done.stdout)["dir"])

    def app(self, *words: str, rows: int = 30, columns: int = 100) -> AppTerminal:
        """The app on a terminal of its own."""
        terminal = AppTerminal(*words, env=self.env, cwd=self.folder, rows=rows, columns=columns)
        self._terminals.append(terminal)
        return terminal

    def watched(self, *words: str, fault: str | None = None) -> tuple[Path, AppTerminal]:
        """A training that begins, and the app that shows it."""
        run_dir = self.launch(*words, fault=fault)
        app = self.app("attach", str(run_dir))
        app.shows(run_dir.name)
        return run_dir, app

    def in_mid_run(self, *words: str) -> tuple[Path, AppTerminal, RunView]:
        """A training in mid-run, and the app that shows it."""
        run_dir, app = self.watched(*words)
        return run_dir, app, self.trains(run_dir)

    def until(self, run_dir: Path, wanted: Callable[[RunView], bool]) -> RunView:
        """Look until the run is as wanted; fails with the last look where it never is, or has ended otherwise."""
        monitor, end = Monitor(run_dir), time.monotonic() + LONGEST_S
        while not wanted(view := monitor.poll()):
            assert not view.is_final, (view.state, view.failure, tails(run_dir))
            assert time.monotonic() < end, (view.state, view.step, tails(run_dir))
            time.sleep(0.05)
        return view

    def trains(self, run_dir: Path, *, beyond: int = 3) -> RunView:
        """Wait until it has finished more steps than that."""
        return self.until(run_dir, lambda view: (view.step or 0) > beyond and view.state == "running")

    def ended(self, run_dir: Path) -> dict[str, Any]:
        """What `watch` tells of a run, once nothing of it lives."""
        self.until(run_dir, lambda view: view.is_final)
        return self.told("watch", "--once", str(run_dir))

    def launch_again(self, run_dir: Path) -> None:
        """Resume a run that ended, and wait until it trains."""
        done = self.command("launch", "--resume", str(run_dir), "--detach")
        assert done.returncode == 0, done.stderr
        self.until(run_dir, lambda view: view.state == "running")

    def first_run(self) -> Path:
        """The first run that stands in the usual folder."""
        root, end = self.folder / "state" / "cpadvisor" / "runs", time.monotonic() + LONGEST_S
        while not (runs := list_runs(root)):
            assert time.monotonic() < end, f"nothing was launched into {root}"
            time.sleep(0.05)
        return runs[0]

    def until_gone(self, run_dir: Path) -> None:
        """Wait until no process of a run lives."""
        end = time.monotonic() + LONGEST_S
        while processes_of(run_dir):
            assert time.monotonic() < end, processes_of(run_dir)
            time.sleep(0.1)

    def assert_stopped(self, run_dir: Path, *, state: str) -> None:
        """`stop`, which may find nothing to do, says `state` and leaves no process of the run."""
        assert self.told("stop", str(run_dir))["state"] == state
        assert processes_of(run_dir) == []

    def assert_left(self, *apps: AppTerminal) -> None:
        """Each app ends on q and leaves its terminal whole; nothing that was started here lives on."""
        for app in apps:
            app.press("q")
            assert app.wait_for_status() == 0
            app.assert_whole()
        end = time.monotonic() + 5
        while (left := self._strangers()) and time.monotonic() < end:
            time.sleep(0.05)
        assert not left, [Path(f"/proc/{process.pid}/cmdline").read_bytes() for process in left]

    def _strangers(self) -> frozenset[ProcessId]:
        """What lives beside the shells of the terminals."""
        shells = {terminal.shell for terminal in self._terminals}
        return frozenset(process for process in self._living() if process.pid not in shells)

    def _living(self) -> frozenset[ProcessId]:
        """Every process that this scene started, directly or not."""
        return carrying(_STATE_VARIABLE, self.env[_STATE_VARIABLE])

    def close(self) -> None:
        """End all that was started here."""
        for terminal in self._terminals:
            terminal.close()
        for process in self._living():
            send(process, signal.SIGKILL)


@contextmanager
def scene(folder: Path) -> Iterator[Scene]:
    """A scene, of which nothing is left afterwards."""
    here = Scene(folder)
    try:
        yield here
    finally:
        here.close()


def processes_of(run_dir: Path) -> list[int]:
    """Living processes that carry the mark of a run."""
    return sorted(process.pid for process in carrying(RUN_VARIABLE, str(run_dir)))


def agent_of(run_dir: Path) -> int:
    """torchrun's process."""
    agent = read_record(run_dir).agent
    assert agent is not None and is_alive(agent)
    return agent.pid


def keeper_of(run_dir: Path) -> int:
    """The process that keeps torchrun's exit status."""
    keeper = read_record(run_dir).keeper
    assert keeper is not None and is_alive(keeper)
    return keeper.pid


def rank_of(view: RunView, rank: int) -> int:
    """The process of a rank."""
    pid = view.ranks[rank].pid
    assert pid is not None, view
    return pid


def tails(run_dir: Path) -> str:
    """The ends of all logs, for the message of a test that fails."""
    logs = sorted(run_dir.glob("log-*.txt"))
    return "\n".join(f"{path.name}:\n{path.read_text(errors='replace')[-1500:]}" for path in logs)
