"""Whether anything of a run may live, asked of the kernel alone: the events of an old run take seconds to read."""

import os
import socket
import time
from collections.abc import Container
from pathlib import Path

from cpadvisor.launch.keeper import KEEPER_VARIABLE, RUN_VARIABLE
from cpadvisor.processes import is_alive, marked
from cpadvisor.rundir import EXIT_FILE, boot_id, is_file
from cpadvisor.runrecord import RunRecord
from cpadvisor.watch.state import LAUNCH_GRACE_S


def marked_runs() -> frozenset[str]:
    """Directories, links resolved, of runs of which a process or the keeper lives: each carries its name."""
    return frozenset(os.path.realpath(run) for mark in (RUN_VARIABLE, KEEPER_VARIABLE) for run in marked(mark))


def may_live(run_dir: Path, record: RunRecord, marks: Container[str]) -> bool:
    """Whether a closer look at a run is worth its time; `marks` as `marked_runs` gives them.

    Of a run of another host, whose processes cannot be seen, only its exit status tells.
    """
    if record.host not in (None, socket.gethostname()):
        return not is_file(run_dir / EXIT_FILE)
    if os.path.realpath(run_dir) in marks:
        return True
    if record.boot_id != boot_id():
        return False
    named = [process for process in (record.agent, record.keeper) if process is not None]
    starts = record.agent is None and time.time() - record.started < LAUNCH_GRACE_S
    return starts or any(map(is_alive, named))
