"""The link matrix: a letter code a pair, coloured by class, the hops of the best ring underlined."""

from dataclasses import dataclass
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual.geometry import Size
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.strip import Strip

from cpadvisor.node import Node, Ring
from cpadvisor.tui.widgets.tones import TONE_CLASSES, Toned, link_tone

_CELL = 5
"""`NV18` and a blank."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Links:
    """What the matrix shows."""

    node: Node | None = None
    ring: Ring | None = None

    @property
    def hops(self) -> frozenset[tuple[int, int]]:
        """Pairs of GPU indices that the ring joins, both ways; 0-1-2 gives six of them."""
        if self.ring is None:
            return frozenset()
        order = self.ring.order
        ahead = {(gpu, order[(place + 1) % len(order)]) for place, gpu in enumerate(order)}
        return frozenset(ahead | {(second, first) for first, second in ahead})


class LinkMatrix(ScrollView, Toned, can_focus=True):
    """One row and one column a GPU, then one column a NIC; scrolls where the node is larger than the panel."""

    COMPONENT_CLASSES: ClassVar = set(TONE_CLASSES)

    links: reactive[Links] = reactive(Links, layout=True)

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id, classes="panel")

    def watch_links(self) -> None:
        """Take the size of the new node."""
        node = self.links.node
        rows = len(node.gpus) if node else 0
        columns = rows + (len(node.nics) if node else 0)
        self.virtual_size = Size(5 + _CELL * columns, rows + 1)
        self.refresh()

    def text(self) -> str:
        """The whole matrix."""
        node = self.links.node
        rows = [] if node is None else [self._header(node), *(self._row(node, row) for row in range(len(node.gpus)))]
        return "\n".join("".join(segment.text for segment in row).rstrip() for row in rows)

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """The header and a row a GPU."""
        return max(self.virtual_size.height, 2)

    def render_line(self, y: int) -> Strip:
        """One row of the matrix, cropped to what is scrolled to."""
        width = self.content_size.width
        line = y + self.scroll_offset.y if y else 0
        node = self.links.node
        if node is None or line > len(node.gpus):
            return self.strip([], width)
        segments = self._header(node) if line == 0 else self._row(node, line - 1)
        left = self.scroll_offset.x
        return Strip(segments).simplify().crop_extend(left, left + width, self.tone("plain"))

    def _header(self, node: Node) -> list[Segment]:
        names = [str(index) for index in node.indices] + [f"n{place}" for place in range(len(node.nics))]
        return [Segment("     " + "".join(f"{name:^{_CELL}}" for name in names), self.tone("muted"))]

    def _row(self, node: Node, row: int) -> list[Segment]:
        index = node.indices[row]
        segments = [Segment(f"{index:>3}  ", self.tone("muted"))]
        for column, code in enumerate(node.links[row]):
            in_ring = (index, node.indices[column]) in self.links.hops
            segments.extend(self._cell("·" if row == column else code, in_ring=in_ring, self_=row == column))
        for nic in node.nics:
            segments.extend(self._cell(nic.links[row], in_ring=False, self_=False))
        return segments

    def _cell(self, code: str | None, *, in_ring: bool, self_: bool) -> list[Segment]:
        style = self.tone("faint" if self_ else link_tone(code), bold=in_ring)
        text = code or "–"
        blank = _CELL - len(text)
        before = blank // 2
        word = style + Style(underline=True) if in_ring else style
        return [Segment(" " * before, style), Segment(text, word), Segment(" " * (blank - before), style)]
