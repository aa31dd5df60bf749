"""Weights, optimizer and step of all ranks on disk, through torch.distributed.checkpoint: each rank its own shards.

The order of data and the learning rate follow from the step and the config, and
nothing else in training is random, so a run that loads a state goes on bit for
bit as if it had never stopped.
"""

from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.checkpoint import state_dict_loader, state_dict_saver
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemWriter
from torch.distributed.checkpoint.planner import SavePlan, SavePlanner
from torch.distributed.checkpoint.storage import WriteResult
from torch.futures import Future

from runtime import disk, optim, state_folders
from runtime.errors import TrainerError
from runtime.state_index import SafeReader

BLOCK_BYTES = 2**20
"""Written to hear why a write failed."""


def tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Every parameter by its name, and what the optimizer keeps for it by name and kind; the same memory, no copies."""
    state: dict[str, Tensor] = {}
    for name, parameter in model.named_parameters():
        state[f"model.{name}"] = parameter.detach()
        for kind, value in optimizer.state[parameter].items():
            state[f"optimizer.{name}.{kind}"] = value
    return state


def save(
    run_dir: Path, step: int, *, model: nn.Module, optimizer: torch.optim.Optimizer, keep: int, rank: int
) -> tuple[Path, int]:
    """Write the state after a step and keep the last `keep`; its folder and bytes. Every rank calls it.

    Raises TrainerError: on every rank alike where one cannot write its part, and then nothing of this state stays;
    on rank 0 alone where it cannot make or rename the folder, and torchrun then ends the others.
    """
    if rank == 0:
        _in_words(state_folders.begin, run_dir, step)
    dist.barrier()
    _write(run_dir, step, tensors(model, optimizer), rank)
    if rank == 0:
        _in_words(state_folders.finish, run_dir, step)
    dist.barrier()
    if rank == 0:
        state_folders.keep_last(run_dir, keep)
    final = state_folders.final(run_dir, step)
    return final, state_folders.size_bytes(final)


def load(folder: Path, *, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Put a whole state in place of the weights and the optimizer's moments. Every rank calls it; any layout may.

    Raises TrainerError where the state cannot be read or is of another model.
    """
    optim.allocate_state(optimizer)
    try:
        state_dict_loader.load(tensors(model, optimizer), storage_reader=SafeReader(folder))
    except CheckpointException as error:
        rank, (cause, _) = min(error.failures.items())
        raise TrainerError(
            f"cannot load {folder} on rank {rank}: {cause}; remove it to go on from the state before it"
        ) from None


class _Writer(FileSystemWriter):
    """torch's writer, which makes no folder, and which keeps the system's reason when a write fails."""

    def prepare_local_plan(self, plan: SavePlan) -> SavePlan:
        """The plan as it is: the folder is there, and were it gone, making it would make the run directory again."""
        return plan

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> Future[list[WriteResult]]:
        """This rank's files."""
        try:
            return super().write_data(plan, planner)
        except RuntimeError:
            # torch's zip writer tells only at which byte it stopped; who asks the disk again hears why.
            (Path(self.path) / "asked").write_bytes(bytes(BLOCK_BYTES))
            raise


def _write(run_dir: Path, step: int, state: dict[str, Tensor], rank: int) -> None:
    folder = state_folders.partial(run_dir, step)
    try:
        state_dict_saver.save(state, storage_writer=_Writer(folder))
    except CheckpointException as error:
        failure = _failure(error, folder, run_dir)
        dist.barrier()  # every rank has looked how much space is left
        if rank == 0:
            state_folders.give_up(run_dir, step)
        raise failure from None


def _failure(error: CheckpointException, folder: Path, run_dir: Path) -> TrainerError:
    """A full disk where any rank found one, else what the first rank found."""
    causes = [cause for _, (cause, _) in sorted(error.failures.items())]
    cause = next(filter(disk.is_full, causes), causes[0])
    return _told(cause, folder, run_dir)


def _told(cause: BaseException, folder: Path, run_dir: Path) -> TrainerError:
    if not run_dir.is_dir():
        return disk.vanished(run_dir)
    if isinstance(cause, OSError):
        return disk.failure(cause, folder)
    return TrainerError(f"cannot write {folder}: {cause}")


def _in_words(act: Callable[[Path, int], None], run_dir: Path, step: int) -> None:
    try:
        act(run_dir, step)
    except OSError as error:
        raise _told(error, state_folders.partial(run_dir, step), run_dir) from error
