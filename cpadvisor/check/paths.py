"""Paths: whether the model, the data and the place for the output are there."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cpadvisor.check.finding import Finding
from cpadvisor.check.subject import Config
from cpadvisor.plan.layout import chunk_neighbours
from cpadvisor.rundir import nearest_there

_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
_FILE_SUFFIXES = (".txt", ".json", ".jsonl", ".parquet", ".csv", ".arrow")


def path_rules(config: Config) -> Iterator[Finding]:
    """Model, data, output."""
    yield from _base_model(config)
    yield from _datasets(config)
    yield from _output(config)


def _resolve(config: Config, text: str) -> Path:
    return config.folder / Path(text).expanduser()


def _is_hub_name(text: str) -> bool:
    return _HUB_NAME.fullmatch(text) is not None and not text.startswith(".") and not text.endswith(_FILE_SUFFIXES)


def _base_model(config: Config) -> Iterator[Finding]:
    name = config.values.get("base_model")
    if not isinstance(name, str) or not config.is_axolotl:
        return
    path = _resolve(config, name)
    if path.is_dir() and not (path / "config.json").is_file():
        message = f"base_model {name}: the folder holds no config.json"
        yield config.find("base-model", "error", "base_model", message, "name the folder that has it, or a hub name")
    elif not path.exists() and name.startswith(("/", ".", "~")):
        message = f"base_model {name}: there is no such folder"
        yield config.find("base-model", "error", "base_model", message, "name an existing folder, or a hub name")
    elif not path.exists() and not _is_hub_name(name):
        message = f"base_model {name!r} is neither a folder here nor a hub name of the form owner/name"
        yield config.find("base-model", "warning", "base_model", message, "name a folder with weights and a tokenizer")


def _datasets(config: Config) -> Iterator[Finding]:
    entries = config.values.get("datasets") or config.values.get("pretraining_dataset") or []
    for index, entry in enumerate(entries if isinstance(entries, list) else [entries]):
        path = entry.get("path") if isinstance(entry, dict) else entry
        where = f"datasets[{index}]"
        if not isinstance(path, str) or not path:
            message = f"{where} has no path"
            yield config.find(
                "dataset-path", "error", "datasets", message, "write path: and a file or a data set's name"
            )
            continue
        yield from _dataset(config, where, path, entry)


def _dataset(config: Config, where: str, text: str, entry: Any) -> Iterator[Finding]:
    path = _resolve(config, text)
    if path.is_file():
        yield from _file_content(config, where, path)
    elif path.is_dir():
        if not config.is_axolotl:
            message = f"{where}.path {text} is a folder; the bundled trainer reads files"
            yield config.find("dataset-path", "error", "datasets", message, "name its files one by one")
        elif not any(path.iterdir()):
            message = f"{where}.path {text} is an empty folder"
            yield config.find("dataset-empty", "error", "datasets", message, "name a folder with data")
    elif not (config.is_axolotl and _is_hub_name(text)):
        message = f"{where}.path {text}: there is no file {path}"
        yield config.find("dataset-path", "error", "datasets", message, "write the path of an existing file")
    kind = entry.get("type", "completion") if isinstance(entry, dict) else "completion"
    if not config.is_axolotl and kind != "completion":
        message = f"{where}.type {kind}: the bundled trainer reads plain text alone"
        yield config.find("dataset-type", "error", "datasets", message, "write type: completion, or train with axolotl")


def _file_content(config: Config, where: str, path: Path) -> Iterator[Finding]:
    """A token is at least one byte with every tokenizer that we know, so bytes bound the tokens from above."""
    try:
        size = path.stat().st_size
        readable = os.access(path, os.R_OK)
    except OSError:
        size, readable = 0, False
    if not readable:
        yield config.find(
            "dataset-path", "error", "datasets", f"{where}: {path} cannot be read", "give yourself access"
        )
        return
    if size == 0:
        yield config.find("dataset-empty", "error", "datasets", f"{where}: {path} is empty", "name a file with text")
        return
    tokens = config.number("sequence_len")
    if tokens is not None and size < tokens:
        message = f"{where}: {path} has {size:,} bytes, fewer than the {tokens:,.0f} tokens of one sequence"
        fix = f"write a sequence_len of at most {size}, or bring more data"
        longest = chunk_neighbours(size, config.degree("cp"))[0]
        changes = {"sequence_len": longest} if longest <= size else None
        severity = "warning" if config.is_axolotl else "error"
        yield config.find("length-data", severity, "sequence_len", message, fix, changes)


def _output(config: Config) -> Iterator[Finding]:
    text = config.values.get("output_dir")
    if not isinstance(text, str):
        return
    path = _resolve(config, text)
    existing = nearest_there(path)
    if not existing.is_dir():
        message = f"output_dir {text}: {existing} is a file"
        yield config.find("output-dir", "error", "output_dir", message, "name a folder")
    elif not os.access(existing, os.W_OK):
        message = f"output_dir {text}: {existing} is not writable for you"
        yield config.find("output-dir", "error", "output_dir", message, "name a folder that you may write to")
