"""What the terminal needs that textual 8.2.8 leaves out: an end on signals, a lenient decoder, a refusal."""

import asyncio
import codecs
import signal
from collections.abc import Callable, Mapping

from cpadvisor.errors import MissingError

SMALLEST = (60, 16)
"""Columns and rows below which only a notice is shown."""


def require_screen(environ: Mapping[str, str]) -> None:
    """Refuse a terminal that cannot move its cursor. Raises MissingError naming the headless commands."""
    term = environ.get("TERM", "")
    if term in ("", "dumb"):
        raise MissingError(
            f"TERM={term or '(unset)'} is a terminal that cannot show screens; use `cpadvisor inspect`, "
            "`cpadvisor plan` and `cpadvisor launch`, or set for example TERM=xterm-256color"
        )


def accept_any_bytes() -> None:
    """Let the input decoder replace bytes that are no UTF-8.

    Terminals without SGR mouse mode report columns above 95 as bytes from 0x80
    up, which tmux passes on after a reattach; the strict decoder ends the app
    on them (Textualize/textual issue 6668).
    """
    from textual.drivers import linux_driver

    def lenient(encoding: str) -> Callable[[], codecs.IncrementalDecoder]:
        return lambda: codecs.getincrementaldecoder(encoding)(errors="replace")

    setattr(linux_driver, "getincrementaldecoder", lenient)  # noqa: B010 - the module's name is typed as a function


def end_on_signals(end: Callable[[int], None]) -> None:
    """Call `end` with 128 + the signal on SIGTERM and SIGHUP, so that the terminal is restored on the way out."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, end, 128 + number)
