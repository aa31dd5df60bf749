"""A tone is a named colour of the theme; widgets that draw lines ask for tones, never for colours."""

from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from cpadvisor.node import is_nvlink
from cpadvisor.tui.widgets.titled import Titled

TONES = (
    "plain",
    "muted",
    "faint",
    "accent",
    "ok",
    "warn",
    "bad",
    "predicted",
    "link-nvlink",
    "link-pix",
    "link-pxb",
    "link-phb",
    "link-node",
    "link-sys",
    "series-1",
    "series-2",
    "series-3",
    "series-4",
)

TONE_CLASSES = frozenset(f"tone--{tone}" for tone in TONES) | {"tone--cursor"}

Run = tuple[str, str]
"""A piece of a line: its text and its tone."""


def link_tone(code: str | None) -> str:
    """The tone of a link code: all NV# share one, each PCIe path has its own; the unknown is faint."""
    if is_nvlink(code):
        return "link-nvlink"
    if code is None:
        return "faint"
    tone = "link-" + ("sys" if code == "SOC" else code.lower())
    return tone if tone in TONES else "plain"


class Toned(Titled):
    """A widget that draws runs of (text, tone). Styles are looked up in the stylesheet, so a theme switch recolours.

    Textual gathers component classes along the first base alone: a class whose
    first base is another one names `TONE_CLASSES` itself.
    """

    COMPONENT_CLASSES: ClassVar = set(TONE_CLASSES)

    _styles_of_tones: dict[tuple[str, bool, bool], Style] | None = None

    def notify_style_update(self) -> None:
        """Look the colours up anew: the theme, or what the widget stands on, has changed."""
        self._styles_of_tones = None
        super().notify_style_update()

    def tone(self, name: str, *, bold: bool = False, cursor: bool = False) -> Style:
        """The style of a tone on this widget's background, or on that of the cursor."""
        known = self._styles_of_tones
        if known is None:
            known = self._styles_of_tones = {}
        key = (name, bold, cursor)
        if key not in known:
            known[key] = self._style(name, bold=bold, cursor=cursor)
        return known[key]

    def _style(self, name: str, *, bold: bool, cursor: bool) -> Style:
        style = self.get_component_rich_style(f"tone--{name}")
        if cursor:
            style += Style(bgcolor=self.get_component_rich_style("tone--cursor").bgcolor)
        return style + Style(bold=True) if bold else style

    def strip(self, runs: list[Run], width: int, *, cursor: bool = False, bold: bool = False) -> Strip:
        """One line of exactly `width` cells; neighbours of one tone become one segment."""
        segments = [Segment(text, self.tone(tone, cursor=cursor, bold=bold)) for text, tone in runs if text]
        strip = Strip(segments).simplify()
        return strip.adjust_cell_length(width, self.tone("plain", cursor=cursor))
