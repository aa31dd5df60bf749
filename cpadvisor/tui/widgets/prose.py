"""A panel of text that wraps and scrolls: warnings, reasons, terms."""

from textual.content import Content
from textual.reactive import var

from cpadvisor.tui.widgets.lines import Line
from cpadvisor.tui.widgets.wrap import wrap
from cpadvisor.tui.widgets.wrapped import Wrapped

_VARIABLES = {"plain": "$foreground", "ok": "$success", "warn": "$warning", "bad": "$error"}
"""Tones whose theme variable has another name; every other tone is named as its variable."""


def content(lines: tuple[Line, ...]) -> Content:
    """Lines of (text, tone) as text of the theme's colours; nothing in it is read as markup."""
    parts: list[tuple[str, str]] = []
    for place, line in enumerate(lines):
        if place:
            parts.append(("\n", ""))
        parts.extend((text, _VARIABLES.get(tone, f"${tone}")) for text, tone in line)
    return Content.assemble(*parts)


class Prose(Wrapped):
    """Wrapped lines; arrow keys scroll where there are more than the panel shows."""

    lines: var[tuple[Line, ...]] = var(())

    def watch_lines(self) -> None:
        """Wrap the new text."""
        self.changed()

    def laid_out(self, width: int) -> tuple[Line, ...]:
        """Each line in as many rows as it takes."""
        return tuple(row for line in self.lines for row in wrap(line, width))
