"""A child answers, hangs or crashes; the one who asked goes on in every case."""

import os
import sys
import time
from pathlib import Path

import pytest

from cpadvisor.doctor.children import ask, ask_ourselves
from cpadvisor.processes import carrying

MARK = "CPADVISOR_TEST_CHILD"


def asked(program, *, timeout_s=20.0, **environ):
    return ask([sys.executable, "-c", program], timeout_s=timeout_s, environ={**os.environ, **environ})


def test_the_last_line_is_the_answer_whatever_libraries_print_before_it():
    answer = asked("print('a banner'); print('{\"a\": [1, null]}')")
    assert answer.data == {"a": [1, None]}
    assert answer.why is None
    assert 0 < answer.took_s < answer.given_s == 20.0


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("raise ImportError('libcudnn.so.9: cannot open')", "exit status 1: ImportError: libcudnn.so.9: cannot open"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "it was ended by SIGSEGV"),
        ("import os; os.kill(os.getpid(), 40)", "it was ended by signal 40"),
        ("print('no json')", "exit status 0"),
        ("print('[1]')", "exit status 0"),
        ("", "exit status 0"),
    ],
)
def test_a_child_that_does_not_answer_is_told_with_its_last_words(program, words):
    answer = asked(program)
    assert answer.data is None
    assert words in (answer.why or "")


def test_a_child_that_hangs_is_ended_with_all_that_it_started(tmp_path):
    program = (
        "import subprocess, sys, time\n"
        "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "time.sleep(600)"
    )
    began = time.monotonic()
    answer = asked(program, timeout_s=1.0, **{MARK: str(tmp_path)})
    assert answer.why == "no answer within 1 s"
    assert time.monotonic() - began < 15
    deadline = time.monotonic() + 10
    while carrying(MARK, str(tmp_path)):
        assert time.monotonic() < deadline, carrying(MARK, str(tmp_path))
        time.sleep(0.02)


def test_an_interpreter_that_is_not_there_is_told():
    answer = ask(["/nowhere/python", "-c", ""], timeout_s=5.0)
    assert answer.why == "/nowhere/python cannot be started: No such file or directory"


def test_our_own_modules_are_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    answer = ask_ourselves("cpadvisor.doctor.look", "host", str(tmp_path), timeout_s=60.0)
    assert answer.data is not None, answer.why
    assert answer.data["runs_root"] == str(tmp_path)
    assert Path("/dev/shm").exists() == (answer.data["shm_bytes"] is not None)
