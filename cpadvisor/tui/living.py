"""The life of the app in its terminal: guard, screen, the app itself, and what is told when it has ended."""

import contextlib
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, cast

from cpadvisor.errors import EXIT_FAILED, WriteError
from cpadvisor.rundir import command_name, state_root, write_atomically
from cpadvisor.tui import guard, headless
from cpadvisor.tui.driver import Aside, TerminalDriver
from cpadvisor.tui.guard import Guard
from cpadvisor.tui.house import House
from cpadvisor.tui.messages import Failed
from cpadvisor.tui.remembered import remember
from cpadvisor.tui.terminal import accept_any_bytes

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def live(app: House, watch: Guard | None = None) -> int:
    """Run the app on this terminal, leave it whole, and give the exit status; without a guard it forks one."""
    aside = Aside()
    mine = guard.start(1 if os.isatty(1) else 2) if watch is None else Guard()
    try:
        accept_any_bytes()
        with aside.taking() as output:
            app.driver_class = cast(Any, partial(TerminalDriver, guard=watch or mine, output=output))
            app.run(mouse=app.settings.mouse)
    finally:
        mine.end()
    _remember(app)
    _wait(app)
    for line in chain(_came_late(app), _last_words(app, aside.text)):
        _tell(line)
    return app.return_code or 0


def _tell(line: str) -> None:
    """A line for the shell's side of the terminal; where the terminal has gone there is nobody to read it."""
    with contextlib.suppress(OSError):
        print(line, file=sys.stderr, flush=True)


def _remember(app: House) -> None:
    """Keep theme and screen for the next time; what cannot be kept is no loss."""
    if app.home.state is not None:
        with contextlib.suppress(WriteError):
            remember(app.home.state, replace(app.home.remembered, screen=app.current_mode))


def crash_path() -> Path:
    """Where the report of an error of the app's own is kept."""
    return state_root() / "crash.txt"


def _wait(app: House) -> None:
    """Let what changes something come to its end: half a stop would leave processes behind."""
    alive = [thread for thread in app.changing if thread.is_alive()]
    if alive:
        _tell("waiting for what was begun to end")
    for thread in alive:
        thread.join()


def _came_late(app: House) -> Iterator[str]:
    """What failed of that."""
    for message in app.late:
        if isinstance(message, Failed):
            yield f"{message.stage}: {message.reason}"


def _last_words(app: House, aside: str) -> Iterator[str]:
    if app.return_code == EXIT_FAILED and aside:
        yield _report_crash(aside)
    elif aside:
        yield aside.rstrip("\n")
    yield from _what_goes_on(app)


def _report_crash(report: str) -> str:
    """Keep the report in a file, or tell all of it where none can be written."""
    path = crash_path()
    try:
        write_atomically(path, _COLOURS.sub("", report))
        path.chmod(0o600)
    except (WriteError, OSError):
        return report
    return f"cpadvisor met an error of its own and ended; please report it with {path}"


def _what_goes_on(app: House) -> Iterator[str]:
    directory = app.session.run_dir if app.session.is_running else None
    started = [message.part for message in app.late if not isinstance(message, Failed)]
    for path in (directory, *started):
        if isinstance(path, Path):
            follow, end = (headless.command(word, command_name(path)) for word in ("attach", "stop"))
            yield f"run {path.name} goes on; `{follow}` follows it, `{end}` ends it"
