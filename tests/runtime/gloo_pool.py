"""Four warm gloo processes on which tests run module-level functions as ranks.

Importing torch costs seconds, so the processes live as long as the test session. Each
job gets a process group of its own; a job that fails or hangs takes the pool with it,
and the next job starts a fresh one.
"""

import importlib.util
import multiprocessing
import os
import pickle
import socket
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from datetime import timedelta
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import torch.distributed as dist

SIZE = 4
PRELOAD = ["torch", "torch.distributed.fsdp", "torch.distributed.tensor", "torch.distributed.checkpoint", "safetensors"]


class RankError(AssertionError):
    """A rank raised, died or did not answer in time; the message holds what it said."""


class GlooPool:
    """Runs functions on the first `world` of four processes."""

    def __init__(self) -> None:
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(PRELOAD)
        self._workers: list[tuple[Any, Connection]] = []

    def run(self, world: int, fn: Callable[..., Any], *args: Any, timeout_s: float = 120.0) -> list[Any]:
        """Call `fn(rank, world, *args)` on each rank inside a default process group; the results in rank order.

        `fn` stands at the top level of a test file. Arguments and results travel as pickles.
        """
        assert 1 <= world <= SIZE, f"the pool has {SIZE} ranks, asked for {world}"
        self._start()
        with tempfile.TemporaryDirectory() as folder:
            job = pickle.dumps((fn.__code__.co_filename, fn.__qualname__, world, f"{folder}/store", args))
            for _, connection in self._workers[:world]:
                connection.send_bytes(job)
            try:
                return self._collect(world, timeout_s)
            except BaseException:
                self.close()
                raise

    def close(self) -> None:
        """End the processes; a later `run` starts new ones."""
        for process, connection in self._workers:
            process.kill()
            process.join()
            connection.close()
        self._workers = []

    def _start(self) -> None:
        if self._workers:
            return
        for rank in range(SIZE):
            here, there = self._context.Pipe()
            process = self._context.Process(target=serve, args=(rank, there), daemon=True)
            process.start()
            there.close()
            self._workers.append((process, here))

    def _collect(self, world: int, timeout_s: float) -> list[Any]:
        waiting = {connection: rank for rank, (_, connection) in enumerate(self._workers[:world])}
        results: list[Any] = [None] * world
        deadline = time.monotonic() + timeout_s
        while waiting:
            ready = wait(list(waiting), timeout=max(deadline - time.monotonic(), 0.0))
            if not ready:
                raise RankError(f"ranks {sorted(waiting.values())} did not answer within {timeout_s:.0f} s")
            failures: list[str] = []
            for connection in ready:
                assert isinstance(connection, Connection)
                rank = waiting.pop(connection)
                done, results[rank] = _receive(connection)
                if not done:
                    failures.append(f"rank {rank} {results[rank]}")
            if failures:
                raise RankError("\n".join(failures))
        return results


def _receive(connection: Connection) -> tuple[bool, Any]:
    try:
        return pickle.loads(connection.recv_bytes())
    except EOFError:
        return False, "died"


def serve(rank: int, connection: Connection) -> None:
    """The life of one process: a job, its answer, the next job."""
    torch.set_num_threads(1)
    if "lo" in {name for _, name in socket.if_nameindex()}:
        os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    while True:
        try:
            job = connection.recv_bytes()
        except EOFError:
            return
        connection.send_bytes(pickle.dumps(_answer(rank, job)))


def _answer(rank: int, job: bytes) -> tuple[bool, Any]:
    try:
        file, qualname, world, store, args = pickle.loads(job)
        fn = getattr(_load(Path(file)), qualname)
        dist.init_process_group(
            "gloo", init_method=f"file://{store}", rank=rank, world_size=world, timeout=timedelta(seconds=100)
        )
        result = fn(rank, world, *args)
        dist.destroy_process_group()
        return True, result
    except BaseException:
        # The group stays up until this answer is sent: the others fail by its end, and their errors come second.
        return False, f"raised\n{traceback.format_exc()}"


def _load(path: Path) -> ModuleType:
    # A test file has no importable name under --import-mode=importlib: it is loaded by its path, once a process.
    name = f"gloo_pool_job_{path.stem}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None and spec.loader is not None, f"{path} is no Python file"
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name]
