"""The import contracts, proven at run time: what a command really loads."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = ("torch", "textual", "rich")


def modules_after(*argv):
    """Names of the modules that are loaded once a command has run in a process of its own."""
    program = (
        "import sys\n"
        "from cpadvisor.cli import main\n"
        "try:\n"
        "    code = main(sys.argv[1:])\n"
        "except SystemExit as leave:\n"
        "    code = leave.code\n"
        "print('\\n'.join(['', f'code {code}', *sys.modules]), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, *argv], capture_output=True, text=True, check=True)
    _, _, listed = done.stderr.rpartition("\ncode ")
    code, *names = listed.split("\n")
    assert code == "0", done.stderr[:2000]
    return set(names), done.stdout


@pytest.mark.parametrize(
    "argv",
    [
        ("--help",),
        ("inspect", "--node", "dgx-h100", "--json"),
        ("inspect", "--node", "dgx-1v"),
        ("plan", "--node", "dgx-h100", "--model", "llama-3.1-8b", "--seq", "32k"),
        ("plan", "--node", "dgx-h100", "--model", "llama-3.1-8b", "--seq", "128k", "--json"),
        ("card", "--lang", "zh"),
    ],
)
def test_headless_commands_load_neither_torch_nor_textual(argv):
    names, stdout = modules_after(*argv)
    assert stdout
    assert not [name for name in names if name.split(".")[0] in HEAVY]
    assert {name for name in names if name.split(".")[0] == "runtime"} <= {"runtime", "runtime.telemetry"}


def test_the_trainer_loads_nothing_of_the_advisor():
    program = (
        "import sys, runtime.train; print([n for n in sys.modules if n.split('.')[0] in ('cpadvisor', 'textual')])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_events_load_the_standard_library_alone():
    # -S leaves site-packages out: an import from there would fail.
    program = "import sys, runtime.telemetry; print(runtime.telemetry.VERSION)"
    done = subprocess.run([sys.executable, "-S", "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1"
