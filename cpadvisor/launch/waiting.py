"""Waiting for a run in the foreground: look, show, look again; Ctrl-C stops it."""

import time
from collections.abc import Callable
from pathlib import Path

from cpadvisor.errors import LaunchError
from cpadvisor.launch.orphans import OrphanMonitor, orphan_at
from cpadvisor.launch.stopping import GRACE_S, stop
from cpadvisor.watch.lost import VanishedError
from cpadvisor.watch.monitor import Monitor
from cpadvisor.watch.view import RunView

POLL_S = 0.5


def wait(
    run_dir: Path,
    on_view: Callable[[RunView], None] | None = None,
    *,
    stop_on_interrupt: bool = True,
    poll_s: float = POLL_S,
    grace_s: float = GRACE_S,
) -> RunView:
    """Follow a run to its end and give the last view; `on_view` gets every one.

    The first Ctrl-C stops the run as `stop` does, a second one without grace; the view then says `stopped`, which
    `watch.report.exit_status` turns into 130. Without `stop_on_interrupt` Ctrl-C ends the wait and leaves the run.
    """
    try:
        return _follow(run_dir, on_view, poll_s)
    except KeyboardInterrupt:
        if not stop_on_interrupt:
            return look(open_monitor(run_dir))
    try:
        view = stop(run_dir, grace_s=grace_s)
    except KeyboardInterrupt:
        view = stop(run_dir, grace_s=0)
    if on_view is not None:
        on_view(view)
    return view


def open_monitor(run_dir: Path) -> Monitor | OrphanMonitor:
    """What looks at a run, also at one whose record is gone. Raises LaunchError where neither record nor process is."""
    try:
        return Monitor(run_dir)
    except LaunchError:
        orphan = orphan_at(run_dir)
        if orphan is None:
            raise
        return OrphanMonitor(orphan)


def look(monitor: Monitor | OrphanMonitor) -> RunView:
    """The run as it is now; where its directory vanished under the monitor, the last that was known of it."""
    try:
        return monitor.poll()
    except VanishedError as gone:
        return gone.view


def _follow(run_dir: Path, on_view: Callable[[RunView], None] | None, poll_s: float) -> RunView:
    monitor = open_monitor(run_dir)
    while True:
        view = look(monitor)
        if on_view is not None:
            on_view(view)
        if view.is_final:
            return view
        time.sleep(poll_s)
