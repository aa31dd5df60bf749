"""Why a text is not a topology matrix, which line shows it, and what to run instead."""

import re

from cpadvisor.errors import TopologyError
from cpadvisor.probe.topo_lines import Matrix, Paste, clean_lines

RUN = "run `nvidia-smi topo -m` and give its whole output"

P2P_CODES = frozenset({"OK", "CNS", "GNS", "TNS", "NS", "DR", "U"})

_P2P_ROW = re.compile(r"\s*GPU[0-9]+[\s|]+(?:(?:X|OK|CNS|GNS|TNS|NS|DR|U)[\s|]+)*(?:OK|CNS|GNS|TNS|NS|DR|U)\b")
_SIGNS: tuple[tuple[str, str], ...] = (
    (
        r"Failed to run topology",
        "nvidia-smi could not make the matrix (an RDMA device it does not know, such as SoftiWARP's siw, is a known "
        "cause); on that machine `cpadvisor inspect` asks the driver itself",
    ),
    (
        r"couldn't communicate with the NVIDIA driver|Driver/library version mismatch|Failed to initialize NVML",
        "nvidia-smi did not reach the driver; mend the driver (often a reboot after its upgrade), then " + RUN,
    ),
    (r"No devices were found", "nvidia-smi saw no GPU; check that GPUs are passed into this container or job"),
    (r"nvidia-smi: (?:command )?not found|not recognized as", "nvidia-smi is not installed where this ran; " + RUN),
    (r"Link [0-9]+: .*GB/s", "this is `nvidia-smi nvlink --status`, which does not say which GPUs are joined; " + RUN),
    (r"GPU [0-9]+: .*UUID", "this is the list of `nvidia-smi -L`, which shows no links; " + RUN),
    (
        r"NVIDIA-SMI [0-9].*Driver Version|Driver Version *:",
        "this is the summary of plain `nvidia-smi`, which shows no links; " + RUN,
    ),
    (r"(?i)rocm|amd-smi|XGMI", "this is the output of an AMD tool; only NVIDIA's matrix is read: " + RUN),
    (r"^\s*[\[{]", "this is JSON; a file that `inspect --json` wrote goes to --node, here " + RUN),
)


def no_matrix(text: str, paste: Paste, *, name: str) -> TopologyError:
    """The error for a text in which no row of a matrix was found."""
    lines = clean_lines(text)
    if not any(line.strip() for line in lines):
        return TopologyError(f"{name}: the text is empty; {RUN}")
    for number, line in enumerate(lines, start=1):
        if _P2P_ROW.match(line):
            return TopologyError(
                f"{name}, line {number}: this is the matrix of `nvidia-smi topo -p2p`, which says whether GPUs may "
                f"talk, not over what; {RUN}"
            )
    header = next((matrix for matrix in paste.matrices if matrix.columns), None)
    if header is not None:
        return TopologyError(
            f"{name}, line {header.line}: the header names {', '.join(header.columns)} but no row follows; "
            f"the text is cut; {RUN}"
        )
    for pattern, meaning in _SIGNS:
        for number, line in enumerate(lines, start=1):
            if re.search(pattern, line):
                return TopologyError(f"{name}, line {number}: {meaning}")
    first = next(number for number, line in enumerate(lines, start=1) if line.strip())
    shown = lines[first - 1].strip()[:60]
    return TopologyError(
        f"{name}, line {first}: no topology matrix; no line starts with GPU0 and link codes, "
        f"the first reads {shown!r}; {RUN}"
    )


def require_nvlink_visible(matrix: Matrix, paste: Paste, *, name: str) -> None:
    """Refuse the PCIe-only form: without NV# it cannot be told from a machine that has no NVLink."""
    if matrix.has_nvlink or sum(row.label.startswith("GPU") for row in matrix.rows) < 2:
        return
    if matrix.flag in ("-mp", "--matrix_pci"):
        line, sign = matrix.line, f"the command above it is `topo {matrix.flag}`"
    elif {"PIX", "PXB", "PHB"} <= paste.legend.keys() and "NV#" not in paste.legend:
        line, sign = max(paste.legend.values()), "its legend ends without NV#"
    else:
        return
    raise TopologyError(
        f"{name}, line {line}: this is the PCIe-only matrix of `nvidia-smi topo -mp` ({sign}), "
        f"which hides NVLink; {RUN}"
    )
