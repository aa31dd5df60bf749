"""Rows under headers, aligned by the width that a terminal gives each character."""

import unicodedata
from collections.abc import Sequence


def cell_width(text: str) -> int:
    """Columns that a terminal uses for `text`; East Asian wide characters take two."""
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


def table(headers: Sequence[str], rows: Sequence[Sequence[str]], *, right: frozenset[int] = frozenset()) -> str:
    """Columns two blanks apart; those in `right` are aligned right, as numbers are read."""
    lines = [list(headers), *(list(row) for row in rows)]
    widths = [max(cell_width(line[column]) for line in lines) for column in range(len(headers))]

    def pad(text: str, column: int) -> str:
        blanks = " " * (widths[column] - cell_width(text))
        return blanks + text if column in right else text + blanks

    return "\n".join("  ".join(pad(text, column) for column, text in enumerate(line)).rstrip() for line in lines)
