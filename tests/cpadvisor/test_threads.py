import asyncio
from threading import Event, current_thread

import pytest

from cpadvisor.threads import LooseThreads


def test_a_task_gives_its_result_or_its_error() -> None:
    threads = LooseThreads()
    assert threads.submit(divmod, 7, 2).result(timeout=5) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        threads.submit(divmod, 7, 0).result(timeout=5)


def test_the_end_of_the_loop_does_not_wait_for_a_task() -> None:
    release, ended = Event(), Event()

    def task() -> None:
        release.wait(30)
        ended.set()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(LooseThreads())
        loop.run_in_executor(None, task)
        await asyncio.sleep(0)

    asyncio.run(main())
    assert not ended.is_set()
    release.set()
    assert ended.wait(5)


def test_a_thread_does_not_keep_the_program_alive() -> None:
    assert LooseThreads().submit(lambda: current_thread().daemon).result(timeout=5)
