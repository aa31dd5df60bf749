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
) -> list[Run]:
    """The runs of a bar that ends at the limit, or at the upper end of the band where that lies beyond.

    40 of 80 GiB in 8 cells, band 35 to 60: four solid cells, two shaded ones,
    one blank, and the rule.
    """
    if limit is None or limit <= 0 or width < 2:
        return [(" " * width, "faint")]
    end = max(limit, high or 0.0, value or 0.0)
    rule = min(round(limit / end * width), width) - 1
    solid = fill((value or 0.0) / end, width)
    tone = "bad" if (value or 0.0) > limit else "accent"
    runs: list[Run] = []
    for cell in range(width):
        middle = (cell + 0.5) / width * end
        in_band = low is not None and high is not None and low <= middle <= high
        if cell == rule:
            runs.append(("│", "bad" if (high or value or 0.0) > limit else "muted"))
        elif solid[cell] != " ":
            runs.append((solid[cell], "predicted" if in_band and tone == "accent" else tone))
        elif in_band:
            runs.append(("▒", "bad" if middle > limit else "predicted"))
        else:
            runs.append(("·" if middle < limit else " ", "faint"))
    return runs
