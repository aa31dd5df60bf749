"""A panel of text that wraps and scrolls: warnings, reasons, terms."""

from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.content import Content
from textual.reactive import reactive
from textual.widgets import Static

from cpadvisor.tui.widgets.lines import Line

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


class Prose(VerticalScroll, can_focus=True):
    """Wrapped lines; arrow keys scroll where there are more than the panel shows."""

    lines: reactive[tuple[Line, ...]] = reactive(())

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id, classes="panel")

    def compose(self) -> ComposeResult:
        """One text."""
        yield Static(content(self.lines), markup=False)

    def watch_lines(self, old: tuple[Line, ...], new: tuple[Line, ...]) -> None:
        """Replace the text; the screen is laid out anew only where the text grew or shrank."""
        if self.is_mounted:
            text, width = self.query_one(Static), self.query_one(Static).size.width
            taller = content(old).get_height({}, width) != content(new).get_height({}, width) if width else True
            text.update(content(new), layout=taller)
