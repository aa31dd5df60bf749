"""The quick reference card as data: each row with the card's value, ours, and what carries it, in two languages.

The rows stand in card.yaml beside this file. It holds text alone: a figure of
ours is computed where it is shown, so that it never disagrees with the planner.
"""

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from cpadvisor.errors import UsageError

LANGUAGES = ("en", "zh")

VERDICTS = ("same", "refined", "differs", "wrong")
"""Ours is the card's; is the card's with a limit or a detail added; is another; the card's does not hold."""

Text = Mapping[str, str]
"""One text by language."""

_FOLD = re.compile(
    r"(?<=[\u3000-\u9fff]) (?=[\u3000-\u9fff])|(?<=[\u3000-\u303f\uff00-\uffef]) | (?=[\u3000-\u303f\uff00-\uffef])"
)
"""A blank that a folded line of Chinese leaves where none is written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """The table of computed figures under a row: what it shows, and the head of each column by its key."""

    caption: Text
    heads: Mapping[str, Text]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row of the card."""

    id: str
    title: Text
    card: Text
    """What the card says, in our own words."""
    ours: Text
    """What we hold, and why where that is something else."""
    source: Text
    """Of ours: a measurement, a formula, a paper, a file of a trainer's source with its version."""
    verdict: str
    """One of VERDICTS."""
    carried_by: tuple[str, ...]
    """What acts on it, as `kind name`: `check F3`, `plan F1`, `trace T6`, `doctor shm`, `command parity`."""
    columns: Columns | None = None
    config: str | None = None
    """The row as a config file, where it is one."""
    gpus: int | None = None
    """GPUs that the config is meant for."""
    verse: Mapping[str, tuple[tuple[str, ...], ...]] | None = None
    """Stanzas of lines by language."""

    @property
    def group(self) -> str:
        """The letter of the part that it stands in."""
        return self.id[0]


@cache
def _document() -> Mapping[str, Any]:
    return yaml.safe_load(Path(__file__).with_name("card.yaml").read_text(encoding="utf-8"))


@cache
def load_rows() -> Mapping[str, Row]:
    """All rows by id, in the order of the card."""
    return {row["id"]: _row(row) for row in _document()["rows"]}


@cache
def load_groups() -> Mapping[str, Text]:
    """The parts of the card by their letter."""
    return {letter: _text(title) for letter, title in _document()["groups"].items()}


def _row(row: Mapping[str, Any]) -> Row:
    columns, verse = row.get("columns"), row.get("verse")
    return Row(
        id=row["id"],
        title=_text(row["title"]),
        card=_text(row["card"]),
        ours=_text(row["ours"]),
        source=_text(row["source"]),
        verdict=row["verdict"],
        carried_by=tuple(row["carried_by"]),
        columns=columns and _columns(columns),
        config=row.get("config"),
        gpus=row.get("gpus"),
        verse=verse and {language: tuple(map(tuple, stanzas)) for language, stanzas in verse.items()},
    )


def _columns(columns: Mapping[str, Any]) -> Columns:
    heads = {key: _text(head) for key, head in columns["heads"].items()}
    return Columns(caption=_text(columns["caption"]), heads=heads)


def _text(value: str | Mapping[str, str]) -> Text:
    """A plain text reads the same in every language: names, formulas, places in a source."""
    texts = dict.fromkeys(LANGUAGES, value) if isinstance(value, str) else value
    lines = {language: " ".join(texts[language].split()) for language in LANGUAGES}
    return lines | {"zh": _FOLD.sub("", lines["zh"])}


def find_rows(asked: Sequence[str]) -> tuple[Row, ...]:
    """The rows of some ids or group letters, in the card's order; all of them where none is asked.

    Raises UsageError that names the nearest row.
    """
    rows = load_rows()
    if not asked:
        return tuple(rows.values())
    wanted = {id_ for name in asked for id_ in _ids(name, rows)}
    return tuple(row for row in rows.values() if row.id in wanted)


def _ids(name: str, rows: Mapping[str, Row]) -> tuple[str, ...]:
    upper = name.strip().upper()
    if upper in rows:
        return (upper,)
    found = tuple(id_ for id_, row in rows.items() if row.group == upper)
    if found:
        return found
    raise UsageError(f"{name!r} is no row of the card; {_nearest(upper, rows)}")


def _nearest(name: str, rows: Mapping[str, Row]) -> str:
    """The last row of a group that has no such number, else the row that reads most alike."""
    same_group = [id_ for id_, row in rows.items() if row.group == name[:1]]
    near = same_group[-1:] or difflib.get_close_matches(name, list(rows), n=1, cutoff=0.4)
    letters = ", ".join(f"{letter} ({title['en']})" for letter, title in load_groups().items())
    hint = f"the nearest is {near[0]}; " if near else ""
    return f"{hint}give an id such as F3, or a letter: {letters}"


def kv_owner(*, rank: int, step: int, size: int) -> int:
    """Whose K and V a rank of a ring holds in a step: (rank - step) mod size (row P2).

    Rank 1 of 4 in step 2 holds those of rank 3.
    """
    return (rank - step) % size


def ring_table(size: int) -> tuple[tuple[int, ...], ...]:
    """One line a step, one column a rank: whose K and V are there. After `size` steps each rank has seen all."""
    return tuple(tuple(kv_owner(rank=rank, step=step, size=size) for rank in range(size)) for step in range(size))
