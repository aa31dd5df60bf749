"""What launching needs of a config file: who trains, over how many processes, and where its paths lead."""

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from cpadvisor.errors import ConfigError
from cpadvisor.yaml_reader import read_yaml

SIZE_KEYS = {
    "dp_replicate": "dp_replicate_size",
    "dp_shard": "dp_shard_size",
    "tp": "tensor_parallel_size",
    "cp": "context_parallel_size",
}
"""Our axes by axolotl's keys."""

_FOLDERS = ("output_dir", "dataset_prepared_path", "logging_dir", "resume_from_checkpoint")
"""Keys whose text is always a path; base_model and datasets may be names on a hub instead."""
_PROPERTIES = re.compile(r"(?:[&!]\S*\s+)*")
"""Anchor and tag before a scalar, of which a parser counts them a part."""
_PLAIN_PATH = re.compile(r"/[A-Za-z0-9_./+@-]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFile:
    """One config file, read."""

    path: Path
    text: str
    values: Mapping[str, Any]
    engine: str
    """`cpadvisor` for a file with a cpadvisor block, else `axolotl`."""
    layout: Mapping[str, int]

    @property
    def world(self) -> int:
        """Processes: the product of the sizes in the file."""
        return math.prod(self.layout.values())

    @property
    def own(self) -> Mapping[str, Any]:
        """The cpadvisor block; empty where there is none."""
        block = self.values.get("cpadvisor")
        return block if isinstance(block, dict) else {}

    @property
    def model(self) -> str:
        """The catalogue's name of the model where the file has it, else base_model."""
        return str(self.own.get("model") or self.values.get("base_model") or "model")

    @property
    def rank_order(self) -> tuple[int, ...] | None:
        """GPU index of each local rank, as the plan chose it."""
        order = self.own.get("rank_order")
        return tuple(order) if isinstance(order, list) else None

    @property
    def wants_gpu(self) -> bool | None:
        """True for bf16, False for float32 (CPU processes), None where the file leaves it to the machine.

        float32 with tf32 is arithmetic of GPUs too.
        """
        if self.values.get("bf16") is False:
            return self.values.get("tf32") is True
        return True if self.values.get("bf16") is True else None


def read_job(path: Path, *, engine: str | None = None) -> JobFile:
    """Read a config file. Raises ConfigError where it cannot be read, or a size is no whole number from 1 up."""
    path = path.expanduser().absolute()
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(f"cannot read {path}: {reason}; `cpadvisor write -o FILE` writes a config") from error
    values, lines = read_yaml(text, name=str(path))
    problems = [
        f"{path}:{lines.get(key, 1)}: {key} is {values[key]!r}; every size is a whole number from 1 up; use 1"
        for key in SIZE_KEYS.values()
        if values.get(key) is not None and not _is_size(values[key])
    ]
    if problems:
        raise ConfigError("\n".join(problems))
    return JobFile(
        path=path,
        text=text,
        values=values,
        engine=engine or ("cpadvisor" if "cpadvisor" in values else "axolotl"),
        layout={axis: values.get(key) or 1 for axis, key in SIZE_KEYS.items()},
    )


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def with_absolute_paths(job: JobFile) -> str:
    """The text of the file with its relative paths made absolute against its own folder; comments and all else stay.

    The copy in the run directory would otherwise lead elsewhere.
    """
    pieces: list[str] = []
    position = 0
    nodes = {node.start_mark.index: node for node in _path_nodes(job)}  # an alias leads to the node of its anchor
    for start, node in sorted(nodes.items()):
        path = _absolute(node.value, job.path.parent)
        anchor = _PROPERTIES.match(job.text, start)
        assert anchor is not None, "the pattern matches nothing, too"
        pieces += [job.text[position:start], anchor[0], _as_yaml(path)]
        position = node.end_mark.index
    return "".join(pieces) + job.text[position:]


def _path_nodes(job: JobFile) -> Iterator[yaml.ScalarNode]:
    """Scalars of the file that hold a relative path, with their places in the text."""
    root = yaml.compose(job.text, Loader=yaml.SafeLoader)
    for key, value in _items(root):
        if key in _FOLDERS:
            yield from _if_relative(value)
        elif key in ("base_model", "deepspeed"):
            yield from _if_local(value, job.path.parent)
        elif key in ("datasets", "test_datasets") and isinstance(value, yaml.SequenceNode):
            for entry in value.value:
                for name, scalar in _items(entry):
                    if name == "path":
                        always = job.engine == "cpadvisor"
                        yield from _if_relative(scalar) if always else _if_local(scalar, job.path.parent)
        elif key == "cpadvisor":
            for name, scalar in _items(value):
                if name == "tokenizer" and scalar.value != "bytes":
                    yield from _if_relative(scalar)


def _items(node: yaml.Node | None) -> Iterator[tuple[str, yaml.Node]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                yield key.value, value


def _if_relative(node: yaml.Node) -> Iterator[yaml.ScalarNode]:
    if isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:str" and not Path(node.value).is_absolute():
        yield node


def _if_local(node: yaml.Node, folder: Path) -> Iterator[yaml.ScalarNode]:
    """Only what says that it is a path, or is there: `org/name` on a hub looks like a path too."""
    for scalar in _if_relative(node):
        if scalar.value.startswith(("./", "../", "~")) or _absolute(scalar.value, folder).exists():
            yield scalar


def _absolute(text: str, folder: Path) -> Path:
    return Path(folder / Path(text).expanduser()).resolve()


def _as_yaml(path: Path) -> str:
    text = str(path)
    return text if _PLAIN_PATH.fullmatch(text) else json.dumps(text, ensure_ascii=False)
