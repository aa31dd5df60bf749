"""Any node, written in every form in which `nvidia-smi topo -m` is seen, parses back to itself."""

from dataclasses import dataclass, replace

from hypothesis import given, settings
from hypothesis import strategies as st

from cpadvisor.errors import TopologyError
from cpadvisor.node import Gpu, Nic, Node
from cpadvisor.probe.topo import natural_key, parse_topology

PCIE = ("PIX", "PXB", "PHB", "NODE", "SYS")
CODES = (*(f"NV{count}" for count in (1, 2, 4, 6, 8, 12, 16, 18, 36)), *PCIE, "SOC")
NIC_NAMES = (
    "mlx5_0",
    "mlx5_1",
    "mlx5_2",
    "mlx5_10",
    "mlx4_0",
    "mlx5_bond_0",
    "rdmap16s27",
    "bnxt_re0",
    "irdma1",
    "ibp12s0",
)
TAILS = ("CPU Affinity", "NUMA Affinity", "GPU NUMA ID")
LEGENDS = {
    "none": "",
    "new": "PXB  = multiple PCIe bridges\n  PIX  = Connection traversing at most a single PCIe bridge",
    "old": "PXB  = multiple PCIe switches\n  PIX  = Connection traversing a single PCIe switch",
}


@dataclass(frozen=True, kw_only=True)
class Style:
    separator: str
    """`tabs` as nvidia-smi prints, `columns` of a terminal, `space`, or `pipes` of a Markdown table."""
    escapes: str
    header: str
    """`blank` first, `flush` left, or `missing`."""
    tails: tuple[str, ...]
    numa_list: bool
    numbered_nics: str
    """`legend`, `bare` or `named`."""
    nic_order: int
    nic_rows: bool
    fused: int
    legend: str
    ellipsis: bool
    prompt: bool
    prefix: str
    newline: str


@st.composite
def nodes(draw):
    size = draw(st.integers(1, 16))
    links = [[None] * size for _ in range(size)]
    for high in range(size):
        for low in range(high):
            links[low][high] = links[high][low] = draw(st.sampled_from(CODES))
    names = sorted(draw(st.sets(st.sampled_from(NIC_NAMES), max_size=6)), key=natural_key)
    paths = st.tuples(*[st.sampled_from(PCIE)] * size)
    return Node(
        name="pasted",
        source="topo",
        gpus=tuple(
            Gpu(
                index=index,
                numa=draw(st.one_of(st.none(), st.integers(0, 31))),
                cpus=draw(st.sampled_from((None, "0", "0-31", "0-47,96-143", "0,2,4,6,8,10"))),
            )
            for index in range(size)
        ),
        links=tuple(map(tuple, links)),
        nics=tuple(Nic(name=name, links=draw(paths)) for name in names),
    )


styles = st.builds(
    Style,
    separator=st.sampled_from(("tabs", "columns", "space", "pipes")),
    escapes=st.sampled_from(("", "\x1b[4m", "\x1b[1;4m", "[4m", "^[[4m")),
    header=st.sampled_from(("blank", "flush", "missing")),
    tails=st.sampled_from(((), TAILS[:1], TAILS[:2], TAILS, ("NUMA",), ("CPU", "NUMA"))),
    numa_list=st.booleans(),
    numbered_nics=st.sampled_from(("legend", "bare", "named")),
    nic_order=st.sampled_from((1, -1)),
    nic_rows=st.booleans(),
    fused=st.integers(0, 2**16),
    legend=st.sampled_from(tuple(LEGENDS)),
    ellipsis=st.booleans(),
    prompt=st.booleans(),
    prefix=st.sampled_from(("", "> ", "node1: ", "[1,0]<stdout>:")),
    newline=st.sampled_from(("\n", "\r\n")),
)


def join(cells, style, *, header=False):
    """Cells in one line; `fused` is a mask of the gaps that a narrow terminal swallowed."""
    gap = {"tabs": "\t", "columns": "   ", "space": " ", "pipes": " | "}[style.separator]
    line = cells[0]
    for position, cell in enumerate(cells[1:]):
        fusable = position > 0 and not (header and style.numbered_nics == "named") and style.separator == "columns"
        line += ("" if fusable and style.fused >> position & 1 else gap) + cell
    return line


def affinities(gpu, style):
    numa = "N/A" if gpu.numa is None else f"{gpu.numa},{gpu.numa + 3}-40" if style.numa_list else str(gpu.numa)
    values = {"CPU": gpu.cpus or "N/A", "NUMA": numa, "GPU": "\tN/A"}
    return [values[tail.split()[0]] for tail in style.tails]


def render(node, style):
    count = len(node.nics)
    labels = [nic.name if style.numbered_nics == "named" else f"NIC{k}" for k, nic in enumerate(node.nics)]
    order = list(range(count))[:: style.nic_order]
    gap = {"tabs": "\t", "columns": "   ", "space": " ", "pipes": " | "}[style.separator]
    lines = ["root@node:~# nvidia-smi topo -m"] if style.prompt else []
    dots = ["..."] if style.ellipsis else []
    if style.header != "missing":
        names = [f"GPU{gpu.index}" for gpu in node.gpus] + [labels[k] for k in order]
        header = gap.join([join(names, style, header=True), *style.tails, *dots])
        reset = "\x1b[0m" if "\x1b" in style.escapes else "[0m" if style.escapes else ""
        lines.append(style.prefix + ("\t" if style.header == "blank" else "") + style.escapes + header + reset)
    for row, gpu in enumerate(node.gpus):
        cells = [" X " if a == row else code for a, code in enumerate(node.links[row])]
        cells += [node.nics[k].links[row] for k in order]
        line = gap.join([f"GPU{gpu.index}", join(cells, style), *affinities(gpu, style), *dots])
        lines.append(style.prefix + line)
    if style.nic_rows or style.header == "missing":
        for k in order:
            cells = [*node.nics[k].links, *("X" if other == k else "SYS" for other in order)]
            lines.append(style.prefix + labels[k] + gap + join(cells, style) + "\t\t\t\t")
    if style.legend != "none":
        lines += ["", "Legend:", "", "  X    = Self", f"  PHB  = a PCIe Host Bridge\n  {LEGENDS[style.legend]}"]
        lines += ["  NV#  = Connection traversing a bonded set of # NVLinks", ""]
    if style.numbered_nics == "legend":
        lines += ["NIC Legend:", "", *(f"  NIC{k}: {nic.name}" for k, nic in enumerate(node.nics))]
    return style.newline.join([*lines, "root@node:~# "] if style.prompt else lines)


def expected(node, style):
    """What the form leaves of the node: affinities that it prints, names that it holds."""
    printed = {tail.split()[0] for tail in style.tails}
    if style.header == "missing":  # without names the values are read in nvidia-smi's order
        printed = printed if style.tails != ("NUMA",) else set()
    gpus = tuple(
        replace(gpu, cpus=gpu.cpus if "CPU" in printed else None, numa=gpu.numa if "NUMA" in printed else None)
        for gpu in node.gpus
    )
    bare = style.numbered_nics == "bare"
    nics = tuple(replace(nic, name=f"NIC{k}") if bare else nic for k, nic in enumerate(node.nics))
    return replace(node, gpus=gpus, nics=nics)


@settings(max_examples=150, deadline=None)
@given(nodes(), styles)
def test_any_node_in_any_form_parses_back_to_itself(node, style):
    if style.header == "missing" and style.tails == ("NUMA",):
        style = replace(style, tails=())
    text = render(node, style)
    assert parse_topology(text) == expected(node, style), text


@settings(max_examples=50, deadline=None)
@given(nodes(), styles, st.data())
def test_a_text_cut_anywhere_gives_true_links_or_names_a_line(node, style, data):
    text = render(node, style)
    text = text[: data.draw(st.integers(0, len(text)))]
    try:
        cut = parse_topology(text)
    except TopologyError as error:
        assert "nvidia-smi topo -m" in str(error)
        return
    whole = node.subset(cut.indices)
    assert cut.links == whole.links, text
    if len(cut.gpus) < len(node.gpus) and style.header != "missing":
        assert cut.warnings, text


@settings(max_examples=50, deadline=None)
@given(nodes(), styles, st.randoms(use_true_random=False))
def test_a_missing_row_is_taken_from_the_other_rows_with_a_warning(node, style, random):
    style = replace(style, header="blank", nic_rows=False)
    lines = render(node, style).split(style.newline)
    rows = [k for k, line in enumerate(lines) if line.removeprefix(style.prefix).startswith("GPU")]
    if len(node.gpus) < 2 or len(rows) != len(node.gpus):
        return
    gone = random.randrange(len(rows))
    del lines[rows[gone]]
    parsed = parse_topology(style.newline.join(lines))
    assert parsed.links == node.links
    assert any(f"GPU{gone}" in warning for warning in parsed.warnings)


@settings(max_examples=50, deadline=None)
@given(st.text(alphabet="GPUNICXVSYODE0123456789 \t\n|.-/=:\x1b[m", max_size=300) | st.text(max_size=200))
def test_arbitrary_text_gives_a_node_or_a_topology_error(text):
    try:
        assert parse_topology(text).gpus
    except TopologyError as error:
        assert str(error).startswith("pasted")


@settings(max_examples=60, deadline=None)
@given(nodes(), styles, st.lists(st.tuples(st.integers(0, 10**6), st.sampled_from("GX1 \tN\nY|")), max_size=6))
def test_damaged_text_gives_a_node_or_a_topology_error(node, style, damage):
    text = list(render(node, style))
    for position, character in damage:
        text[position % len(text)] = character
    try:
        assert parse_topology("".join(text)).gpus
    except TopologyError as error:
        assert "line" in str(error) or "empty" in str(error)
