"""The comments that `write` made, kept true: whose line it is, what the file is for, and what is predicted."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import yaml

from cpadvisor.plan.layout import Layout
from cpadvisor.write.lines import ORIGINS
from cpadvisor.write.split import SIZE_KEYS
from cpadvisor.yaml_reader import read_yaml

PREDICTION = "cpadvisor.prediction"
OWN_BLOCK = "cpadvisor"
PREDICTED_FROM = (
    *SIZE_KEYS.values(),
    "sequence_len",
    "micro_batch_size",
    "gradient_accumulation_steps",
    "gradient_checkpointing",
    "fsdp_config",
    "bf16",
    "cpadvisor.recompute",
    "cpadvisor.method",
    "cpadvisor.ulysses_degree",
)
"""Keys on which memory and time depend: where one changes, the prediction in the file holds no longer."""
_PREDICTED_LINES = (("# Predicted peak: ", ""), ("# Predicted step: ", ""))
_START_LINE = ("# Start: ", "nproc")
"""Of the header: how a line begins, and a word in it."""
_LEGEND = re.compile(r"(# Behind each line stands .*), trainer or default\.")
_TITLE = re.compile(
    r"# (?P<model>.+), [\d,]+ tokens, (?P<engine>[^;]+?), (?P<layout>[^;,]+) on (?P<place>[^;]+)"
    r"(?P<end>; written by cpadvisor.*)"
)
_WRITTEN_LINE = re.compile(rf"(?P<start>(?P<key>[a-z_0-9]+):.*? # )(?P<origin>{'|'.join(ORIGINS)})(?:: .*)?\Z")
"""A line of `write`: its key, and the comment that says what decided its value."""
_PRODUCTS = {
    "gradient_accumulation_steps": (*SIZE_KEYS.values(), "micro_batch_size"),
    SIZE_KEYS["dp_shard"]: (SIZE_KEYS["cp"],),
}
"""Keys whose comment works out a product, to the other keys that are factors of it."""


def makes_untrue(keys: Iterable[str]) -> bool:
    """Whether a prediction no longer holds where these dotted keys change."""
    return any(key == known or key.startswith(f"{known}.") for key in keys for known in PREDICTED_FROM)


def with_true_comments(old: str, new: str, keys: Iterable[str]) -> str:
    """The changed text, with the comments that the change of these dotted keys has made untrue renewed or dropped."""
    before, after = (read_yaml(text, name="config")[0] for text in (old, new))
    changed = {key for key in keys if _at(before, key) != _at(after, key)}
    decided = {key for key in changed if not key.startswith(PREDICTION)}
    gone = _gone_lines(changed, before, after)
    is_written = any(_WRITTEN_LINE.match(line) for line in old.splitlines())
    bare = _own_lines(new, before, decided) if is_written else frozenset[int]()
    lines: list[str] = []
    for place, whole in enumerate(new.splitlines(keepends=True)):
        line = whole.rstrip("\r\n")
        if any(line.startswith(beginning) and word in line for beginning, word in gone):
            continue
        if decided:
            line = _true(line, decided, before, after, is_bare=place in bare)
        lines.append(line + whole[len(whole.rstrip("\r\n")) :])
    return "".join(lines)


def _gone_lines(changed: set[str], before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Lines of the header that hold no longer: predictions of other values, a command that starts other ranks."""
    is_stale = makes_untrue(changed) or any(key.startswith(PREDICTION) for key in changed)
    is_other_start = _layout(before).world != _layout(after).world
    return (*(_PREDICTED_LINES if is_stale else ()), *((_START_LINE,) if is_other_start else ()))


def _true(line: str, decided: set[str], before: Mapping[str, Any], after: Mapping[str, Any], *, is_bare: bool) -> str:
    """One line, without its end, after the doctor has decided these keys."""
    if title := _TITLE.fullmatch(line):
        return _true_title(title, decided, before, after)
    if legend := _LEGEND.fullmatch(line):
        return f"{legend[1]}, trainer, default or doctor."
    found = _WRITTEN_LINE.match(line)
    if found is None:
        return f"{line.rstrip()}  # doctor" if is_bare and "#" not in line else line
    if found["key"] != OWN_BLOCK and any(key.split(".")[0] == found["key"] for key in decided):
        return f"{found['start']}doctor"
    is_stale = any(key in decided for key in _PRODUCTS.get(found["key"], ()))
    return f"{found['start']}{found['origin']}" if is_stale else line


def _true_title(title: re.Match[str], decided: set[str], before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """The first line with the new length and sizes; the machine goes where another number of GPUs is asked for."""
    if not decided & {"sequence_len", *SIZE_KEYS.values()}:
        return title[0]
    tokens, was, now = after.get("sequence_len"), _layout(before), _layout(after)
    if type(tokens) is not int:
        return f"# {title['end'].lstrip('; ')}"
    place = f" on {title['place']}" if was.world == now.world else ""
    words = title["layout"] if was == now else now.words
    return f"# {title['model']}, {tokens:,} tokens, {title['engine']}, {words}{place}{title['end']}"


def _layout(values: Mapping[str, Any]) -> Layout:
    sizes = {axis: values.get(key) for axis, key in SIZE_KEYS.items()}
    return Layout(**{axis: size if type(size) is int and size > 0 else 1 for axis, size in sizes.items()})


def _own_lines(new: str, before: Mapping[str, Any], decided: set[str]) -> frozenset[int]:
    """Lines, counted from 0, on which the decided keys stand; of a block that is new, the line of the block."""
    root = yaml.compose(new, Loader=yaml.SafeLoader)
    found = (_line_of(root, before, key.split(".")) for key in decided)
    return frozenset(place for place in found if place is not None)


def _line_of(node: Any, before: Any, path: list[str]) -> int | None:
    """None for a key that is not there, and for one whose value goes over lines that a comment would break."""
    if not isinstance(node, yaml.MappingNode):
        return None
    for key, value in node.value:
        if key.value != path[0]:
            continue
        inner = before.get(path[0]) if isinstance(before, Mapping) else None
        if len(path) > 1 and inner is not None:
            return _line_of(value, inner, path[1:])
        is_block = isinstance(value, yaml.CollectionNode) and not value.flow_style
        return key.start_mark.line if is_block or value.start_mark.line == value.end_mark.line else None
    return None


def _at(values: Any, key: str) -> Any:
    if isinstance(values, Mapping) and key in values:
        return values[key]
    for name in key.split("."):
        values = values.get(name) if isinstance(values, Mapping) else None
    return values
