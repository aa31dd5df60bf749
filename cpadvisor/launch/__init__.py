"""A config becomes a run: start, resume, wait for, and stop torchrun and its ranks."""

from cpadvisor.launch.interpreter import find_python
from cpadvisor.launch.resuming import resume
from cpadvisor.launch.starting import start
from cpadvisor.launch.stopping import stop
from cpadvisor.launch.waiting import wait

__all__ = ["find_python", "resume", "start", "stop", "wait"]
