"""A run, live or ended: why it failed, then what was measured against what its config promised."""

from pathlib import Path

from cpadvisor.doctor.diagnosis import Diagnosis
from cpadvisor.watch.view import RunView


def examine_run(run_dir: Path, *, view: RunView | None = None) -> tuple[Diagnosis, ...]:
    """Every check of a run, worst first. `view` saves a look at the run where the caller has one.

    Raises LaunchError for a directory that is no run.
    """
    raise NotImplementedError


def config_of(run_dir: Path) -> Path:
    """The config that mends of a run change: the file that it was started from, else the run's own copy."""
    raise NotImplementedError
