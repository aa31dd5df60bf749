"""Each field of a machine's JSON, checked by type and range; every problem is collected, none stops the reading."""

from collections.abc import Mapping
from typing import Any

from cpadvisor.fabric import MOST_GPUS
from cpadvisor.node import PCIE_CODES, Gpu, Holder, Host, Nic, Node

SOURCES = ("nvml", "topo", "recorded")

_LINKS = frozenset({*PCIE_CODES, "SOC", *(f"NV{count}" for count in range(1, 100))})


class Fields:
    """Reads values and remembers what is wrong with them, each by its path: `gpus[3].memory_bytes`."""

    def __init__(self) -> None:
        self.problems: list[str] = []

    def problem(self, path: str, rule: str, value: object) -> None:
        """Remember that the value at a path breaks a rule."""
        shown = repr(value)
        self.problems.append(f"{path} {rule}, not {shown if len(shown) <= 40 else shown[:37] + '...'}")

    def whole(self, row: Mapping[str, Any], key: str, path: str) -> int | None:
        """A whole number from 0 up, or None where the key is missing or null."""
        value = row.get(key)
        if value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= 0):
            return value
        self.problem(f"{path}{key}", "is a whole number from 0 up or null", value)
        return None

    def text(self, row: Mapping[str, Any], key: str, path: str) -> str | None:
        """A text, or None where the key is missing or null."""
        value = row.get(key)
        if value is None or isinstance(value, str):
            return value
        self.problem(f"{path}{key}", "is a text or null", value)
        return None

    def rows(self, document: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
        """A list of objects; a missing one is empty."""
        value = document.get(key, [])
        if isinstance(value, list) and all(isinstance(row, Mapping) for row in value):
            return value
        self.problem(key, "is a list of objects", value)
        return []

    def link(self, value: object, path: str) -> str | None:
        """A link code, or None for an unknown one."""
        if value is None or (isinstance(value, str) and value in _LINKS):
            return value
        self.problem(path, "is NV#, PIX, PXB, PHB, NODE, SYS, SOC or null", value)
        return None


def read_fields(document: Mapping[str, Any], fields: Fields) -> Node | None:
    """The node, complete where `fields` has no problem afterwards."""
    gpus = tuple(_gpu(row, f"gpus[{number}].", fields) for number, row in enumerate(fields.rows(document, "gpus")))
    indices = [gpu.index for gpu in gpus]
    if not 1 <= len(gpus) <= MOST_GPUS:
        fields.problem("gpus", f"holds 1 to {MOST_GPUS} GPUs", len(gpus))
        return None
    if len(set(indices)) < len(indices):
        fields.problem("gpus", "have indices that differ", indices)
    source = document.get("source")
    if source not in SOURCES:
        fields.problem("source", f"is one of {', '.join(SOURCES)}", source)
    return Node(
        name=fields.text(document, "name", "") or "recorded",
        source=str(source),
        gpus=gpus,
        links=_links(document.get("links"), len(gpus), fields),
        host=_host(document.get("host"), fields),
        nics=tuple(_nic(row, number, len(gpus), fields) for number, row in enumerate(fields.rows(document, "nics"))),
        holders=tuple(
            _holder(row, f"holders[{number}].", indices, fields)
            for number, row in enumerate(fields.rows(document, "holders"))
        ),
        warnings=_warnings(document.get("warnings", []), fields),
    )


def _gpu(row: Mapping[str, Any], path: str, fields: Fields) -> Gpu:
    index = fields.whole(row, "index", path)
    if index is None and row.get("index") is None:
        fields.problem(f"{path}index", "is the GPU's number", None)
    return Gpu(
        index=index or 0,
        name=fields.text(row, "name", path),
        memory_bytes=fields.whole(row, "memory_bytes", path),
        used_bytes=fields.whole(row, "used_bytes", path),
        numa=fields.whole(row, "numa", path),
        cpus=fields.text(row, "cpus", path),
        uuid=fields.text(row, "uuid", path),
    )


def _links(value: object, count: int, fields: Fields) -> tuple[tuple[str | None, ...], ...]:
    if not isinstance(value, list) or [len(row) if isinstance(row, list) else -1 for row in value] != [count] * count:
        fields.problem("links", f"has {count} rows of {count} codes, one a GPU", value)
        return ()
    links = tuple(
        tuple(fields.link(code, f"links[{a}][{b}]") for b, code in enumerate(row)) for a, row in enumerate(value)
    )
    for a in range(count):
        if links[a][a] is not None:
            fields.problem(f"links[{a}][{a}]", "is null, a GPU has no link to itself", links[a][a])
        for b in range(a):
            if links[a][b] != links[b][a]:
                fields.problem(f"links[{a}][{b}]", f"equals links[{b}][{a}], {links[b][a]!r}", links[a][b])
    return links


def _host(value: object, fields: Fields) -> Host | None:
    if value is None:
        return None
    if not isinstance(value, Mapping):
        fields.problem("host", "is an object or null", value)
        return None
    cpus, memory = fields.whole(value, "cpus", "host."), fields.whole(value, "memory_bytes", "host.")
    if not cpus or not memory:
        fields.problem("host", "has cpus and memory_bytes above 0", dict(value))
        return None
    return Host(cpus=cpus, memory_bytes=memory)


def _nic(row: Mapping[str, Any], number: int, count: int, fields: Fields) -> Nic:
    path = f"nics[{number}]."
    links = row.get("links")
    if not isinstance(links, list) or len(links) != count:
        fields.problem(f"{path}links", f"has {count} codes, one a GPU", links)
        links = []
    codes = tuple(fields.link(code, f"{path}links[{position}]") for position, code in enumerate(links))
    return Nic(name=fields.text(row, "name", path) or f"NIC{number}", links=codes)


def _holder(row: Mapping[str, Any], path: str, indices: list[int], fields: Fields) -> Holder:
    gpu, pid = fields.whole(row, "gpu", path), fields.whole(row, "pid", path)
    if gpu not in indices:
        fields.problem(f"{path}gpu", f"is one of {indices}", gpu)
    if pid is None:
        fields.problem(f"{path}pid", "is a process id", row.get("pid"))
    return Holder(
        gpu=gpu or 0,
        pid=pid or 0,
        user=fields.text(row, "user", path),
        command=fields.text(row, "command", path),
        used_bytes=fields.whole(row, "used_bytes", path),
    )


def _warnings(value: object, fields: Fields) -> tuple[str, ...]:
    if isinstance(value, list) and all(isinstance(line, str) for line in value):
        return tuple(value)
    fields.problem("warnings", "is a list of texts", value)
    return ()
