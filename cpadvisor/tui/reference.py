"""The quick reference card as lines of the app: the text that `cpadvisor card` prints, with its heads in colour."""

import re

from cpadvisor.card import find_rows
from cpadvisor.report.card import INDENT, LABELS, card_text
from cpadvisor.tui.widgets.lines import Line

_HEAD = re.compile(r"[A-Z]\d  ")


def card_lines(language: str, width: int) -> tuple[Line, ...]:
    """Every row of the card, no line of prose wider than `width` cells."""
    lines = card_text(find_rows([]), language=language, width=width).splitlines()
    titles = {place for place, line in enumerate(lines[1:]) if line.startswith("─")}
    return tuple(_line(line, language, is_title=place in titles) for place, line in enumerate(lines))


def _line(text: str, language: str, *, is_title: bool) -> Line:
    if is_title or _HEAD.match(text):
        return ((text, "accent"),)
    if text.startswith("─"):
        return ((text, "muted"),)
    for label in (" " * INDENT + words[language] for words in LABELS.values()):
        if text.startswith(f"{label} "):
            return ((label, "muted"), (text[len(label) :], "plain"))
    return ((text, "plain"),)
