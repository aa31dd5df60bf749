"""Who leaves while the doctor looks leaves at once, and so do the children that were asked."""

import os
import signal
import subprocess
import sys
import time

import pytest

from cpadvisor.processes import carrying

MARK = "CPADVISOR_TEST_LEAVING"
HANGING_TORCH = """\
import ctypes, pathlib, subprocess, sys
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
pathlib.Path(__file__).with_name("hangs").touch()
ctypes.PyDLL(None).sleep(600)
"""
"""As an import does that waits for the driver: no other thread of Python runs, and a program it started waits, too."""


def until(wanted, *, seconds=60.0):
    end = time.monotonic() + seconds
    while not wanted():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.fixture
def doctor(tmp_path):
    """`cpadvisor doctor` whose interpreter hangs while it imports torch."""
    (tmp_path / "torch.py").write_text(HANGING_TORCH)
    path = os.pathsep.join(filter(None, (str(tmp_path), os.environ.get("PYTHONPATH"))))
    environ = {**os.environ, "PYTHONPATH": path, MARK: str(tmp_path)}
    argv = [sys.executable, "-m", "cpadvisor", "doctor", "--python", sys.executable, "--runs", str(tmp_path)]
    process = subprocess.Popen(
        argv, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
    )
    until((tmp_path / "hangs").exists)
    yield process
    process.kill()
    process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_doctor_that_is_ended_ends_at_once_with_all_that_it_asked(number, doctor, tmp_path):
    doctor.send_signal(number)
    assert doctor.wait(timeout=5) != 0
    until(lambda: not carrying(MARK, str(tmp_path)), seconds=5)


def test_a_look_in_a_thread_of_an_app_that_ends_is_left_behind(tmp_path):
    (tmp_path / "torch.py").write_text(HANGING_TORCH)
    program = (
        "import os, pathlib, sys, threading, time\n"
        "from cpadvisor.doctor.node import examine_node\n"
        "threading.Thread(target=examine_node, kwargs={'python': sys.executable}, daemon=True).start()\n"
        "while not pathlib.Path(os.environ['MARKED'], 'hangs').exists(): time.sleep(0.02)\n"
        "print(time.time())\n"
    )
    path = os.pathsep.join(filter(None, (str(tmp_path), os.environ.get("PYTHONPATH"))))
    environ = {**os.environ, "PYTHONPATH": path, "MARKED": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", program], env=environ, capture_output=True, timeout=80, check=True)
    assert time.time() - float(done.stdout) < 5
    until(lambda: not carrying("MARKED", str(tmp_path)), seconds=5)
