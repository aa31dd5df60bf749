"""Prose cut into lines by the width that a terminal gives each character; Chinese breaks between any two."""

import re
from collections.abc import Iterator

from cpadvisor.report.table import cell_width

_STAYS_BEHIND = "，。；：、！？）」』》〉】…％～"
"""Marks that no line may begin with: they stay with the character before them (GB/T 15834)."""
_STAYS_BEFORE = "（「『《〈【"
"""Marks that no line may end with."""

_PIECE = re.compile(r"\s+|[^\s\u2e80-\u9fff\uff00-\uffef]+(?: %)?|[\u2e80-\u9fff\uff00-\uffef]")
"""Blanks, a word of another script, a figure with its percent sign, or one Chinese character."""


def wrap(text: str, width: int) -> list[str]:
    """Lines of at most `width` cells; a word that is wider than a line is cut.

    `one two three` in 8 cells is `one two` and `three`.
    """
    lines: list[str] = []
    line = ""
    for piece in _pieces(text, width):
        if line and cell_width(line + piece.rstrip()) > width:
            lines.append(line.rstrip())
            line = ""
        line += piece if line else piece.lstrip()
    return [*lines, line.rstrip()] if line.strip() or not lines else lines


def indented(text: str, *, width: int, label: str, column: int) -> list[str]:
    """The text behind a label, its further lines under the first: `card     The GPUs …`."""
    first, *rest = wrap(text, width - column) or [""]
    pad = " " * max(column - cell_width(label), 1)
    return [f"{label}{pad}{first}", *(" " * column + line for line in rest)]


def _pieces(text: str, width: int) -> Iterator[str]:
    """What no line may break, in order; each at most as wide as a line."""
    held = ""
    for match in _PIECE.finditer(text):
        piece = match[0]
        if held and not (held[-1] in _STAYS_BEFORE or piece[0] in _STAYS_BEHIND):
            yield from _cut(held, width)
            held = ""
        held += piece
    yield from _cut(held, width)


def _cut(piece: str, width: int) -> Iterator[str]:
    while cell_width(piece) > width > 1:
        count = 1
        while cell_width(piece[: count + 1]) <= width:
            count += 1
        yield piece[:count]
        piece = piece[count:]
    if piece:
        yield piece
