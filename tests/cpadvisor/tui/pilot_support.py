"""Waiting for a screen: keys are pressed, then frames are read until they hold what is wanted."""

import asyncio
import time

from textual.pilot import Pilot
from tui_support import frame

SIZES = [(80, 24), (160, 45)]
PATIENCE_S = 90.0
"""A busy machine draws late; a test fails after so long, and passes as soon as the frame is there."""


async def seen(pilot: Pilot[int], *wanted: str, absent: tuple[str, ...] = ()) -> str:
    """The frame, once all of `wanted` are in it and none of `absent`."""
    text, deadline = "", time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        await pilot.pause()
        text = frame(pilot.app)  # pyright: ignore[reportArgumentType]
        if all(each in text for each in wanted) and not any(each in text for each in absent):
            return text
        await asyncio.sleep(0.05)
    missing = [each for each in wanted if each not in text]
    raise AssertionError(f"missing {missing}, or still there {[each for each in absent if each in text]}\n{text}")


async def press(pilot: Pilot[int], *keys: str) -> None:
    """Keys one after the other, each drawn before the next."""
    for key in keys:
        await pilot.press(key)
        await pilot.pause()


def row_of(text: str, word: str) -> str:
    """The first row of a frame that holds a word."""
    return next(row for row in text.splitlines() if word in row)
