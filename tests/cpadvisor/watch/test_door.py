import json
import socketserver
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from cpadvisor.watch.door import FRESH_S, STALE_S, Answer, Doors, ask, ask_all, parse_traceback

# As torch 2.13 answers `dump_traceback`, with the main thread asleep.
DUMP = """\
Current thread 0x00007f24169266c0 (most recent call first):
  <no Python frame>

Thread 0x00007f24171276c0 (most recent call first):
  File "/lib/python3.11/threading.py", line 982 in run
  File "/lib/python3.11/threading.py", line 1002 in _bootstrap

Thread 0x00007f2439a22b80 (most recent call first):
  File "/work/train.py", line 16 in hang
  File "/work/train.py", line 17 in <module>
"""
TOLD = {"rank": 1, "step": 4, "phase": "backward", "since_s": 2.5, "stack": ["/a.py:1 main", "/b.py:2 wait"]}


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


@contextmanager
def door(path: Path, handlers: Mapping[str, Callable[[], tuple[int, bytes]]]) -> Iterator[str]:
    """A rank's door: what each handler answers."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            name = self.path.rpartition("/")[2]
            status, body = handlers[name]() if name in handlers else (404, b"Handler not found")
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def address_string(self) -> str:
            return "unix"

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = _Server(str(path), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield str(path)
    server.shutdown()
    server.server_close()


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Short enough for a socket's path."""
    return tmp_path_factory.mktemp("d")


def test_a_rank_tells_its_step_its_phase_and_its_frames(folder: Path) -> None:
    with door(folder / "s", {"cpadvisor": lambda: (200, json.dumps(TOLD).encode())}) as path:
        assert ask(path) == Answer(step=4, phase="backward", since_s=2.5, stack=("/a.py:1 main", "/b.py:2 wait"))


@pytest.mark.parametrize("body", [b"{", b"[1]", b"\xff"])
def test_an_answer_of_another_shape_is_passed_over_for_the_dump(folder: Path, body: bytes) -> None:
    handlers = {"cpadvisor": lambda: (200, body), "dump_traceback": lambda: (200, DUMP.encode())}
    with door(folder / "s", handlers) as path:
        assert ask(path) == Answer(stack=("/work/train.py:17 <module>", "/work/train.py:16 hang"))


def test_fields_of_another_kind_are_left_out_and_escape_codes_are_gone(folder: Path) -> None:
    told = {"step": "4", "phase": 3, "since_s": None, "stack": ["/a.py:1 \x1b[31mmain", 7]}
    with door(folder / "s", {"cpadvisor": lambda: (200, json.dumps(told).encode())}) as path:
        assert ask(path) == Answer(stack=("/a.py:1 main",))


def test_a_rank_without_our_handler_is_asked_for_torchs_own(folder: Path) -> None:
    with door(folder / "s", {"dump_traceback": lambda: (200, DUMP.encode())}) as path:
        answer = ask(path)
    assert answer is not None and answer.stack[-1] == "/work/train.py:16 hang"


def test_nobody_behind_a_door_is_no_answer(folder: Path) -> None:
    (folder / "file").touch()
    for name in ("missing", "file", "x" * 200):
        assert ask(str(folder / name)) is None


def test_ranks_are_asked_at_once_and_the_dumb_one_is_left_out_in_time(folder: Path) -> None:
    release = threading.Event()

    def dumb() -> tuple[int, bytes]:
        release.wait(20)
        return 200, b"{}"

    good = {"cpadvisor": lambda: (200, json.dumps(TOLD).encode())}
    with (
        door(folder / "0", good) as first,
        door(folder / "1", {"cpadvisor": dumb, "dump_traceback": dumb}) as second,
        door(folder / "2", good) as third,
    ):
        answers = ask_all({0: first, 1: second, 2: third}, timeout_s=0.2)
        release.set()
    assert set(answers) == {0, 2}


def test_the_main_thread_stands_last_in_a_dump() -> None:
    assert parse_traceback(DUMP) == ("/work/train.py:17 <module>", "/work/train.py:16 hang")
    assert parse_traceback("no dump at all") == ()


class Asked:
    """Answers with how often it was asked."""

    def __init__(self) -> None:
        self.count = 0
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, doors: Mapping[int, str]) -> Mapping[int, Answer]:
        self.gate.wait(20)
        self.count += 1
        return {rank: Answer(step=self.count) for rank in doors}


def test_answers_hold_for_some_seconds_and_then_are_renewed_behind_the_scenes() -> None:
    now, asked = [100.0], Asked()
    doors = Doors(clock=lambda: now[0], asked=asked)
    assert doors.ask({0: "a"}) == {0: Answer(step=1)}
    now[0] += FRESH_S
    assert doors.ask({0: "a"}) == {0: Answer(step=1)}
    now[0] += 1.0
    asked.gate.clear()
    assert doors.ask({0: "a"}) == {0: Answer(step=1)}  # the new one is on its way
    assert doors.ask({0: "a"}) == {0: Answer(step=1)}
    asked.gate.set()
    deadline = time.monotonic() + 10
    while doors.ask({0: "a"}) != {0: Answer(step=2)}:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    assert asked.count == 2


def test_answers_of_an_earlier_hang_are_forgotten() -> None:
    now, asked = [100.0], Asked()
    doors = Doors(clock=lambda: now[0], asked=asked)
    doors.ask({0: "a"})
    now[0] += STALE_S + 1
    assert doors.ask({0: "a"}) == {0: Answer(step=2)}


def test_where_there_is_no_door_nobody_is_asked() -> None:
    asked = Asked()
    assert Doors(asked=asked).ask({}) == {}
    assert asked.count == 0
