"""What a panel holds, as text for the clipboard."""

from typing import TYPE_CHECKING, Any, cast

from textual.app import App
from textual.widget import Widget

from cpadvisor.tui.widgets.facts import Facts
from cpadvisor.tui.widgets.lines import Line, Lines
from cpadvisor.tui.widgets.matrix import LinkMatrix
from cpadvisor.tui.widgets.prose import Prose
from cpadvisor.tui.widgets.table import Row, RowTable
from cpadvisor.tui.widgets.wrap import GLUE

if TYPE_CHECKING:
    from cpadvisor.tui.house import House

MOST_BYTES = 74_994
"""What xterm takes in one OSC 52 sequence, before it is coded in base 64: 100 000 characters of it."""


def text_of(widget: Widget | None) -> str | None:
    """The row under the cursor of a table, all lines of other panels; None where there is nothing."""
    if isinstance(widget, RowTable):
        return row_text(widget.grid.rows[widget.cursor]) if widget.grid.rows else None
    if isinstance(widget, Lines | Prose):
        return lines_text(widget.lines) or None
    if isinstance(widget, Facts):
        return lines_text(widget.rows) or None
    if isinstance(widget, LinkMatrix):
        return widget.text() or None
    return None


def row_text(row: Row) -> str:
    """The fields that hold something, two blanks apart."""
    fields = ["".join(text for text, _ in cell.runs).strip() for cell in row]
    return "  ".join(field for field in fields if field)


def lines_text(lines: tuple[Line, ...]) -> str:
    """Lines without their tones."""
    return "\n".join("".join(text for text, _ in line).replace(GLUE, " ").rstrip() for line in lines)


def copy_from(app: App[Any], text: str | None) -> None:
    """Give a text to the clipboard of the app's terminal."""
    cast("House", app).copy(text)


def cautions(text: str, *, in_tmux: bool) -> list[str]:
    """Words to look up where the terminal may not take a text as it is."""
    cautions = ["clipboard tmux"] if in_tmux else []
    return [*cautions, "clipboard long"] if len(text.encode()) > MOST_BYTES else cautions
