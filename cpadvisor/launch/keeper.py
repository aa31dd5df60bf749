"""The process that starts torchrun and keeps its exit status: whoever asked for the run may be gone by then.

`python -I keeper.py RUN_DIR ARGV…` answers with one line of JSON, torchrun's
process or why it could not be started, then waits for its end, writes exit.json
and ends. Before it answers it writes agent.json, for the case that nobody reads
the answer. It is run by its path, so that it loads little and holds little.
"""

import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

KEEPER_VARIABLE = "CPADVISOR_KEEPS"
"""Marks this process alone, by the run directory."""
RUN_VARIABLE = "CPADVISOR_RUN_DIR"
"""Every process of a run inherits this mark, so that `stop` finds those that left their session and their parent."""
CANNOT_WRITE, CANNOT_START = "cannot write", "cannot start"


def main() -> None:
    """Start, answer, wait, keep."""
    run_dir, argv = Path(sys.argv[1]), sys.argv[2:]
    started = _start(run_dir, argv)
    if isinstance(started, subprocess.Popen):
        agent = _identity(started.pid)
        _note(run_dir, agent)
        _answer(agent)
        _keep(run_dir, started)
    else:
        _answer({"error": started[0], "why": started[1]})


def _start(run_dir: Path, argv: list[str]) -> subprocess.Popen[bytes] | tuple[str, str]:
    """torchrun in a session of its own, or what failed and why."""
    from cpadvisor.rundir import AGENT_LOG

    env = {name: value for name, value in os.environ.items() if name != KEEPER_VARIABLE}
    try:
        log = (run_dir / AGENT_LOG).open("ab")
    except OSError as error:
        return CANNOT_WRITE, error.strerror or str(error)
    with log:
        try:
            return subprocess.Popen(
                argv,
                cwd=run_dir,
                env={**env, RUN_VARIABLE: str(run_dir)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                close_fds=True,
            )
        except OSError as error:
            return CANNOT_START, error.strerror or str(error)


def _identity(pid: int) -> dict[str, object]:
    from cpadvisor.processes import parse_stat

    # Also of one that has ended already: it is not waited for yet.
    stat = parse_stat(Path(f"/proc/{pid}/stat").read_text(errors="replace"))
    assert stat is not None, f"/proc/{pid}/stat is cut short"
    return {"pid": pid, "start_ticks": stat.process.start_ticks}


def _note(run_dir: Path, agent: dict[str, object]) -> None:
    """Leave word of both processes. On a full disk only the answer tells of them."""
    from cpadvisor.errors import WriteError
    from cpadvisor.rundir import AGENT_FILE, write_atomically

    text = json.dumps({"agent": agent, "keeper": _identity(os.getpid())}) + "\n"
    with contextlib.suppress(WriteError):
        write_atomically(run_dir / AGENT_FILE, text, makes_folder=False)


def _answer(said: dict[str, object]) -> None:
    """The line, and the end of it: nobody reads on."""
    with contextlib.suppress(OSError):  # who asked is gone already
        os.write(1, json.dumps(said).encode() + b"\n")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)


def _keep(run_dir: Path, process: subprocess.Popen[bytes]) -> None:
    """Wait for the end and write it down, unless the directory has gone or was given to another torchrun."""
    from cpadvisor.errors import WriteError
    from cpadvisor.rundir import BALLAST_FILE, EXIT_FILE, write_atomically
    from cpadvisor.watch.host import oom_kills

    status = process.wait()
    text = json.dumps({"exit": status, "t": time.time(), "oom_kills": oom_kills()}) + "\n"
    if not _is_still_its_run(run_dir, process.pid):
        return
    try:
        write_atomically(run_dir / EXIT_FILE, text, makes_folder=False)
    except WriteError:  # a full disk
        (run_dir / BALLAST_FILE).unlink(missing_ok=True)
        with contextlib.suppress(WriteError):
            write_atomically(run_dir / EXIT_FILE, text, makes_folder=False)


def _is_still_its_run(run_dir: Path, pid: int) -> bool:
    from cpadvisor.rundir import RUN_FILE

    try:
        agent = json.loads((run_dir / RUN_FILE).read_text())["agent"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return agent is None or agent.get("pid") == pid


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    main()
