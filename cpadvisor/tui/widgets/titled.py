"""A panel whose titles change often: a new title redraws the two border rows and leaves what is inside alone."""

from typing import Any, Self

from textual.content import Content
from textual.geometry import Region
from textual.widget import Widget


class Titled(Widget):
    """Textual redraws all of a widget for a new title; a chart would be drawn anew for a figure below it."""

    _titling = False

    def entitle(self, title: Content, subtitle: Content) -> None:
        """Title at the left of the upper border, subtitle at the right of the lower one; set only where it is new."""
        self._titling = True
        try:
            for name, text in (("border_title", title), ("border_subtitle", subtitle)):
                if getattr(self, name) != text.markup:
                    setattr(self, name, text)
        finally:
            self._titling = False

    def refresh(self, *regions: Region, repaint: bool = True, layout: bool = False, recompose: bool = False) -> Self:
        """While a title is set, the border rows alone."""
        if self._titling and not regions:
            regions = self._border_rows()
        options: dict[str, Any] = {"repaint": repaint, "layout": layout, "recompose": recompose}
        return super().refresh(*regions, **options)

    def _border_rows(self) -> tuple[Region, ...]:
        """The rows above and below the content, in its coordinates; none before the first layout."""
        (width, height), gutter = self.outer_size, self.gutter
        if not width or not height:
            return ()
        return (Region(-gutter.left, -gutter.top, width, 1), Region(-gutter.left, height - gutter.top - 1, width, 1))
