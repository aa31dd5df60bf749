"""Rows of the card as text and as JSON: the card's value, ours, the source, what carries it, the figures of both."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from cpadvisor import catalog
from cpadvisor.card import Columns, Row, Text, load_groups
from cpadvisor.check import Finding, check_config
from cpadvisor.check.finding import findings_json
from cpadvisor.errors import ConfigError
from cpadvisor.report.card_figures import MODEL, Figures, figures_of
from cpadvisor.report.table import cell_width, table
from cpadvisor.report.wrap import indented, wrap
from cpadvisor.units import DASH, format_bytes, format_count, format_rate, format_tokens
from cpadvisor.yaml_reader import DuplicateKeyError, read_yaml

INDENT = 2
LABEL_COLUMN = 13

LABELS: dict[str, Text] = {
    "card": {"en": "card", "zh": "速查卡"},
    "ours": {"en": "ours", "zh": "本工具"},
    "source": {"en": "source", "zh": "依据"},
    "carried": {"en": "carried by", "zh": "由谁落实"},
    "config": {"en": "As a file for {gpus} GPUs, axolotl 0.21", "zh": "写成 {gpus} 张卡的文件，axolotl 0.21"},
    "findings": {"en": "`check` says", "zh": "`check` 的结果"},
    "nothing": {"en": "nothing to mend", "zh": "没有问题"},
}
_VERDICTS: dict[str, Text] = {
    "same": {"en": "same", "zh": "一致"},
    "refined": {"en": "refined", "zh": "有补充"},
    "differs": {"en": "differs", "zh": "不同"},
    "wrong": {"en": "wrong", "zh": "有误"},
}


def card_json(rows: Sequence[Row]) -> dict[str, Any]:
    """All rows with both languages; figures are SI base units with the unit in the key."""
    return {"schema": 1, "rows": [_row_json(row) for row in rows]}


def _row_json(row: Row) -> dict[str, Any]:
    return {
        "id": row.id,
        "group": dict(load_groups()[row.group]),
        "title": dict(row.title),
        "card": dict(row.card),
        "ours": dict(row.ours),
        "source": dict(row.source),
        "verdict": row.verdict,
        "carried_by": list(row.carried_by),
        "figures": figures_of(row.id),
        "config": row.config,
        "findings": None if row.config is None else findings_json(config_findings(row))["findings"],
        "verse": row.verse and {language: [list(stanza) for stanza in verse] for language, verse in row.verse.items()},
    }


def card_text(rows: Sequence[Row], *, language: str, width: int) -> str:
    """Rows under the titles of their parts, no line wider than `width` cells."""
    lines: list[str] = []
    group = ""
    for row in rows:
        if row.group != group:
            group = row.group
            title = load_groups()[group][language]
            lines += ["", title, "─" * cell_width(title)]
        lines += ["", *_row_lines(row, language, width)]
    return "\n".join(lines[1:])


def _row_lines(row: Row, language: str, width: int) -> Iterator[str]:
    verdict, title = _VERDICTS[row.verdict][language], row.title[language]
    gap = max(width - cell_width(f"{row.id}  {title}") - cell_width(verdict), 2)
    yield f"{row.id}  {title}{' ' * gap}{verdict}"
    for name, text in (
        ("card", row.card[language]),
        ("ours", row.ours[language]),
        ("source", row.source[language]),
        ("carried", _carriers(row)),
    ):
        yield from indented(
            text, width=width, label=" " * INDENT + LABELS[name][language], column=INDENT + LABEL_COLUMN
        )
    yield from _verse(row, language)
    figures = figures_of(row.id)
    if row.columns is not None and figures is not None:
        yield from ["", *_table(row.columns, figures, language, width)]
    if row.config is not None:
        yield from ["", *_config(row, language, width)]


def _carriers(row: Row) -> str:
    """`check F3, key-missing; command write`: names behind their kind."""
    kinds: dict[str, list[str]] = {}
    for carrier in row.carried_by:
        kind, _, name = carrier.partition(" ")
        kinds.setdefault(kind, []).append(name)
    return "; ".join(f"{kind} {', '.join(names)}" for kind, names in kinds.items())


def _verse(row: Row, language: str) -> Iterator[str]:
    """The stanzas of row V1."""
    for stanza in (row.verse or {}).get(language, ()):
        yield ""
        yield from (" " * (INDENT + LABEL_COLUMN) + line for line in stanza)


def _table(columns: Columns, figures: Figures, language: str, width: int) -> Iterator[str]:
    pad = " " * INDENT
    yield from (pad + line for line in wrap(columns.caption[language], width - INDENT))
    cells = [[figure_cell(key, line[key]) for key in columns.heads] for line in figures]
    numbers = {place for place, key in enumerate(columns.heads) if not isinstance(figures[0][key], str)}
    text = table([head[language] for head in columns.heads.values()], cells, right=frozenset(numbers))
    yield from (pad + line for line in text.splitlines())


def figure_cell(key: str, value: Any) -> str:
    """One figure as text, by the unit that its key ends in; the unknown is a dash."""
    if value is None or isinstance(value, str):
        return value or DASH
    if key == "tokens":
        return format_tokens(value)
    if key.endswith("_share"):
        # The card's own 87.5 % stays as it is written.
        return f"{100 * value:g} %" if key == "card_share" else f"{100 * value:.{int(0 < value < 0.1)}f} %"
    if key.endswith("_bytes"):
        return format_bytes(value)
    if key.endswith("_bytes_per_s"):
        return format_rate(value)
    if key.startswith("times_"):
        return f"{value:.1f}×"
    return f"{value} GB" if key.endswith("_gb") else format_count(value)


def _config(row: Row, language: str, width: int) -> Iterator[str]:
    pad = " " * INDENT
    yield pad + LABELS["config"][language].format(gpus=row.gpus)
    yield from (f"{pad}  {line}" for line in (row.config or "").splitlines())
    yield pad + LABELS["findings"][language]
    serious = [finding for finding in config_findings(row) if finding.severity != "note"]
    for finding in serious:
        fix = f"; {finding.fix}" if finding.fix else ""
        text = f"{finding.severity} {finding.rule}: {finding.message}{fix}"
        yield from (
            f"{pad}  {'  ' if place else ''}{line}" for place, line in enumerate(wrap(text, width - INDENT - 4))
        )
    if not serious:
        yield f"{pad}  {LABELS['nothing'][language]}"


def config_findings(row: Row) -> tuple[Finding, ...]:
    """What `check` finds in the row's file, for the model of row F7 and axolotl 0.21. Nothing is read from the disk."""
    try:
        values, lines = read_yaml(row.config or "", name=f"{row.id}.yaml")
    except ConfigError as error:
        rule = "C3" if isinstance(error, DuplicateKeyError) else "yaml"
        return (Finding(rule=rule, severity="error", key=None, message=str(error)),)
    return check_config(
        values, lines=lines, engine="axolotl-0.21", gpus=row.gpus, model=catalog.find_model(MODEL), folder=Path()
    )
