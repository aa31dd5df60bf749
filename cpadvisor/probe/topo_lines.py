"""The lines of a pasted `nvidia-smi topo -m`: header, rows and legends, found among whatever else was copied.

    output  := header row+ legend? nic_legend?
    header  := device+ "CPU Affinity"? "NUMA Affinity"? "GPU NUMA ID"?
    row     := device code{one a device} cpus? numa? gpu_numa?
    device  := "GPU"n | "NIC"n | an RDMA name such as mlx5_0
    code    := X | NV# | PIX | PXB | PHB | NODE | SYS | SOC

Terminals fuse columns that fill their width (`NIC7NIC8`, `SYSSYS`) and nvidia-smi puts two tabs before its last
column, so codes are scanned one after the other, never split at separators.
"""

import re
from dataclasses import dataclass, field

_ESCAPES = re.compile(
    r"\x1b\][^\x07\x1b\n]*(?:\x07|\x1b\\)"  # window titles
    r"|\x1b\[[0-9;?]*[A-LN-Za-ln-z]|\x1b[()][0-9A-B]"  # cursor and character sets
    r"|(?:\x1b|\\033|\\x1b|\\e|\\u001b|\^\[|␛)?\[[0-9;]{0,8}m"  # colours, also where the escape itself was lost
)
_BLANKS = str.maketrans({"\u00a0": " ", "\u2007": " ", "\u202f": " ", "\u200b": "", "\ufeff": "", "│": "|", "┃": "|"})

_CODE = r"(?:NV(?:[1-3][0-9]|[1-9])|PIX|PXB|PHB|NODE|SYS|SOC|X)"
_GAP = r"[\s|]*"
_GPU = r"GPU[0-9]{1,3}(?![0-9])"
_NAMED = r"[A-Za-z][\w.\-]{0,24}?[0-9][\w.\-]{0,24}?"
_ROW = re.compile(
    rf"(?P<prefix>.*?)(?<![\w\-])(?P<label>{_GPU}|(?:NIC|mlx[45]_)[0-9]{{1,3}}(?![0-9])|{_NAMED}(?=[\s|])){_GAP}"
    rf"(?P<cells>(?:{_CODE}{_GAP})+)(?P<rest>.*)",
    re.ASCII,
)
_PREFIX = re.compile(r"(?:.*[^\w\s])?\s*(?:[0-9]+[\s|:.)]+)?", re.ASCII)
"""What may stand before a row: nothing, a line number, or what ends in punctuation, as `node1:` and `>` do."""
_CONTINUED = re.compile(rf"{_GAP}(?P<cells>(?:{_CODE}{_GAP})*)(?P<rest>.*)", re.ASCII)
_HEADER_START = re.compile(rf"(?P<prefix>.*?)(?<![\w\-])(?={_GPU})", re.ASCII)
_HEADER_TOKEN = re.compile(
    rf"(?P<gap>[\s|]+|\.\.\.|…)"
    rf"|(?P<gpu_numa>GPU\s+NUMA(?:\s+I?D?)?\b)|(?P<cpus>CPU(?:\s+A[a-z]*)?)|(?P<numa>NUMA(?:\s+A[a-z]*)?)"
    rf"|(?P<device>{_GPU}|(?:NIC|mlx[45]_)[0-9]{{1,3}}(?=mlx|NIC|GPU|CPU|NUMA|[\s|.…]|$)|{_NAMED}(?=CPU\s|NUMA\s|[\s|]|$))"
    rf"|(?P<fragment>(?:GPU|GP|G|NIC|NI|N|NU|NUM|CP|C|mlx[45]?_?|ml|m)(?=\s*$|\s))",
    re.ASCII,
)
_LEGEND = re.compile(r"\W*(?P<code>X|SYS|NODE|PHB|PXB|PIX|SOC|NV#)\s*=\s*\w", re.ASCII)
_NIC_LEGEND = re.compile(r"\W*(?P<label>NIC[0-9]{1,3})\s*[:=]\s*(?P<name>[A-Za-z][\w.\-]*)", re.ASCII)
_COMMAND = re.compile(r"\btopo\s+(?P<flag>--?[a-z_0-9]+)")
LONGEST_LINE = 4096
"""64 GPUs and 64 NICs take a quarter of it; what is longer is no row."""

_TAIL_TOKEN = re.compile(r"N/A|[0-9][0-9,\-]*", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of cells. `line` counts from 1."""

    line: int
    label: str
    cells: tuple[str, ...]
    tail: tuple[str, ...]
    """Affinities as they stand, blanks dropped."""
    junk: str | None
    """What follows the cells and is no affinity, None where nothing does."""


@dataclass(slots=True, kw_only=True)
class Matrix:
    """One header and the rows below it; the header may be missing."""

    line: int
    columns: list[str] = field(default_factory=list)
    tail: list[str] = field(default_factory=list)
    """Which affinities the header announces: `cpus`, `numa`, `gpu_numa`."""
    rows: list[Row] = field(default_factory=list)
    flag: str | None = None
    """The option of the `nvidia-smi topo` command that stands above it."""

    @property
    def has_nvlink(self) -> bool:
        """Whether any cell is NV#."""
        return any(cell.startswith("NV") for row in self.rows for cell in row.cells)


@dataclass(slots=True, kw_only=True)
class Paste:
    """Everything that was recognised."""

    matrices: list[Matrix] = field(default_factory=list)
    legend: dict[str, int] = field(default_factory=dict)
    """Line of each code that the legend explains."""
    nic_names: dict[str, str] = field(default_factory=dict)
    last_line: int = 0
    """The last line that is not blank."""


def clean_lines(text: str) -> list[str]:
    """The lines without escape codes, odd blanks and carriage returns."""
    return re.split(r"\r\n|\r|\n", _ESCAPES.sub("", text).translate(_BLANKS))


def read_paste(text: str) -> Paste:
    """Sort the lines of a pasted text into matrices and legends; what is neither is left aside."""
    paste, flag = Paste(), None
    for number, line in enumerate(clean_lines(text), start=1):
        if not line.strip() or len(line) > LONGEST_LINE:
            continue
        paste.last_line = number
        command = _COMMAND.search(line)
        if command is not None:
            flag = command["flag"]
        elif (legend := _LEGEND.match(line)) is not None:
            paste.legend.setdefault(legend["code"], number)
        elif (nic := _NIC_LEGEND.match(line)) is not None:
            paste.nic_names[nic["label"]] = nic["name"]
        elif (row := _read_row(line, number)) is not None and _belongs(row, paste):
            _matrix_for(row, paste, flag).rows.append(row)
        elif not _continue_row(line, paste):
            _read_header(line, number, paste, flag)
    return paste


def _read_row(line: str, number: int) -> Row | None:
    match = _ROW.match(line)
    if match is None or _PREFIX.fullmatch(match["prefix"]) is None or re.fullmatch(_CODE, match["label"]):
        return None
    return _make_row(number, match["label"], match["cells"], match["rest"])


def _make_row(number: int, label: str, cells: str, rest: str) -> Row:
    tail: list[str] = []
    junk = None
    for token in rest.replace("|", " ").replace("…", " ").replace("...", " ").split():
        if _TAIL_TOKEN.fullmatch(token) is None:
            junk = token
            break
        tail.append(token)
    return Row(line=number, label=label, cells=tuple(re.findall(_CODE, cells)), tail=tuple(tail), junk=junk)


def _belongs(row: Row, paste: Paste) -> bool:
    """Whether a line that reads like a row is one: prose may hold `GPU0 X` too."""
    columns = paste.matrices[-1].columns if paste.matrices else []
    if row.label.startswith("GPU"):
        return bool(columns) or row.junk is None or len(row.cells) > 1
    return row.junk is None and (not columns or row.label in columns)


def _matrix_for(row: Row, paste: Paste, flag: str | None) -> Matrix:
    """The last matrix, or a new one where this row cannot be part of it."""
    current = paste.matrices[-1] if paste.matrices else None
    repeated = current is not None and any(row.label == other.label for other in current.rows)
    if current is None or (repeated and row.label.startswith("GPU")):
        current = Matrix(line=row.line, flag=flag)
        paste.matrices.append(current)
    return current


def _continue_row(line: str, paste: Paste) -> bool:
    """Append a line that a narrow terminal wrapped to the row above it, where that row still lacks cells."""
    matrix = paste.matrices[-1] if paste.matrices else None
    match = _CONTINUED.match(line)
    if matrix is None or not matrix.rows or match is None:
        return False
    row = matrix.rows[-1]
    lacking = len(matrix.columns) - len(row.cells)
    more = _make_row(row.line, row.label, match["cells"], match["rest"])
    fits = 0 < len(more.cells) <= lacking or (lacking == 0 and not more.cells and bool(matrix.tail and more.tail))
    if not fits or row.tail or row.junk or more.junk:
        return False
    matrix.rows[-1] = Row(line=row.line, label=row.label, cells=row.cells + more.cells, tail=more.tail, junk=None)
    return True


def _read_header(line: str, number: int, paste: Paste, flag: str | None) -> None:
    """Start a matrix where the line names its columns; a wrapped header goes on in the next line."""
    current = paste.matrices[-1] if paste.matrices else None
    wrapped = current is not None and not current.rows and bool(current.columns)
    start = _HEADER_START.match(line)
    if start is not None and _PREFIX.fullmatch(start["prefix"]) is None:
        return
    if start is None and not wrapped:
        return
    found = _header_names(line[start.end() :] if start is not None else line)
    if found is None:
        return
    columns, tail = found
    if wrapped and current is not None and not set(columns) & set(current.columns):
        current.columns += columns
        current.tail += tail
    elif columns:
        paste.matrices.append(Matrix(line=number, columns=columns, tail=tail, flag=flag))


def _header_names(text: str) -> tuple[list[str], list[str]] | None:
    """Devices and affinities that a header names, None where anything else stands in it."""
    columns: list[str] = []
    tail: list[str] = []
    position = 0
    while position < len(text):
        token = _HEADER_TOKEN.match(text, position)
        if token is None:
            return None
        if token.lastgroup == "device":
            columns.append(token[0])
        elif token.lastgroup in ("cpus", "numa", "gpu_numa"):
            tail.append(token.lastgroup)
        position = token.end()
    if columns and columns[-1] in columns[:-1]:
        columns.pop()  # `NIC1` of a `NIC12` that the right edge cut
    return columns, tail
