"""What the terminal needs beside textual 8.2.8: an end on signals, job control, a lenient decoder, a refusal."""

import asyncio
import codecs
import contextlib
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from cpadvisor.errors import MissingError
from cpadvisor.processes import read_stat

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


_POOR_FONTS = ("linux", "vt100", "vt102", "vt220", "vt320", "ansi")
"""Terminals whose font has few or no line-drawing, braille and block characters."""


_TRUECOLOUR = ("alacritty", "contour", "foot", "ghostty", "kitty", "rio", "wezterm", "xterm-ghostty", "xterm-kitty")
"""Terminals of 24-bit colours, by their documentation, that say so only in COLORTERM, which ssh leaves behind."""


def know_more_terminals(environ: Mapping[str, str]) -> None:
    """Have textual give 24-bit colours to terminals that rich takes for ones of sixteen."""
    from textual import constants

    term = environ.get("TERM", "")
    if constants.COLOR_SYSTEM == "auto" and any(term == name or term.startswith(f"{name}-") for name in _TRUECOLOUR):
        setattr(constants, "COLOR_SYSTEM", "truecolor")  # noqa: B010 - declared final; the app reads it when it is made


def first_environ() -> Mapping[str, str]:
    """The environment as the process got it: where the locale is C, Python sets LC_CTYPE for itself (PEP 538)."""
    try:
        entries = Path("/proc/self/environ").read_bytes().split(b"\0")
    except OSError:
        return os.environ
    return {os.fsdecode(name): os.fsdecode(value) for name, _, value in (entry.partition(b"=") for entry in entries)}


def is_utf8(environ: Mapping[str, str]) -> bool:
    """Whether the locale says that the terminal takes UTF-8; a locale that is not set says nothing against it."""
    named = next((value for name in ("LC_ALL", "LC_CTYPE", "LANG") if (value := environ.get(name))), "UTF-8")
    return "utf8" in named.lower().replace("-", "")


def wants_ascii(environ: Mapping[str, str]) -> bool:
    """Whether lines, dots and blocks are better drawn in ASCII."""
    return environ.get("TERM", "").partition("-")[0] in _POOR_FONTS or not is_utf8(environ)


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


def follow_job_control(*, stop: Callable[[], None], go_on: Callable[[], None]) -> None:
    """Call `stop` where the app is asked to stop, and `go_on` once it runs again.

    Textual's own handlers start a second set of threads where the app was
    stopped by SIGSTOP, and leave the line raw at the end.
    """
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTSTP, stop)
    loop.add_signal_handler(signal.SIGCONT, go_on)


def has_shell() -> bool:
    """Whether a shell waits that could bring the app back: an ancestor of this session in another process group."""
    group, session = os.getpgrp(), os.getsid(0)
    above = os.getppid()
    try:
        while above and os.getsid(above) == session:
            if os.getpgid(above) != group:
                return True
            stat = read_stat(above)
            above = 0 if stat is None else stat.parent
    except OSError:
        return False
    return False


def stop_group(terminal: int) -> None:
    """Stop the whole process group, as the terminal's own key would, and return once it runs in the foreground.

    The whole group, because a shell waits for all of a job: of `make run` it would otherwise go on to wait for make.
    """
    with lent():
        os.killpg(os.getpgrp(), signal.SIGTSTP)
        while _in_background(terminal):  # continued there by `bg`: it can neither draw nor read
            os.kill(os.getpid(), signal.SIGSTOP)


@contextlib.contextmanager
def lent() -> Iterator[None]:
    """Leave the terminal's keys to another program: they stop the app with it, and interrupt it alone."""
    # A handler, not SIG_IGN, which the other program would inherit.
    dispositions = {signal.SIGTSTP: signal.SIG_DFL, signal.SIGCONT: signal.SIG_DFL, signal.SIGINT: _ignore}
    before = {number: signal.signal(number, disposition) for number, disposition in dispositions.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _ignore(_number: int, _frame: object) -> None:
    pass


def _in_background(terminal: int) -> bool:
    try:
        return os.tcgetpgrp(terminal) != os.getpgrp()
    except OSError:  # the terminal has gone, and SIGHUP will tell
        return False
