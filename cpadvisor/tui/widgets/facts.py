"""Facts: a name at the left, what is to be said of it at the right, wrapped under itself."""

from dataclasses import dataclass

from rich.cells import cell_len
from textual.reactive import var

from cpadvisor.tui.widgets.lines import Line
from cpadvisor.tui.widgets.wrap import wrap
from cpadvisor.tui.widgets.wrapped import Wrapped

_GAP = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """One entry."""

    name: str = ""
    """Empty for what belongs to no name: it then takes the whole width."""
    lines: tuple[Line, ...] = ()
    chosen: bool = False
    """Marked at the left: the one that a key acts on."""


class Facts(Wrapped):
    """Entries below each other; scrolls where there are more than the panel shows."""

    facts: var[tuple[Fact, ...]] = var(())

    def watch_facts(self) -> None:
        """Lay out anew, from the top."""
        self.changed()
        self.scroll_home(animate=False)

    def laid_out(self, width: int) -> tuple[Line, ...]:
        """Names in one column, texts wrapped beside them."""
        return laid_out(self.facts, width)


def laid_out(facts: tuple[Fact, ...], width: int) -> tuple[Line, ...]:
    """The rows of all entries: names in one column, texts wrapped beside them."""
    column = max((cell_len(fact.name) for fact in facts if fact.name), default=0)
    rows: list[Line] = []
    for fact in facts:
        inset = column + _GAP if fact.name else 0
        wrapped = [row for line in fact.lines for row in wrap(line, max(width - inset, 8))]
        for place, row in enumerate(wrapped):
            rows.append((*_beside(fact, inset, first=place == 0), *row))
    return tuple(rows)


def _beside(fact: Fact, inset: int, *, first: bool) -> Line:
    """What stands left of a row: the name at the first one, blanks or the mark of the chosen entry below."""
    if not inset:
        return ()
    mark = "▌" if fact.chosen else " "
    name = fact.name if first else ""
    tone = "accent" if fact.chosen else "muted"
    return ((name + " " * (inset - 1 - cell_len(name)), tone), (mark, "accent"))
