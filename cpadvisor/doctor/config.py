"""A config: what `check` finds, and the card's rows D1 to D5 and L1 to L4 worked out for this file and machine."""

import os
from collections.abc import Mapping
from pathlib import Path

from cpadvisor.doctor.diagnosis import Diagnosis
from cpadvisor.node import Node


def examine_config(
    path: Path, *, node: Node | None = None, environ: Mapping[str, str] = os.environ
) -> tuple[Diagnosis, ...]:
    """Every check of a config, worst first. `node` is the machine that it is meant for; None is this one.

    Raises ConfigError for a file that cannot be read.
    """
    raise NotImplementedError
