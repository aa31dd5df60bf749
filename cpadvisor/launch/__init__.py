"""A config becomes a run: start, wait for, and stop torchrun and its ranks."""

from cpadvisor.launch.interpreter import find_python
from cpadvisor.launch.start import start
from cpadvisor.launch.stop import stop
from cpadvisor.launch.wait import wait

__all__ = ["find_python", "start", "stop", "wait"]
