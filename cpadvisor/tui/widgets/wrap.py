"""Wrapping: one line of runs becomes as many as fit the width, cut at blanks, each run in its tone."""

from collections.abc import Iterator

from rich.cells import cell_len

from cpadvisor.tui.widgets.lines import Line
from cpadvisor.tui.widgets.tones import Run

GLUE = "\u00a0"
"""The no-break space."""
CLOSING = "。，、；：！？）》」』”"
"""Characters that begin no row of a Chinese text."""


def wrap(line: Line, width: int) -> tuple[Line, ...]:
    """The line in rows of at most `width` cells; a word that is longer than a row is cut.

    `one two three` in 8 cells is `one two` and `three`. Blanks at the end of a row are dropped, those at its
    beginning in the source stay: they are an indentation. What GLUE joins stays in one row, and is shown as a blank.
    """
    rows: list[Line] = []
    row: list[Run] = []
    used = 0
    for word in _words(line):
        for piece in _cut(word, max(width, 1)):
            cells = _cells(piece)
            if used and used + cells > width:
                rows.append(_trimmed(row))
                row, used = [], 0
                if _is_blank(piece[0][0]):
                    continue
            row.extend((text.replace(GLUE, " "), tone) for text, tone in piece)
            used += cells
    return (*rows, _trimmed(row))


def _words(line: Line) -> Iterator[Line]:
    """Words, which may change their tone within, and the blanks between them; a Chinese character is a word.

    What closes a Chinese sentence or bracket belongs to the character before it.
    """
    word: list[Run] = []
    for text, tone in line:
        for piece in _pieces(text):
            if word and not _continues(word[-1][0], piece):
                yield tuple(word)
                word = []
            word.append((piece, tone))
    if word:
        yield tuple(word)


def _continues(before: str, piece: str) -> bool:
    """Whether no row may end between the two."""
    if piece in CLOSING:
        return not _is_blank(before)
    return not (_is_blank(before) or _is_blank(piece) or cell_len(before[-1]) > 1 or cell_len(piece[0]) > 1)


def _pieces(text: str) -> Iterator[str]:
    """`a  bc` is `a`, two blanks, `bc`; each Chinese character is a piece, as a row may end before and after it."""
    piece = ""
    for character in text:
        wide = cell_len(character) > 1
        if piece and (wide or _is_blank(character) != _is_blank(piece[-1])):
            yield piece
            piece = ""
        if wide:
            yield character
        else:
            piece += character
    if piece:
        yield piece


def _cut(word: Line, width: int) -> Iterator[Line]:
    """The word; one that is longer than a row in single characters, so that it fills the row that it begins in."""
    if _cells(word) <= width:
        yield word
    else:
        yield from (((character, tone),) for text, tone in word for character in text)


def _cells(line: Line) -> int:
    return sum(cell_len(text) for text, _ in line)


def _is_blank(text: str) -> bool:
    return text.isspace() and GLUE not in text


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
