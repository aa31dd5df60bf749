"""Questions to the ranks of a hung run, through the unix socket that each answers while its main thread hangs.

A rank is asked for `cpadvisor` first, which tells step and phase and needs the
interpreter's lock; where that does not answer, for `dump_traceback`, which torch
answers without it.
"""

import http.client
import json
import math
import re
import socket
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from cpadvisor.watch.clues import plain
from cpadvisor.watch.events import number, text, whole

TIMEOUT_S = 1.0
"""Of one question to one rank; a rank that lives answers within milliseconds."""
FIRST_WAIT_S = 2 * TIMEOUT_S + 0.2
"""How long the first look at a hung run waits for the answers; later ones never wait."""
FRESH_S = 5.0
"""How long answers hold before the ranks are asked again."""
STALE_S = 30.0
"""Answers of an earlier hang say nothing of this one."""
MAX_ANSWER_BYTES = 1 << 20

_FRAME = re.compile(r'File "([^"]+)", line (\d+) in (\S+)')


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What one rank does now."""

    step: int | None = None
    phase: str | None = None
    since_s: float | None = None
    """How long it has been in that phase."""
    exchanges: int | None = None
    """How many exchanges with other ranks it has begun; equal on all ranks that stand at one place."""
    stack: tuple[str, ...] = ()
    """`file:line function` of its main thread, innermost last."""


class _Connection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str, *, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def ask(path: str, *, timeout_s: float = TIMEOUT_S) -> Answer | None:
    """What the rank behind one socket does; None where nobody answers in time."""
    told = _post(path, "cpadvisor", timeout_s)
    answer = None if told is None else _answer(told)
    if answer is not None:
        return answer
    told = _post(path, "dump_traceback", timeout_s)
    stack = () if told is None else parse_traceback(told.decode(errors="replace"))
    return Answer(stack=stack) if stack else None


def _post(path: str, handler: str, timeout_s: float) -> bytes | None:
    connection = _Connection(path, timeout_s=timeout_s)
    try:
        connection.request("POST", f"/handler/{handler}")
        response = connection.getresponse()
        body = response.read(MAX_ANSWER_BYTES)
        return body if response.status == http.client.OK else None
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def _answer(told: bytes) -> Answer | None:
    try:
        values: Any = json.loads(told)
    except (ValueError, RecursionError):
        return None
    if not isinstance(values, dict):
        return None
    stack = values.get("stack")
    frames = stack if isinstance(stack, list) else []
    return Answer(
        step=whole(values, "step"),
        phase=text(values, "phase"),
        since_s=number(values, "since_s"),
        exchanges=whole(values, "exchanges"),
        stack=tuple(plain(frame) for frame in frames if isinstance(frame, str)),
    )


def parse_traceback(dump: str) -> tuple[str, ...]:
    """The main thread of a dump of all threads, which comes last, innermost frame first; gives it innermost last."""
    frames = [f"{file}:{line} {function}" for file, line, function in _FRAME.findall(dump.rpartition("Thread 0x")[2])]
    return tuple(plain(frame) for frame in reversed(frames))


def ask_all(doors: Mapping[int, str], *, timeout_s: float = TIMEOUT_S) -> dict[int, Answer]:
    """Ask every rank at once; a rank that does not answer is left out."""
    if not doors:
        return {}
    with ThreadPoolExecutor(max_workers=len(doors), thread_name_prefix="door") as pool:
        answers = pool.map(lambda path: ask(path, timeout_s=timeout_s), doors.values())
        return {rank: answer for rank, answer in zip(doors, answers, strict=True) if answer is not None}


class Doors:
    """Keeps answers for some seconds, and asks anew in a thread of its own."""

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        asked: Callable[[Mapping[int, str]], Mapping[int, Answer]] = ask_all,
    ) -> None:
        self._clock = clock
        self._ask_all = asked
        self._answers: Mapping[int, Answer] = {}
        self._asked_at: float | None = None
        self._thread: threading.Thread | None = None

    def ask(self, doors: Mapping[int, str]) -> Mapping[int, Answer]:
        """The newest answers. Waits for the first ones of a hang, at most 2.2 s, and later for none."""
        age_s = math.inf if self._asked_at is None else self._clock() - self._asked_at
        if not doors or age_s <= FRESH_S or (self._thread is not None and self._thread.is_alive()):
            return self._answers
        self._asked_at = self._clock()
        if age_s > STALE_S:
            self._answers = {}
        self._thread = threading.Thread(target=self._run, args=(dict(doors),), name="doors", daemon=True)
        self._thread.start()
        if age_s > STALE_S:
            self._thread.join(FIRST_WAIT_S)
        return self._answers

    def _run(self, doors: Mapping[int, str]) -> None:
        self._answers = self._ask_all(doors)
