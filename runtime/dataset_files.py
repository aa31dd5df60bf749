"""The files that a config names as data, and the documents in them.

Without files there is one corpus that every machine has: the source of Python's
standard library, its files in sorted order as one document.
"""

import json
import re
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime import keys
from runtime.config_reader import Reader
from runtime.errors import ConfigError

PYTHON_STDLIB = "python-stdlib"
CORPORA = (PYTHON_STDLIB,)

_NOT_LIBRARY = {"site-packages", "dist-packages", "test", "tests", "idlelib", "__pycache__"}
"""Folders that distributions of Python leave out or add to."""

_HALF_PAIR = re.compile("[\ud800-\udfff]")
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSource:
    """One file of text, or of JSON objects, one a line."""

    path: Path
    field: str | None
    """The key of the text in each row; None for a plain text file, which is one document."""


def read_sources(datasets: Any, reader: Reader) -> tuple[DataSource, ...]:
    """The entries of `datasets`; what is wrong with them becomes problems of the reader."""
    if not isinstance(datasets, list) or not datasets:
        reader.problem(
            "datasets is not a list with at least one entry; write - path: FILE and type: completion below it"
        )
        return ()
    sources: list[DataSource] = []
    for index, entry in enumerate(datasets):
        source = _read_entry(entry, reader, where=f"datasets[{index}]")
        if source is not None:
            sources.append(source)
    return tuple(sources)


def _read_entry(entry: Any, reader: Reader, where: str) -> DataSource | None:
    if not isinstance(entry, dict) or not isinstance(entry.get("path"), str):
        reader.problem(f"{where} has no path; write the path of a text or JSONL file")
        return None
    for key in entry:
        if key not in keys.DATASET:
            reader.problem(keys.unknown(str(key), keys.DATASET, f"{where}."))
    if entry.get("type", "completion") != "completion":
        reader.problem(
            f"{where}.type {entry['type']!r}: the bundled trainer reads plain text only; "
            "write type: completion, or train with axolotl"
        )
    path = Reader(entry, folder=reader.folder, problems=[], warnings=[]).path("path", "")
    if not path.is_file():
        reader.problem(_why_no_file(entry["path"], path, where))
        return None
    kind = entry.get("ds_type") or ("json" if path.suffix in (".json", ".jsonl") else "text")
    if kind not in ("text", "json"):
        reader.problem(f"{where}.ds_type {kind!r} is not one of text, json; use text")
        return None
    return DataSource(path=path, field=str(entry.get("field") or "text") if kind == "json" else None)


def _why_no_file(written: str, path: Path, where: str) -> str:
    if path.is_dir():
        return f"{where}.path {written!r} is a folder; name its files one by one"
    if _HUB_NAME.fullmatch(written) and Path(written).suffix not in (".txt", ".json", ".jsonl"):
        return f"{where}.path {written!r} is no file; datasets of a hub are not downloaded: save it as text or JSONL"
    return f"{where}.path {written!r}: there is no file {path}"


def documents(sources: tuple[DataSource, ...]) -> Iterator[str]:
    """Every document in the order of the files; without files the built-in corpus. Empty ones are left out."""
    if not sources:
        yield python_stdlib()
    for source in sources:
        for text in _rows(source) if source.field is not None else (_text(source.path),):
            if text:
                yield text


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")  # without the mark that some editors put before the text
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(str(path), [f"cannot be read as UTF-8 text: {error}"]) from None


def _rows(source: DataSource) -> Iterator[str]:
    for number, line in enumerate(_text(source.path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ConfigError(str(source.path), [f"line {number} is not JSON: {error}"]) from None
        text = row.get(source.field) if isinstance(row, dict) else None
        if not isinstance(text, str):
            has = f"has {', '.join(map(repr, row))}" if isinstance(row, dict) else "is no object"
            raise ConfigError(
                str(source.path),
                [f"line {number} has no text under field {source.field!r} (it {has}); name the key as field"],
            )
        # JSON may escape half of a surrogate pair, which is no character and has no UTF-8.
        yield text.encode("utf-8", "replace").decode() if _HALF_PAIR.search(text) else text


def python_stdlib() -> str:
    """The standard library's own source, about 11 MB of text with Python 3.11."""
    root = Path(sysconfig.get_path("stdlib"))
    files = [path for path in root.rglob("*.py") if not _NOT_LIBRARY & set(path.relative_to(root).parts)]
    texts = (path.read_text(encoding="utf-8", errors="replace") for path in sorted(files))
    return "\n".join(texts)
