"""Waiting for a screen: keys are pressed, then frames are read until they hold what is wanted."""

import asyncio
import time
from collections.abc import Callable, Iterator

from textual.pilot import Pilot
from tui_support import frame

from cpadvisor.tui.app import CpadvisorApp

SIZES = [(80, 24), (160, 45)]
PATIENCE_S = 90.0
"""A busy machine draws late; a test fails after so long, and passes as soon as the frame is there."""


def patiently() -> Iterator[None]:
    """Turns of a loop that waits, until the patience of a test is at its end."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        yield


async def until(true: Callable[[], bool], app: CpadvisorApp | None = None) -> None:
    """Wait for what a stage or a thread of the app brings about; a failure shows the screen of `app`."""
    for _ in patiently():
        if true():
            return
        await asyncio.sleep(0.02)
    told = "" if app is None else f"; busy {app.session.busy}, problems {app.session.problems}\n{frame(app)}"
    raise AssertionError(f"waited in vain{told}")


async def settled(pilot: Pilot[int]) -> None:
    """Wait for the stages from the machine to the draft, or to what stands in the way."""
    app = app_of(pilot)
    await until(lambda: app.session.busy is None and bool(app.session.draft or app.session.problems), app)
    await pilot.pause()


async def seen(pilot: Pilot[int], *wanted: str, absent: tuple[str, ...] = ()) -> str:
    """The frame, once all of `wanted` are in it and none of `absent`."""
    text = ""
    for _ in patiently():
        await pilot.pause()
        text = frame(app_of(pilot))
        if all(each in text for each in wanted) and not any(each in text for each in absent):
            return text
        await asyncio.sleep(0.05)
    missing = [each for each in wanted if each not in text]
    raise AssertionError(f"missing {missing}, or still there {[each for each in absent if each in text]}\n{text}")


def app_of(pilot: Pilot[int]) -> CpadvisorApp:
    """The app that a pilot drives."""
    assert isinstance(pilot.app, CpadvisorApp)
    return pilot.app


async def press(pilot: Pilot[int], *keys: str) -> None:
    """Keys one after the other, each drawn before the next."""
    for key in keys:
        await pilot.press(key)
        await pilot.pause()


def row_of(text: str, word: str) -> str:
    """The first row of a frame that holds a word."""
    return next(row for row in text.splitlines() if word in row)
