"""The machine and the interpreter that trains: every check of the node and its environment."""

import os
from collections.abc import Mapping
from pathlib import Path

from cpadvisor.doctor.diagnosis import Diagnosis, sort_diagnoses
from cpadvisor.doctor.driver_checks import driver_checks
from cpadvisor.doctor.facts import MachineFacts
from cpadvisor.doctor.gathering import gather_machine
from cpadvisor.doctor.holder_checks import holder_checks
from cpadvisor.doctor.host_checks import host_checks
from cpadvisor.doctor.library_checks import library_checks
from cpadvisor.doctor.link_checks import link_checks
from cpadvisor.doctor.variable_checks import variable_checks


def examine_node(
    *, python: str | None = None, runs: Path | None = None, environ: Mapping[str, str] = os.environ
) -> tuple[Diagnosis, ...]:
    """Every check of this machine, worst first. Takes seconds: whatever may hang is asked in a child with a time-out.

    `python` is the interpreter that trains (left out, the one that `launch` would take), `runs` the folder of runs.
    """
    return judge_machine(gather_machine(python=python, runs=runs, environ=environ))


def judge_machine(facts: MachineFacts) -> tuple[Diagnosis, ...]:
    """What follows from what was seen of a machine, worst first."""
    return sort_diagnoses(
        [
            *driver_checks(facts),
            *link_checks(facts),
            *holder_checks(facts),
            *host_checks(facts),
            *library_checks(facts),
            *variable_checks(facts.environ, files=facts.host.nccl_files, gpus=facts.has_gpus),
        ]
    )
