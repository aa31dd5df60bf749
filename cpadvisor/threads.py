"""Threads that only look, which are left behind when the program ends.

The pools of the standard library, asyncio's own among them, are joined at the end,
so that one look that a driver keeps waiting, as NVML's may, would keep the shell's
prompt waiting too.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Thread
from typing import Any


class LooseThreads(ThreadPoolExecutor):
    """A thread a task, which the end of the program does not wait for."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Start the task at once."""
        future: Future[Any] = Future()
        Thread(target=_run, args=(future, fn, args, kwargs), name="cpadvisor-look", daemon=True).start()
        return future


def _run(future: Future[Any], fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(fn(*args, **kwargs))
    except BaseException as error:
        future.set_exception(error)
