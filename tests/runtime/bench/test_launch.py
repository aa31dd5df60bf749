import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[3]
SCRIPT = """
import os, signal, sys, time
from pathlib import Path
from runtime.bench import launch
from runtime.errors import TrainerError

def work(ranks, how, folder):
    assert ranks.gather(ranks.rank) == [0, 1]
    Path(folder, str(ranks.rank)).write_text(str(os.getpid()))
    ranks.gather(None)
    if how == "done":
        return
    if ranks.rank == 1 and how == "raises":
        raise ValueError("of its own")
    if ranks.rank == 1 and how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    ranks.control.barrier().wait()
    time.sleep(600)

if __name__ == "__main__":
    try:
        launch.run(work, *sys.argv[1:])
    except TrainerError as error:
        sys.exit(f"error: {error}")
"""


def start(folder, how):
    path = folder / "script.py"
    path.write_text(SCRIPT)
    return subprocess.Popen(
        [sys.executable, path, how, folder],
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""},
        stderr=subprocess.PIPE,
        text=True,
    )


def pids(folder, timeout_s=60.0):
    deadline = time.monotonic() + timeout_s
    paths = [folder / "0", folder / "1"]
    while not all(path.exists() and path.read_text() for path in paths):
        assert time.monotonic() < deadline, "the ranks did not start"
        time.sleep(0.1)
    return [int(path.read_text()) for path in paths]


def assert_all_end(ranks, timeout_s=10.0):
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        alive = [pid for pid in ranks if psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie"]
        if not alive:
            return
        time.sleep(0.1)
    raise AssertionError(f"{alive} outlive the command")


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("raises", "error: rank 1 failed: ValueError: of its own"),
        ("killed", "error: rank 1 failed: process 1 terminated with signal SIGKILL"),
    ],
)
def test_a_rank_that_fails_is_named_and_takes_the_others_along(tmp_path, how, said):
    command = start(tmp_path, how)
    _, errors = command.communicate(timeout=90)
    assert command.returncode == 1
    assert errors.strip().splitlines()[-1] == said
    assert_all_end(pids(tmp_path))


def test_ranks_end_with_the_command_even_where_it_is_killed(tmp_path):
    command = start(tmp_path, "waits")
    ranks = pids(tmp_path)
    command.kill()
    command.communicate()
    assert_all_end(ranks)


def test_ranks_meet_work_and_leave(tmp_path):
    command = start(tmp_path, "done")
    _, errors = command.communicate(timeout=90)
    assert command.returncode == 0, errors
