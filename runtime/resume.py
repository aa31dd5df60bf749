"""From which step a run begins: 0, unless CPADVISOR_RESUME=1 and its run directory holds a whole training state.

Rank 0 looks and all ranks follow, so that no two begin at different steps.
"""

from collections.abc import Mapping

import torch
import torch.distributed as dist

from runtime import state_folders, training_state
from runtime.errors import ConfigError
from runtime.reporter import Reporter
from runtime.trainer import Trainer

VARIABLE = "CPADVISOR_RESUME"
_NONE = -1


def is_asked(environ: Mapping[str, str]) -> bool:
    """Whether the environment asks to go on. Raises ConfigError for a value that says neither."""
    value = environ.get(VARIABLE, "")
    if value not in ("", "0", "1"):
        raise ConfigError(VARIABLE, [f"{value!r} is neither 0 nor 1; use 1 to go on from the newest training state"])
    return value == "1"


def begin(trainer: Trainer, reporter: Reporter, *, resumes: bool) -> int | None:
    """The finished steps of the state that was loaded; None for a run from the start. Every rank calls it."""
    run_dir, mesh = trainer.config.run_dir, trainer.mesh
    if not resumes:
        if mesh.rank == 0:
            _set_aside(trainer, reporter)
        return None
    step = torch.tensor(_find(trainer, reporter) if mesh.rank == 0 else _NONE, device=mesh.device)
    dist.broadcast(step, src=0)
    found = int(step)
    if found == _NONE:
        return None
    training_state.load(state_folders.final(run_dir, found), model=trainer.model, optimizer=trainer.optimizer)
    return found


def _find(trainer: Trainer, reporter: Reporter) -> int:
    run_dir = trainer.config.run_dir
    step, passed_over = state_folders.newest_whole(run_dir)
    for reason in passed_over:
        reporter.warn("torn_checkpoint", reason)
    if step is None:
        reporter.warn(
            "no_checkpoint", f"{run_dir / state_folders.FOLDER} holds no whole training state: the run begins at step 0"
        )
        return _NONE
    return step


def _set_aside(trainer: Trainer, reporter: Reporter) -> None:
    """A fresh run loads no state of an earlier one, and leaves none where its own resumption would find it."""
    place = state_folders.set_aside(trainer.config.run_dir)
    if place is not None:
        reporter.warn("set_aside", f"training states of an earlier run were here: they lie in {place} now")
