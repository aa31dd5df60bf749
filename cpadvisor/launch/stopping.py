"""Stopping a run so that nothing of it is left: torchrun is asked, its ranks are ended, then both are looked for.

torchrun ends its ranks on SIGTERM and gives them 30 s. Killed with SIGKILL it
cannot, and each rank has a session of its own, so the ranks are found by their
`start` events, by their parents, and by the mark that every process of a run
inherits in its environment. Each is signalled only while its start time says
that it is still the same process.
"""

import json
import os
import signal
import socket
import time
from collections.abc import Callable, Container
from pathlib import Path

from cpadvisor.errors import LaunchError, MissingError, WriteError
from cpadvisor.launch.keeper import KEEPER_VARIABLE, RUN_VARIABLE
from cpadvisor.launch.lock import LOCK_FILE, held_if_possible
from cpadvisor.launch.orphans import Orphan, orphan_at, orphan_view
from cpadvisor.node import Holder
from cpadvisor.processes import ProcessId, carrying, descendants, is_alive, marked, send
from cpadvisor.rundir import EXIT_FILE, STOP_FILE, boot_id, is_file, write_atomically
from cpadvisor.runrecord import RunRecord, read_record
from cpadvisor.units import format_bytes
from cpadvisor.watch.monitor import Monitor
from cpadvisor.watch.ranks import RankEvents
from cpadvisor.watch.state import LAUNCH_GRACE_S
from cpadvisor.watch.view import RunView

GRACE_S = 35.0
"""Above the 30 s that torchrun gives its ranks."""
_ORPHAN_GRACE_S = 5.0
"""For ranks whose torchrun is gone: the trainer stops at once on SIGTERM."""
_KILL_S = 10.0
_GPU_S = 15.0
_EXIT_S = 2.0
_LOOK_S = 0.1


def stop(run_dir: Path, *, grace_s: float = GRACE_S) -> RunView:
    """End a run and give its last view. Idempotent; works when torchrun, or the run directory, is gone already.

    SIGTERM to torchrun, up to `grace_s` for all processes to end, SIGKILL to those that remain. Of two who stop one
    run at once the second waits for the first, and both see the same end. Raises LaunchError naming processes that
    outlive SIGKILL, memory that a GPU still shows for them, or another host's run.
    """
    run_dir = run_dir.absolute()
    orphan = None if _is_readable(run_dir) else orphan_at(run_dir)
    if orphan is not None:
        return _stop_orphan(orphan, grace_s=grace_s)
    record = read_record(run_dir)
    _refuse_other_host(record)
    with held_if_possible(run_dir / LOCK_FILE, wait_s=grace_s + _KILL_S + _GPU_S):
        look = _looks(run_dir, record)
        found = look()
        if found:
            _ask(run_dir)
            _end(record.run, record.agent, found, look, grace_s=grace_s)
            if record.gpus:
                _check_gpus(frozenset(process.pid for process in found))
        _await_exit(record.keeper)
    if not _is_readable(run_dir):  # it vanished in the meantime
        return orphan_view(Orphan(directory=run_dir, processes=frozenset(found)), stopped=True)
    return Monitor(run_dir).poll()


def _is_readable(run_dir: Path) -> bool:
    try:
        read_record(run_dir)
    except LaunchError:
        return False
    return True


def _stop_orphan(orphan: Orphan, *, grace_s: float) -> RunView:
    """The same for a run whose record is gone: its processes carry its name."""

    def look() -> set[ProcessId]:
        known = carrying(RUN_VARIABLE, str(orphan.directory)) | orphan.processes
        return {process for process in known | descendants(known) if is_alive(process)}

    found = look()
    _end(orphan.run, orphan.agent, found, look, grace_s=grace_s)
    _check_gpus(frozenset(process.pid for process in found))
    return orphan_view(orphan, stopped=True)


def abandon(run_dir: Path) -> None:
    """End at once what a start that failed may have left: there is no training to lose and nobody to ask."""
    deadline = time.monotonic() + _KILL_S
    while (living := _kept(run_dir)) and time.monotonic() < deadline:
        for process in living:
            send(process, signal.SIGKILL)
        time.sleep(_LOOK_S)


def _kept(run_dir: Path) -> tuple[ProcessId, ...]:
    """The keeper of a run, which would write down how torchrun ended, then the processes of the run."""
    return (*carrying(KEEPER_VARIABLE, str(run_dir)), *carrying(RUN_VARIABLE, str(run_dir)))


def run_processes(run_dir: Path, record: RunRecord) -> set[ProcessId]:
    """Every living process of a run: torchrun, its ranks, and what they started."""
    return _looks(run_dir, record)()


def _looks(run_dir: Path, record: RunRecord) -> Callable[[], set[ProcessId]]:
    """Gives those processes each time it is called; only the first call reads all events of the ranks."""
    ranks = [RankEvents(run_dir, rank) for rank in range(record.world)] if record.boot_id == boot_id() else []

    def look() -> set[ProcessId]:
        for rank in ranks:
            rank.poll()
        known = {record.agent, *(rank.process for rank in ranks)} if ranks else set()
        living = {process for process in known if process is not None and is_alive(process)}
        living |= carrying(RUN_VARIABLE, str(run_dir))
        return {process for process in living | descendants(living) if process.pid != os.getpid()}

    return look


def marked_runs() -> frozenset[str]:
    """Directories, links resolved, of runs of which a process or the keeper lives: each carries its name."""
    return frozenset(os.path.realpath(run) for mark in (RUN_VARIABLE, KEEPER_VARIABLE) for run in marked(mark))


def may_live(run_dir: Path, record: RunRecord, marks: Container[str]) -> bool:
    """Whether a closer look at a run is worth its time: the events of an old one take seconds to read.

    `marks` as `marked_runs` gives them. Of a run of another host, whose processes cannot be seen, only its exit status
    tells.
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


def _refuse_other_host(record: RunRecord) -> None:
    host = socket.gethostname()
    if record.host is not None and record.host != host:
        raise LaunchError(f"{record.run} runs on host {record.host}, and this is {host}; stop it there")


def _ask(run_dir: Path) -> None:
    """Leave word that the run was stopped on purpose. The first word counts; a full disk must not keep it running."""
    path = run_dir / STOP_FILE
    if not path.exists():
        try:
            write_atomically(path, json.dumps({"t": time.time(), "by": os.getpid()}) + "\n", makes_folder=False)
        except WriteError:
            return


def _await_exit(keeper: ProcessId | None) -> None:
    """Let the exit status be written, so that all who look from now on see the same."""
    deadline = time.monotonic() + _EXIT_S
    while keeper is not None and is_alive(keeper) and time.monotonic() < deadline:
        time.sleep(_LOOK_S / 5)


def _end(
    name: str,
    agent: ProcessId | None,
    found: set[ProcessId],
    look: Callable[[], set[ProcessId]],
    *,
    grace_s: float,
) -> None:
    """SIGTERM, wait, SIGKILL, wait. `found` grows by what `look` turns up on the way."""

    def living() -> set[ProcessId]:
        known = {process for process in found if is_alive(process)}
        found.update(known or look())  # to look at every process takes long; do it when it counts
        return {process for process in found if is_alive(process)}

    agent_lives = agent in found
    for process in {agent} if agent_lives and agent is not None else set(found):
        send(process, signal.SIGTERM)
    for process in set(found):
        send(process, signal.SIGCONT)  # one that was halted could not obey
    _wait_until_none(living, grace_s if agent_lives else min(grace_s, _ORPHAN_GRACE_S))
    deadline = time.monotonic() + _KILL_S
    while remaining := living():
        if time.monotonic() > deadline:
            pids = ", ".join(str(process.pid) for process in sorted(remaining))
            raise LaunchError(
                f"processes {pids} of {name} outlive SIGKILL: they wait inside the kernel, for a disk or a "
                "driver; look at `dmesg`, and run the same command again when that is mended"
            )
        for process in remaining:
            send(process, signal.SIGKILL)
        time.sleep(_LOOK_S)


def _wait_until_none(living: Callable[[], set[ProcessId]], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and living():
        time.sleep(_LOOK_S)


def _check_gpus(pids: frozenset[int]) -> None:
    """Wait until no GPU shows memory of these ended processes; the driver frees it a moment after they are gone."""
    deadline = time.monotonic() + _GPU_S
    while held := [holder for holder in _holders() if holder.pid in pids]:
        if time.monotonic() > deadline:
            rows = "; ".join(f"GPU {holder.gpu}: {format_bytes(holder.used_bytes)}" for holder in held)
            raise LaunchError(
                f"all processes have ended and the driver still holds memory for them ({rows}); "
                "see `nvidia-smi`; a GPU that keeps it needs a reset"
            )
        time.sleep(_LOOK_S)


def _holders() -> tuple[Holder, ...]:
    """Processes on every GPU, also on those that this shell's CUDA_VISIBLE_DEVICES hides."""
    from cpadvisor.probe import nvml, witness  # only runs on GPUs get here

    try:
        return nvml.read_node(environment={}, witness=witness.Witness(None)).holders
    except MissingError:
        return ()
