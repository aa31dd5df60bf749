"""The text of `nvidia-smi topo -m`, as copied from a terminal, a ticket or a file, becomes a Node.

The matrix is symmetric and each row marks its own column with X. Both facts
are used: X proves that no cell was lost, and a row that a cut took away is
known from the others.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from cpadvisor.errors import TopologyError
from cpadvisor.fabric import MOST_GPUS
from cpadvisor.node import SELF, Gpu, Nic, Node, link_rank
from cpadvisor.probe.topo_errors import P2P_CODES, RUN, no_matrix, require_nvlink_visible
from cpadvisor.probe.topo_lines import Matrix, Paste, Row, read_paste

_TAIL = ("cpus", "numa", "gpu_numa")
_CPU_LIST = re.compile(r"[0-9]{1,5}(?:-[0-9]{1,5})?(?:,[0-9]{1,5}(?:-[0-9]{1,5})?)*")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reading:
    """A matrix whose columns are known, with every cell that stands in the text whole."""

    name: str
    matrix: Matrix
    columns: tuple[str, ...]
    last_line: int
    cells: Mapping[tuple[str, str], tuple[str, int]]
    """Code and line of each pair (row, column) of devices."""

    @property
    def devices(self) -> tuple[str, ...]:
        """Every device that the header or a row names, once."""
        return tuple(dict.fromkeys((*self.columns, *(row.label for row in self.matrix.rows))))

    def link(self, first: str, second: str) -> str | None:
        """The code of a pair; where its two cells differ, the slower one."""
        codes = [self.cells[pair][0] for pair in ((first, second), (second, first)) if pair in self.cells]
        return min(codes, key=link_rank) if codes else None


def parse_topology(text: str, *, name: str = "pasted") -> Node:
    """The node that the first matrix with NVLink in a text describes, else the first matrix.

    GPUs and NICs come out in the order of their numbers; GPUs have neither name nor memory, which the
    text does not hold. Raises TopologyError, with the line and what to run, where the links are not certain.
    """
    paste = read_paste(text)
    candidates = [matrix for matrix in paste.matrices if _is_topology(matrix)]
    if not candidates:
        raise no_matrix(text, paste, name=name)
    matrix = next((matrix for matrix in candidates if matrix.has_nvlink), candidates[0])
    require_nvlink_visible(matrix, paste, name=name)
    warnings = [
        f"{name}, line {other.line}: another matrix; the one of line {matrix.line} is read"
        for other in candidates
        if other is not matrix
    ]
    return _build(matrix, paste, name, warnings)


def _is_topology(matrix: Matrix) -> bool:
    rows = [row for row in matrix.rows if _is_gpu(row.label)]
    return bool(rows) and not any(row.junk in P2P_CODES for row in rows)


def _build(matrix: Matrix, paste: Paste, name: str, warnings: list[str]) -> Node:
    columns = _columns(matrix, name, warnings)
    cells = _cells(matrix, columns, paste, name)
    reading = _Reading(name=name, matrix=matrix, columns=columns, last_line=paste.last_line, cells=cells)
    kept = _whole_gpus(reading, warnings)
    warnings.extend(_asymmetries(kept, reading))
    nics = [
        Nic(name=paste.nic_names.get(nic, nic), links=tuple(reading.link(gpu, nic) for gpu in kept))
        for nic in reading.devices
        if not _is_gpu(nic)
    ]
    return Node(
        name=name,
        source="topo",
        gpus=tuple(_gpu(label, reading) for label in kept),
        links=tuple(tuple(None if a == b else reading.link(a, b) for b in kept) for a in kept),
        nics=tuple(sorted((nic for nic in nics if any(nic.links)), key=lambda nic: natural_key(nic.name))),
        warnings=tuple(warnings),
    )


def _is_gpu(label: str) -> bool:
    return re.fullmatch(r"GPU[0-9]{1,3}", label) is not None


def _number(label: str) -> int:
    return int(label[3:])


def natural_key(name: str) -> tuple[tuple[int, str], ...]:
    """A sort key under which `mlx5_2` comes before `mlx5_10`."""
    return tuple((len(part) if part.isdigit() else 0, part) for part in re.split(r"([0-9]+)", name))


def _columns(matrix: Matrix, name: str, warnings: list[str]) -> tuple[str, ...]:
    """The device of each column: by the header, and past its end by the row that has its X there."""
    columns: list[str | None] = list(matrix.columns)
    duplicate = next((label for label in matrix.columns if matrix.columns.count(label) > 1), None)
    if duplicate is not None:
        raise TopologyError(f"{name}, line {matrix.line}: the header names {duplicate} twice; {RUN}")
    columns += [None] * (max(len(row.cells) for row in matrix.rows) - len(columns))
    for row in matrix.rows:
        _require_own_column(row, columns, name)
    unnamed = [position for position, label in enumerate(columns) if label is None]
    if not unnamed:
        return tuple(label for label in columns if label is not None)
    bonded = any(cell.startswith("NV") for row in matrix.rows for cell in row.cells[unnamed[0] :])
    what = "of a GPU, for it holds NVLink" if bonded else "taken for a NIC's"
    warnings.append(f"{name}, line {matrix.line}: column {unnamed[0] + 1} has no name in the header; it is {what}")
    spare = (f"{'GPU' if bonded else 'NIC'}{number}" for number in range(len(columns) * 2))
    taken = {label for label in columns if label is not None} | {row.label for row in matrix.rows}
    return tuple(label if label is not None else next(s for s in spare if s not in taken) for label in columns)


def _require_own_column(row: Row, columns: list[str | None], name: str) -> None:
    """Name the column in which the row has its X, or refuse the row: X elsewhere means a lost or an extra cell."""
    own = [position for position, cell in enumerate(row.cells) if cell == SELF]
    expected = columns.index(row.label) if row.label in columns else None
    if not own and (expected is None or expected >= len(row.cells)):
        return
    if len(own) == 1 and columns[own[0]] is None and expected is None:
        columns[own[0]] = row.label
    elif own != [expected]:
        where = f"column {own[0] + 1} ({columns[own[0]] or 'no name'})" if own else "no column"
        raise TopologyError(
            f"{name}, line {row.line}: row {row.label} has its X in {where}, its own is "
            f"{'not in the header' if expected is None else f'column {expected + 1}'}: a cell or a name was lost; {RUN}"
        )


def _cells(
    matrix: Matrix, columns: tuple[str, ...], paste: Paste, name: str
) -> Mapping[tuple[str, str], tuple[str, int]]:
    cells: dict[tuple[str, str], tuple[str, int]] = {}
    for row in matrix.rows:
        lacking = len(row.cells) < len(columns)
        if lacking and row.junk is not None and not _is_cut_code(row.junk):
            raise TopologyError(
                f"{name}, line {row.line}: {row.junk!r} stands where row {row.label} has its link to "
                f"{columns[len(row.cells)]}; a link is X, NV#, PIX, PXB, PHB, NODE or SYS; {RUN}"
            )
        whole = row.cells[:-1] if _is_cut(row, matrix, columns, paste) and row.junk is None else row.cells
        for column, code in zip(columns, whole, strict=False):
            cells.setdefault((row.label, column), (code, row.line))
    return cells


def _is_cut_code(token: str) -> bool:
    return any(code.startswith(token) for code in ("NV", "PIX", "PXB", "PHB", "NODE", "SYS", "SOC", "N/A"))


def _is_cut(row: Row, matrix: Matrix, columns: tuple[str, ...], paste: Paste) -> bool:
    """Whether the row's last cell may be half a cell: `NV1` of `NV18`."""
    ends_text = row.line == paste.last_line and _is_gpu(row.label) and bool(matrix.tail) and not row.tail
    return len(row.cells) < len(columns) or ends_text


def _whole_gpus(reading: _Reading, warnings: list[str]) -> list[str]:
    """The GPUs whose links to all others are known, by their own row or by those of the others."""
    name, line = reading.name, reading.matrix.line
    gpus = sorted((label for label in reading.devices if _is_gpu(label)), key=_number)
    if len(gpus) > MOST_GPUS:
        raise TopologyError(f"{name}, line {line}: {len(gpus)} GPUs on one node; at most {MOST_GPUS} are read")
    whole = [gpu for gpu in gpus if all(gpu == other or reading.link(gpu, other) is not None for other in gpus)]
    losses = _losses(gpus, reading)
    if len(whole) < min(len(gpus), 2):
        raise TopologyError(f"{name}, {losses or f'line {line}: cells are missing'}; {RUN}")
    if len(whole) < len(gpus):
        warnings.append(f"{name}, {losses}; only {', '.join(whole)} are kept, their links are whole; {RUN}")
    elif losses:
        warnings.append(f"{name}, {losses}; these links are taken from the rows of the other GPUs")
    else:
        cut = [row.line for row in reading.matrix.rows if _is_gpu(row.label) and len(row.cells) < len(reading.columns)]
        if cut:
            warnings.append(f"{name}, line {cut[0]}: the right edge is cut; links of the last NICs are not known")
    return whole


def _losses(gpus: list[str], reading: _Reading) -> str:
    """Which rows are cut or missing; empty where each GPU has its links in its own row."""
    rows = reading.matrix.rows
    reasons = [
        f"line {row.line}: row {row.label} is cut after {len(row.cells)} of {len(reading.columns)} cells"
        for row in rows
        if _is_gpu(row.label) and any((row.label, gpu) not in reading.cells for gpu in gpus)
    ]
    missing = [gpu for gpu in gpus if gpu not in {row.label for row in rows}]
    if missing:
        last = max(row.line for row in rows)
        reasons.append(f"line {last}: the row{'s' * (len(missing) > 1)} of {', '.join(missing)} did not follow")
    return "; ".join(reasons)


def _asymmetries(gpus: list[str], reading: _Reading) -> list[str]:
    """A sentence for each pair whose two cells contradict each other."""
    found: list[str] = []
    for second in gpus:
        for first in gpus[: gpus.index(second)]:
            there, back = reading.cells.get((first, second)), reading.cells.get((second, first))
            if there is not None and back is not None and there[0] != back[0]:
                found.append(
                    f"{reading.name}: {first} to {second} is {there[0]} (line {there[1]}) but {second} to {first} is "
                    f"{back[0]} (line {back[1]}); {reading.link(first, second)} is assumed both ways"
                )
    return found


def _gpu(label: str, reading: _Reading) -> Gpu:
    announced = tuple(reading.matrix.tail)
    row = next((row for row in reading.matrix.rows if row.label == label), None)
    tail = () if row is None else row.tail
    if row is not None and row.line == reading.last_line and len(tail) < len(announced):
        tail = tail[:-1]  # the text ends within it: `0-5` of `0-51,104-155`
    names = announced if announced and len(tail) <= len(announced) else _TAIL
    values = dict(zip(names, tail, strict=False))
    cpus = values.get("cpus", "").rstrip(",-")
    numa = re.match(r"[0-9]{1,4}(?![0-9])", values.get("numa", ""))
    return Gpu(
        index=_number(label),
        cpus=cpus if _CPU_LIST.fullmatch(cpus) else None,
        # Grace lists the memory nodes of its GPUs behind the CPU's own: `0,3-9,11-17`.
        numa=None if numa is None else int(numa[0]),
    )
