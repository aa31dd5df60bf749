"""A memory bar: what is used, the band in which the peak is expected, and the limit, in one line of characters.

`██████▌▒▒▒  │`: solid up to the value, shaded over the part of the band that
lies above it, a rule at the limit. What lies beyond the limit is drawn bad.
"""

from cpadvisor.tui.widgets.tones import Run

_EIGHTHS = " ▏▎▍▌▋▊▉█"


def fill(share: float, width: int) -> str:
    """A bar of `width` cells filled to `share` of one, in eighths of a cell. 0.5 of 4 is `██  `."""
    eighths = round(min(max(share, 0.0), 1.0) * width * 8)
    full, part = divmod(eighths, 8)
    text = "█" * full + (_EIGHTHS[part] if part else "")
    return text.ljust(width)


def memory_bar(
    value: float | None,
    *,
    limit: float | None,
    width: int,
    low: float | None = None,
    high: float | None = None,
    end: float | None = None,
) -> list[Run]:
    """The runs of a bar that ends at the limit, or at the upper end of the band where that lies beyond.

    40 of 80 GiB in 8 cells, band 35 to 60: four solid cells, two shaded ones,
    one blank, and the rule. Without a limit the bar reaches to `end` and has no rule.
    """
    far = max(limit or end or 0.0, high or 0.0, value or 0.0)
    if far <= 0 or width < 2:
        return [(" " * width, "faint")]
    return [_cell_of_bar(cell, value or 0.0, limit, low, high, width, far) for cell in range(width)]


def _cell_of_bar(
    cell: int, value: float, limit: float | None, low: float | None, high: float | None, width: int, far: float
) -> Run:
    middle = (cell + 0.5) / width * far
    beyond = limit is not None and middle > limit
    in_band = low is not None and high is not None and low <= middle <= high
    solid = fill(value / far, width)[cell]
    if limit is not None and cell == min(round(limit / far * width), width) - 1:
        return ("│", "bad" if max(high or 0.0, value) > limit else "muted")
    if solid != " ":
        over = limit is not None and value > limit
        return (solid, "bad" if over else "predicted" if in_band else "accent")
    if in_band:
        return ("▒", "bad" if beyond else "predicted")
    return (" " if beyond else "·", "faint")
