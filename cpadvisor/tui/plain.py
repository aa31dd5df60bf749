"""Lines for poor terminals: without colour, and in ASCII. Each character is replaced by as many as it has cells."""

import unicodedata
from functools import lru_cache

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.color import Color
from textual.filter import LineFilter

_LOOKALIKES = {
    "─━═╌╍┄┅┈┉╴╶╸╺–—−‐‑": "-",
    "│┃║╎╏┆┇┊┋▏▕": "|",
    "╭╮╰╯┌┐└┘├┤┬┴┼┏┓┗┛┣┫┳┻╋╔╗╚╝╠╣╦╩╬": "+",
    "█▉▊▋▓▄▅▆▇■▮": "#",
    "▌▍▎▶►▸→›": ">",
    "▐◀◂←‹": "<",
    "▁▂▃": "_",
    "▔▀‾": "-",
    "░▒⋮": ":",
    "·…∙": ".",
    "●•◉": "*",
    "○□◯": "o",
    "◌≈": "~",
    "◍": "%",
    "▲": "!",
    "△↑": "^",
    "▼▾↓✔✓": "v",
    "✖✗×✕": "x",
    "±": "+",
    "≤": "<",
    "≥": ">",
    "≠": "#",
    "‘’": "'",
    "“”": '"',
    "°": "o",
    "µμ": "u",
    "\u00a0": " ",
}
"""What is drawn, and the ASCII that looks or means most like it; marks of state stay different from each other."""

_BRAILLE = range(0x2800, 0x2900)
_UPPER, _LOWER = 0x1B, 0xE4
"""Bits of the upper and of the lower two rows of dots (Unicode block Braille Patterns)."""


def _braille(mask: int) -> str:
    """A few dots as the punctuation at their height, many as a full cell."""
    if not mask:
        return " "
    if mask.bit_count() >= 6:
        return "#"
    return "'" if not mask & _LOWER else "." if not mask & _UPPER else ":"


_SEARCH = {ord("🔎"): "> "}
"""Before the field of textual's palette."""

_TABLE = (
    _SEARCH
    | {ord(each): to for characters, to in _LOOKALIKES.items() for each in characters}
    | {code: _braille(code - _BRAILLE.start) for code in _BRAILLE}
)


@lru_cache(4096)
def in_ascii(text: str, *, strict: bool) -> str:
    """A text with lookalikes; `strict` leaves nothing else either: letters lose their accents, the rest becomes `?`."""
    if text.isascii():
        return text
    drawn = text.translate(_TABLE)
    return "".join(map(_letter, drawn)) if strict and not drawn.isascii() else drawn


def _letter(character: str) -> str:
    if character.isascii():
        return character
    base = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
    width = cell_len(character)
    return base if len(base) == width else "?" * width


@lru_cache(1024)
def _without_colour(style: Style) -> Style:
    return style.without_color


class Colourless(LineFilter):
    """No colour at all; bold, underline and reverse stay."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        """The segments without their colours."""
        return [Segment(text, _without_colour(style) if style else style, None) for text, style, _ in segments]


class Ascii(LineFilter):
    """Lines, dots, blocks and marks by their lookalikes."""

    def __init__(self, *, strict: bool) -> None:
        super().__init__()
        self._strict = strict

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        """The segments in ASCII."""
        return [Segment(in_ascii(text, strict=self._strict), style, None) for text, style, _ in segments]
