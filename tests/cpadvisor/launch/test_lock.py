import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from cpadvisor.errors import LaunchError, WriteError
from cpadvisor.launch.lock import held, held_if_possible

HOLD = (
    "import sys, time; from pathlib import Path; from cpadvisor.launch.lock import held\n"
    "with held(Path(sys.argv[1])):\n    print('held', flush=True); time.sleep(60)"
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "runs").mkdir()
    return tmp_path / "runs" / ".lock"


def test_a_second_holder_waits_for_the_first(path: Path) -> None:
    order: list[str] = []

    def second() -> None:
        with held(path, wait_s=30):
            order.append("second")

    with held(path):
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.3)
        order.append("first")
    thread.join(timeout=30)
    assert order == ["first", "second"]


def test_one_who_may_not_wait_longer_is_told_the_file_and_how_to_find_its_holder(path: Path) -> None:
    told = r"has held .*/\.lock for 0 s; `fuser .*/\.lock` names it"
    with held(path), pytest.raises(LaunchError, match=told), held(path, wait_s=0):
        pass


def test_a_holder_that_is_killed_frees_it(path: Path) -> None:
    root = Path(__file__).parents[3]
    child = subprocess.Popen([sys.executable, "-c", HOLD, path], stdout=subprocess.PIPE, cwd=root)
    try:
        assert child.stdout is not None and child.stdout.readline() == b"held\n"
        with pytest.raises(LaunchError):
            held(path, wait_s=0).__enter__()
    finally:
        child.kill()
        child.wait()
    with held(path, wait_s=0):
        pass


def test_a_child_does_not_inherit_it(path: Path) -> None:
    with held(path):
        child = subprocess.Popen(["sleep", "60"], close_fds=False)
    try:
        with held(path, wait_s=0):
            pass
    finally:
        child.kill()
        child.wait()


def test_a_place_that_cannot_be_written_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(WriteError, match=r"cannot write .*/file/\.lock: .*; choose another place with --runs DIR"):
        held(tmp_path / "file" / ".lock").__enter__()


def test_what_must_be_done_is_done_without_it(path: Path, tmp_path: Path) -> None:
    done: list[int] = []
    (tmp_path / "file").touch()
    with held(path):
        for unavailable in (path, tmp_path / "file" / ".lock"):
            with held_if_possible(unavailable, wait_s=0):
                done.append(os.getpid())
    assert len(done) == 2


def test_an_error_inside_the_block_comes_out_of_it_and_frees_it(path: Path) -> None:
    for hold in (held, held_if_possible):
        with pytest.raises(LaunchError, match="from inside"), hold(path, wait_s=0):
            raise LaunchError("from inside")


def test_a_run_directory_that_has_vanished_is_not_made_again(tmp_path: Path) -> None:
    path = tmp_path / "gone" / ".lock"
    with pytest.raises(LaunchError, match="gone has vanished"), held(path):
        pass
    with held_if_possible(path):
        pass
    assert not path.parent.exists()
