"""Machines as JSON: what `inspect --json` writes, what `--node` reads, and the machines shipped with the package."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from cpadvisor.errors import UsageError
from cpadvisor.fabric import best_ring, fabric_warnings, islands
from cpadvisor.node import Holder, Node
from cpadvisor.probe.recorded_fields import Fields, read_fields

SCHEMA = 1
CPU = "cpu"

_MACHINES = Path(__file__).parent / "machines"


def node_json(node: Node) -> dict[str, Any]:
    """The object that `inspect --json` prints, holders of memory included. Sizes are bytes.

    Islands, ring and the fabric's warnings follow from the links; reading the object back derives them anew.
    """
    ring = best_ring(node)
    return {
        "schema": SCHEMA,
        "name": node.name,
        "source": node.source,
        "host": None if node.host is None else {"cpus": node.host.cpus, "memory_bytes": node.host.memory_bytes},
        "gpus": [
            {
                "index": gpu.index,
                "name": gpu.name,
                "memory_bytes": gpu.memory_bytes,
                "used_bytes": gpu.used_bytes,
                "numa": gpu.numa,
                "cpus": gpu.cpus,
                "uuid": gpu.uuid,
            }
            for gpu in node.gpus
        ],
        "links": [list(row) for row in node.links],
        "islands": [list(group) for group in islands(node)],
        "nics": [{"name": nic.name, "links": list(nic.links)} for nic in node.nics],
        "ring": None if ring is None else {"order": list(ring.order), "worst": ring.worst},
        "holders": [_holder_json(holder) for holder in node.holders],
        "warnings": list(dict.fromkeys((*node.warnings, *fabric_warnings(node)))),
    }


def _holder_json(holder: Holder) -> dict[str, Any]:
    return {
        "gpu": holder.gpu,
        "pid": holder.pid,
        "user": holder.user,
        "command": holder.command,
        "used_bytes": holder.used_bytes,
    }


def node_from_json(document: Mapping[str, Any], *, name: str = "node") -> Node:
    """The node of an `inspect` object. Raises UsageError that lists everything wrong with it; `name` leads the list."""
    if not isinstance(document, Mapping):
        raise UsageError(f"{name}: a machine is a JSON object as `cpadvisor inspect --json` writes it")
    if document.get("schema") != SCHEMA:
        raise UsageError(
            f"{name}: schema is {document.get('schema')!r}, this version reads {SCHEMA}; write the file anew with "
            "`cpadvisor inspect --json`"
        )
    fields = Fields()
    node = read_fields(document, fields)
    if fields.problems or node is None:
        raise UsageError(f"{name}: " + "; ".join(fields.problems))
    derived = fabric_warnings(node)
    return replace(node, warnings=tuple(warning for warning in node.warnings if warning not in derived))


def shipped() -> tuple[str, ...]:
    """Names that `--node` takes without a file, `cpu` among them."""
    return (CPU, *sorted(path.stem for path in _MACHINES.glob("*.json")))


def load_node(name_or_path: str) -> Node:
    """A shipped machine by name, or one from a file that `inspect --json` wrote. Raises UsageError."""
    if name_or_path == CPU:
        from cpadvisor.probe.host import cpu_node, read_host  # psutil costs as much as all else here

        return cpu_node(read_host())
    if name_or_path in shipped():
        return _read(_MACHINES / f"{name_or_path}.json", name_or_path)
    path = Path(name_or_path).expanduser()
    if path.suffix == ".json" or path.exists():
        return _read(path, name_or_path)
    raise UsageError(
        f"node {name_or_path!r} is neither a shipped machine nor a file; {_nearest(name_or_path)}"
        f"shipped are {', '.join(shipped())}"
    )


def _nearest(name: str) -> str:
    from difflib import get_close_matches  # a tenth of what `inspect` costs, for a slip of the pen

    near = get_close_matches(name, shipped(), n=1, cutoff=0.5)
    return f"did you mean {near[0]}? " if near else ""


def _read(path: Path, name: str) -> Node:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(
            f"node {name}: {error.strerror or error}; give a file of `cpadvisor inspect --json`"
        ) from error
    except UnicodeDecodeError as error:
        raise UsageError(f"node {name}: not UTF-8 text; give a file of `cpadvisor inspect --json`") from error
    except (ValueError, RecursionError) as error:
        where = f"line {error.lineno}: {error.msg}" if isinstance(error, json.JSONDecodeError) else str(error)
        raise UsageError(f"node {name} is no JSON, {where}; give a file of `cpadvisor inspect --json`") from error
    return node_from_json(document, name=f"node {name}")
