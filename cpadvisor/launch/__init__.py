"""A config becomes a run: start, resume, wait for, stop and delete torchrun and its ranks."""

from cpadvisor.launch.interpreter import find_python
from cpadvisor.launch.orphans import find_orphan, find_orphans, orphan_view
from cpadvisor.launch.removing import remove, require_removable
from cpadvisor.launch.resuming import resume
from cpadvisor.launch.starting import start
from cpadvisor.launch.stopping import stop
from cpadvisor.launch.waiting import open_monitor, wait

__all__ = [
    "find_orphan",
    "find_orphans",
    "find_python",
    "open_monitor",
    "orphan_view",
    "remove",
    "require_removable",
    "resume",
    "start",
    "stop",
    "wait",
]
