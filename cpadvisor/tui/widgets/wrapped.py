"""Text that wraps to its panel."""

from textual import events
from textual.geometry import Size

from cpadvisor.tui.widgets.lines import Line, Rows


class Wrapped(Rows):
    """Rows that follow from the width. A scrollbar takes a column only where there are more rows than are seen."""

    DEFAULT_CSS = """
    Wrapped { height: 1fr; overflow-x: hidden; }
    """

    def laid_out(self, width: int) -> tuple[Line, ...]:
        """The rows in so many columns."""
        raise NotImplementedError

    def lay_out(self) -> None:
        """Wrap anew."""
        width, height = self.size
        if width <= 1:
            return
        rows = self.laid_out(width)
        self.rows = rows if len(rows) <= height else self.laid_out(width - self.styles.scrollbar_size_vertical)

    def on_resize(self, event: events.Resize) -> None:
        """Wrap to the new size."""
        self.lay_out()

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """As many rows as there are in this width."""
        return max(len(self.laid_out(width)), 1)

    def changed(self) -> None:
        """Show another content; the screen is laid out anew only where its height follows the content."""
        before = len(self.rows)
        self.lay_out()
        if self.styles.is_auto_height and len(self.rows) != before:
            self.refresh(layout=True)
