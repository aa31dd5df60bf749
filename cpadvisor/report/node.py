"""A machine as text: its GPUs, the matrix of links, islands, ring, who holds memory."""

from cpadvisor.fabric import best_ring, islands
from cpadvisor.node import Node
from cpadvisor.report.table import table
from cpadvisor.units import DASH, format_bytes


def node_text(node: Node) -> str:
    """Everything that `inspect` knows, for people."""
    parts = [_headline(node), _gpu_table(node)]
    if len(node.gpus) > 1 or node.nics:
        parts.append(_matrix(node))
    parts.append("\n".join(_fabric_lines(node)))
    if node.holders:
        parts.append(_holder_table(node))
    parts.extend(f"warning: {warning}" for warning in node.warnings)
    return "\n\n".join(parts)


def _headline(node: Node) -> str:
    host = "" if node.host is None else f", host {node.host.cpus} CPUs, {format_bytes(node.host.memory_bytes)}"
    return f"{node.name} ({node.source}): {len(node.gpus)} GPUs{host}"


def _gpu_table(node: Node) -> str:
    rows = [
        (
            str(gpu.index),
            gpu.name or DASH,
            format_bytes(gpu.memory_bytes),
            format_bytes(gpu.used_bytes),
            DASH if gpu.numa is None else str(gpu.numa),
            gpu.cpus or DASH,
        )
        for gpu in node.gpus
    ]
    return table(("GPU", "name", "memory", "used", "NUMA", "CPUs"), rows, right=frozenset({0, 2, 3, 4}))


def _matrix(node: Node) -> str:
    headers = ("", *(f"GPU{index}" for index in node.indices), *(nic.name for nic in node.nics))
    rows = [
        (
            f"GPU{gpu.index}",
            *("X" if row == column else code or DASH for column, code in enumerate(node.links[row])),
            *(nic.links[row] or DASH for nic in node.nics),
        )
        for row, gpu in enumerate(node.gpus)
    ]
    return table(headers, rows)


def _fabric_lines(node: Node) -> list[str]:
    lines = ["islands  " + island_label(islands(node))]
    ring = best_ring(node)
    if ring is not None:
        lines.append(f"ring     {ring_label(ring.order)}, worst hop {ring.worst or DASH}")
    return lines


def island_label(groups: tuple[tuple[int, ...], ...]) -> str:
    """`{0,1,2,3} {4,5,6,7}`."""
    return " ".join("{" + ",".join(map(str, group)) + "}" for group in groups) or DASH


def ring_label(order: tuple[int, ...]) -> str:
    """A closed tour as it is walked: `0-3-2-1-0`."""
    return "-".join(str(index) for index in (*order, order[0]))


def _holder_table(node: Node) -> str:
    rows = [
        (str(h.gpu), str(h.pid), h.user or DASH, format_bytes(h.used_bytes), h.command or DASH) for h in node.holders
    ]
    return table(("GPU", "pid", "user", "holds", "command"), rows, right=frozenset({0, 1, 3}))
