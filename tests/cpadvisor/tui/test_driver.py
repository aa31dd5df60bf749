import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cpadvisor.tui.driver import Aside, Output


def test_text_is_written_whole_at_a_flush() -> None:
    read, write = os.pipe()
    output = Output(write)
    assert output.write("╭─") == 2
    output.write(" \udcff")  # what no code has is replaced
    output.flush()
    assert os.read(read, 100) == "╭─ ?".encode()
    os.close(read)
    os.close(write)


def test_a_terminal_that_goes_is_told_once_and_never_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[int] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: told.append(number))
    read, write = os.pipe()
    os.close(read)
    output = Output(write)
    for _ in range(3):
        output.write("x")
        output.flush()
    assert told == [signal.SIGHUP]
    os.close(write)


def test_what_is_printed_while_the_app_draws_is_kept_and_the_descriptors_come_back(tmp_path: Path) -> None:
    program = (
        "import os, subprocess, sys\n"
        "from cpadvisor.tui.driver import Aside\n"
        "aside = Aside()\n"
        "with aside.taking() as output:\n"
        "    os.write(2, b'library\\n')\n"
        "    subprocess.run(['sh', '-c', 'echo child'])\n"
        "    print('python')\n"
        "    output.write('drawn\\n')\n"
        "    output.flush()\n"
        "print('after', repr(aside.text))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "drawn" in done.stdout + done.stderr
    assert "after 'library\\nchild\\npython\\n'" in done.stdout
    assert "library\n" not in done.stderr


def test_no_descriptor_is_left_open() -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    with Aside().taking():
        pass
    assert len(list(Path("/proc/self/fd").iterdir())) == before
