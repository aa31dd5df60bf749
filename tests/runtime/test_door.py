import json
import os
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from real_run import answer, ask, environment

from runtime import door as doors
from runtime.door import Door, DoorError
from runtime.progress import Progress


@pytest.fixture
def user_folder(short_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where doors are opened; a closed one leaves nothing there."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(short_folder))
    yield short_folder
    assert list(short_folder.iterdir()) == []


def from_another_thread(path: Path) -> dict[str, object]:
    found: list[dict[str, object]] = []
    asker = threading.Thread(target=lambda: found.append(answer(str(path))))
    asker.start()
    asker.join()
    return found[0]


def test_the_door_tells_where_the_main_thread_is(user_folder: Path) -> None:
    progress = Progress()
    door = Door(rank=3, progress=progress)
    path = door.open()
    assert from_another_thread(path)["phase"] == "build"
    progress.enter("backward", step=7)
    told = from_another_thread(path)
    assert (told["rank"], told["step"], told["phase"]) == (3, 7, "backward")
    since, stack = told["since_s"], told["stack"]
    assert isinstance(since, float) and 0 <= since < 60
    assert isinstance(stack, list)
    # This thread waits for the one that asks.
    assert any(frame.endswith(" from_another_thread") and f"{__file__}:" in frame for frame in stack)
    assert stack[-1].split(" ")[-1] in ("join", "_wait_for_tstate_lock")
    door.close()


def test_the_door_tells_exchanges_once_there_are_any_and_where_groups_count_them(user_folder: Path) -> None:
    progress = Progress()
    door = Door(rank=0, progress=progress)
    path = str(door.open())

    def uncounted() -> int:
        raise RuntimeError("this backend has no sequence numbers")

    for exchanges, told in ((None, None), (lambda: 92, 92), (uncounted, None)):
        progress.exchanges = exchanges
        assert answer(path)["exchanges"] == told
    door.close()


def test_only_this_user_reaches_it(user_folder: Path) -> None:
    door = Door(rank=0, progress=Progress())
    path = door.open()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    door.close()


def test_a_second_door_of_a_process_answers_for_itself(user_folder: Path) -> None:
    for rank in (1, 2):
        door = Door(rank=rank, progress=Progress())
        assert json.loads(ask(str(door.open())))["rank"] == rank
        door.close()
        door.close()


def test_a_folder_with_too_long_a_name_gives_way_to_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = tmp_path / ("long" * 30)
    long.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(long))
    door = Door(rank=0, progress=Progress())
    path = door.open()
    assert not path.is_relative_to(long)
    assert len(bytes(path)) < 108
    assert list(long.iterdir()) == []
    door.close()


def test_where_no_door_can_be_opened_every_place_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    monkeypatch.setattr(doors, "_places", lambda: [gone, tmp_path / ("long" * 30)])
    (tmp_path / ("long" * 30)).mkdir()
    with pytest.raises(DoorError) as caught:
        Door(rank=0, progress=Progress()).open()
    assert f"{gone}: [Errno 2] No such file or directory" in str(caught.value)
    assert "is longer than the 107 bytes of a socket's path" in str(caught.value)
    assert list((tmp_path / ("long" * 30)).iterdir()) == []


def test_a_torch_without_the_server_leaves_the_door_closed(short_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._C import _distributed_c10d as c10d

    monkeypatch.delattr(c10d, "_WorkerServer")
    with pytest.raises(DoorError, match="_WorkerServer"):
        Door(rank=0, progress=Progress()).open()


def left_behind(folder: Path, name: str, *, listens: bool, age_s: float) -> tuple[Path, socket.socket]:
    """A door of another process: its socket, held open where that process still listens."""
    other = folder / f"{doors.PREFIX}{name}"
    other.mkdir(mode=0o700)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(other / "rank0.sock"))
    if listens:
        listener.listen()
    else:
        listener.close()
    then = time.time() - age_s
    os.utime(other, (then, then))
    return other, listener


def test_doors_of_killed_processes_are_taken_away_and_those_of_live_ones_are_not(
    short_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = short_folder
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    dead, _ = left_behind(folder, "dead", listens=False, age_s=3600)
    opening, _ = left_behind(folder, "new", listens=False, age_s=1)
    alive, listener = left_behind(folder, "live", listens=True, age_s=3600)
    foreign = folder / "foreign"
    foreign.mkdir()
    door = Door(rank=0, progress=Progress())
    door.open()
    door.close()
    listener.close()
    assert sorted(folder.iterdir()) == sorted([opening, alive, foreign])
    assert not dead.exists()


def test_nothing_but_doors_is_taken_away(short_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(short_folder))
    victim, papers = short_folder / "victim", short_folder / f"{doors.PREFIX}papers"
    for folder in (victim, papers):
        folder.mkdir()
        (folder / "id_ed25519").write_text("secret")
        os.utime(folder, (0, 0))
    (short_folder / f"{doors.PREFIX}link").symlink_to(victim)
    door = Door(rank=0, progress=Progress())
    door.open()
    door.close()
    assert (victim / "id_ed25519").exists() and (papers / "id_ed25519").exists()


PROGRAM = """
import sys
sys.path.insert(0, {tests!r})
from real_run import ask
import runtime.door
from runtime.door import Door
from runtime.progress import Progress
door = Door(rank=0, progress=Progress())
path = str(door.open())
if {asks}:
    ask(path)
door.close()
del runtime.door._answer  # as the interpreter does with a module's names when it ends
sys.exit(5)
"""


@pytest.mark.parametrize("asks", [False, True])
def test_a_process_with_a_door_ends_with_its_own_exit_status(asks: bool) -> None:
    program = PROGRAM.format(tests=str(Path(__file__).parent), asks=asks)
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment(), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 5, done.stderr
