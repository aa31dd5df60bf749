"""Wrapping: one line of runs becomes as many as fit the width, cut at blanks, each run in its tone."""

from collections.abc import Iterator

from rich.cells import cell_len, set_cell_size

from cpadvisor.tui.widgets.lines import Line
from cpadvisor.tui.widgets.tones import Run


def wrap(line: Line, width: int) -> tuple[Line, ...]:
    """The line in rows of at most `width` cells; a word that is longer than a row is cut.

    `one two three` in 8 cells is `one two` and `three`. Blanks at the end of a row are dropped, those at its
    beginning in the source stay: they are an indentation.
    """
    rows: list[Line] = []
    row: list[Run] = []
    used = 0
    for text, tone in _pieces(line, max(width, 1)):
        cells = cell_len(text)
        if used and used + cells > width:
            rows.append(_trimmed(row))
            row, used = [], 0
            if text.isspace():
                continue
        row.append((text, tone))
        used += cells
    return (*rows, _trimmed(row))


def _pieces(line: Line, width: int) -> Iterator[Run]:
    """Words and the blanks between them, none wider than a row."""
    for text, tone in line:
        for piece in _words(text):
            while cell_len(piece) > width:
                head = set_cell_size(piece, width).rstrip() or piece[0]
                yield head, tone
                piece = piece[len(head) :]
            if piece:
                yield piece, tone


def _words(text: str) -> Iterator[str]:
    """`a  bc` is `a`, two blanks, `bc`; between Chinese characters a row may end anywhere."""
    word = ""
    for character in text:
        wide = cell_len(character) > 1
        if word and (wide or character.isspace() != word[-1].isspace()):
            yield word
            word = ""
        if wide:
            yield character
        else:
            word += character
    if word:
        yield word


def _trimmed(row: list[Run]) -> Line:
    """The row without blanks at its end; neighbours of one tone become one run."""
    joined: list[Run] = []
    for text, tone in row:
        if joined and joined[-1][1] == tone:
            joined[-1] = (joined[-1][0] + text, tone)
        else:
            joined.append((text, tone))
    while joined and not joined[-1][0].rstrip():
        joined.pop()
    if joined:
        joined[-1] = (joined[-1][0].rstrip(), joined[-1][1])
    return tuple(joined)
