"""One process a GPU, started here or by torchrun: they meet, work, and none outlives the command or hangs unnamed."""

import multiprocessing
import os
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import TCPStore
from torch.multiprocessing.spawn import ProcessException, spawn

from runtime.errors import TrainerError

TIMEOUT = timedelta(minutes=3)
"""After so long a rank that waits for a lost one ends with an error."""
CPU_RANKS = 2
DEFAULTS = {
    # As `cpadvisor launch` starts a training, so that both show the same speed.
    "NCCL_NVLS_ENABLE": "0",
    "PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True",
    "GLOO_SOCKET_IFNAME": "lo",
}
"""Of the ranks that are started here, where the user has set nothing."""
NEWER_NAME = {"PYTORCH_CUDA_ALLOC_CONF": "PYTORCH_ALLOC_CONF"}

T = TypeVar("T")


class RankError(TrainerError):
    """A rank failed or was killed; the message says which one and of what."""

    alike = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranks:
    """This process among those that measure together."""

    rank: int
    size: int
    device: torch.device
    group: dist.ProcessGroup
    """Over which attention exchanges, as a training's cp group."""
    control: dist.ProcessGroup
    """Of the hosts alone, for what the ranks tell each other between measurements."""

    def gather(self, value: T) -> list[T]:
        """The value of every rank, in rank order; nobody goes on before all are here."""
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value, group=self.control)
        return values


def is_under_torchrun() -> bool:
    """Whether somebody else started the ranks and this process is one of them."""
    return {"RANK", "WORLD_SIZE", "MASTER_ADDR"} <= os.environ.keys()


def rank_count() -> int:
    """How many ranks measure: torchrun's, else one a visible GPU, else two on the CPU."""
    if is_under_torchrun():
        return int(os.environ["WORLD_SIZE"])
    return torch.cuda.device_count() or CPU_RANKS


def run(work: Callable[..., None], *arguments: Any) -> None:
    """Call `work(ranks, *arguments)` on every rank; `work` stands at the top level of a module.

    Raises RankError where a rank that was started here fails; the others are ended first.
    """
    if is_under_torchrun():
        _work(int(os.environ["RANK"]), int(os.environ.get("LOCAL_RANK", "0")), {}, work, arguments)
    else:
        _start(work, arguments)


def _start(work: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    for name, value in DEFAULTS.items():
        if NEWER_NAME.get(name, name) not in os.environ:
            os.environ.setdefault(name, value)
    size = rank_count()
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    started = spawn(_as_child, args=(size, store.port, work, arguments), nprocs=size, join=False)
    assert started is not None, "a spawn that is not joined gives its processes"
    try:
        while not started.join():
            pass
    except ProcessException as error:
        print(str(error).strip(), file=sys.stderr)
        raise RankError(f"rank {error.error_index} failed: {_last_line(error)}") from None
    finally:
        for process in started.processes:
            assert process is not None, "every process was started"
            process.kill()


def _last_line(error: ProcessException) -> str:
    """The error itself, below its traceback: `RuntimeError: …`, or `process 1 terminated with signal SIGKILL`."""
    return str(error).strip().splitlines()[-1]


def _as_child(rank: int, size: int, port: int, work: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    _end_with_parent()
    store = TCPStore("127.0.0.1", port, is_master=False, timeout=TIMEOUT)
    _work(rank, rank, {"store": store, "rank": rank, "world_size": size}, work, arguments)


def _end_with_parent() -> None:
    """Leave at once when the command that started this rank is gone, even while it waits for a GPU."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "a spawned rank has a parent"

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _work(
    rank: int, local_rank: int, meeting: dict[str, Any], work: Callable[..., None], arguments: tuple[Any, ...]
) -> None:
    device = _device(local_rank)
    options: dict[str, Any] = {"device_id": device} if device.type == "cuda" else {}
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=TIMEOUT, **options, **meeting)
    size = dist.get_world_size()
    group = dist.new_group(list(range(size)), group_desc="cp")
    control = dist.new_group(list(range(size)), backend="gloo", timeout=TIMEOUT, group_desc="control")
    assert isinstance(group, dist.ProcessGroup) and isinstance(control, dist.ProcessGroup), f"rank {rank} is in both"
    work(Ranks(rank=rank, size=size, device=device, group=group, control=control), *arguments)
    dist.destroy_process_group()


def _device(local_rank: int) -> torch.device:
    if not torch.cuda.is_available():
        torch.set_num_threads(1)  # ranks that share cores would measure each other
        return torch.device("cpu")
    device = torch.device("cuda", local_rank)
    torch.cuda.set_device(device)
    return device
