"""Why a run ended or hangs, in one screenful: what went wrong first, what proves it, what mends it, what to type."""

from cpadvisor.report.table import cell_width
from cpadvisor.report.wrap import wrap
from cpadvisor.watch.failure import Failure
from cpadvisor.watch.view import RunView, state_label

COLUMNS = 79
MOST_LINES = 22
"""With a shell's prompt above and below it fills a terminal of 24 lines."""
_HEADLINE_LINES = 3
_EVIDENCE_LINES = 10
_MEND_LINES = 3
_COMMAND_LINES = 4
_CONTINUED = "\\"


def failure_text(view: RunView) -> str:
    """The failure of a run in at most 22 lines of 79 columns; empty where it has none."""
    failure = view.failure
    if failure is None:
        return ""
    parts = [_headline(view, failure), _evidence(failure), _mend(failure)]
    return "\n\n".join("\n".join(lines) for lines in parts if lines)


def _headline(view: RunView, failure: Failure) -> list[str]:
    return _cut(wrap(f"{state_label(view.state)}: {failure.headline}", COLUMNS), _HEADLINE_LINES)


def _evidence(failure: Failure) -> list[str]:
    return [_shortened(f"  {line}") for line in failure.evidence[-_EVIDENCE_LINES:]]


def _mend(failure: Failure) -> list[str]:
    lines = _cut(wrap(failure.mend, COLUMNS), _MEND_LINES) if failure.mend else []
    return lines + (_command_lines(failure.command) if failure.command else [])


def _command_lines(command: str) -> list[str]:
    """The command as it can be copied: a line that goes on ends in a backslash, and the shell joins it to the next."""
    text = f"  {command}"
    lines: list[str] = []
    while cell_width(text) > COLUMNS and len(lines) < _COMMAND_LINES - 1:
        cut = COLUMNS - 1
        while cell_width(text[:cut]) > COLUMNS - 1:
            cut -= 1
        at_blank = text.rfind(" ", 3, cut) + 1
        cut = at_blank or cut
        lines.append(text[:cut] + _CONTINUED)
        text = text[cut:]
    return [*lines, text]


def _cut(lines: list[str], most: int) -> list[str]:
    return lines if len(lines) <= most else [*lines[: most - 1], _shortened(lines[most - 1] + "…")]


def _shortened(line: str) -> str:
    if cell_width(line) <= COLUMNS:
        return line
    while cell_width(line) >= COLUMNS:
        line = line[:-1]
    return f"{line}…"
