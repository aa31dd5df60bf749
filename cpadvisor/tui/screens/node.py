"""Node: which GPUs there are, how they are joined, who holds their memory, what stands in the way."""

from typing import ClassVar

from rich.cells import cell_len
from textual.app import ComposeResult
from textual.containers import Vertical

from cpadvisor import units
from cpadvisor.hardware import link_bytes_per_s
from cpadvisor.node import Gpu, Holder, link_rank
from cpadvisor.report.node import island_label, ring_label
from cpadvisor.tui.keys import CPU_KEY
from cpadvisor.tui.screens.base import StageScreen, panel
from cpadvisor.tui.session import Machine, Session
from cpadvisor.tui.widgets.bar import memory_bar
from cpadvisor.tui.widgets.lines import Line
from cpadvisor.tui.widgets.matrix import LinkMatrix, Links
from cpadvisor.tui.widgets.prose import Prose
from cpadvisor.tui.widgets.table import Cell, Column, Grid, Row, RowTable, cell
from cpadvisor.tui.widgets.tones import link_tone

BAR_CELLS = 16


class NodeScreen(StageScreen):
    """Links at the left; GPUs, holders and findings at the right."""

    MODE = "node"
    AUTO_FOCUS = "#gpus"
    BINDINGS: ClassVar = [CPU_KEY]

    def body(self) -> ComposeResult:
        """Two columns, one below the other in a narrow terminal."""
        with Vertical(id="fabric"):
            yield LinkMatrix(id="links")
            yield Prose(id="rings")
            yield Prose(id="node-warnings")
        with Vertical(id="devices"):
            yield RowTable(id="gpus")
            yield RowTable(id="holders")

    def show(self, session: Session) -> None:
        """Hand the machine to the widgets."""
        words, machine = self.words, session.machine
        problem = session.problems.get("machine")
        panel(self.query_one("#links"), words["links"], "" if machine else words["looking"])
        panel(self.query_one("#rings"), words["ring"])
        panel(self.query_one("#gpus"), words["gpus"])
        panel(self.query_one("#holders"), words["holders"])
        panel(self.query_one("#node-warnings"), words["warnings"])
        if machine is None:
            lines: tuple[Line, ...] = (((problem, "bad"),),) if problem else (((words["looking"], "muted"),),)
            self.query_one("#node-warnings", Prose).lines = lines
            return
        self._show_machine(machine, problem)

    def _show_machine(self, machine: Machine, problem: str | None) -> None:
        node = machine.node
        self.query_one("#links", LinkMatrix).links = Links(node=node, ring=machine.ring)
        panel(self.query_one("#links"), self.words["links"], headline(machine))
        self.query_one("#rings", Prose).lines = self._fabric(machine)
        self.query_one("#gpus", RowTable).grid = Grid(columns=GPU_COLUMNS, rows=tuple(map(gpu_row, node.gpus)))
        host = node.host
        about = "" if host is None else f"host {host.cpus} CPUs · {units.format_bytes(host.memory_bytes)}"
        panel(self.query_one("#gpus"), self.words["gpus"], about)
        self.query_one("#holders", RowTable).grid = Grid(
            columns=HOLDER_COLUMNS, rows=tuple(map(holder_row, node.holders)), empty=self.words["no holders"]
        )
        held = sum(holder.used_bytes or 0 for holder in node.holders)
        panel(self.query_one("#holders"), self.words["holders"], units.format_bytes(held) if held else "")
        self.query_one("#node-warnings", Prose).lines = self._warnings(machine, problem)

    def _fabric(self, machine: Machine) -> tuple[Line, ...]:
        words, ring = self.words, machine.ring
        width = max(cell_len(words[key]) for key in ("islands", "best ring", "worst hop")) + 2
        lines: list[Line] = [((pad(words["islands"], width), "muted"), (island_label(machine.islands), "plain"))]
        if ring is not None:
            lines.append(((pad(words["best ring"], width), "muted"), (ring_label(ring.order), "accent")))
            worst = (ring.worst or units.DASH, link_tone(ring.worst))
            lines.append(
                ((pad(words["worst hop"], width), "muted"), worst, (f"  {rate_label(machine, ring.worst)}", "muted"))
            )
        nics = ", ".join(f"n{place} {nic.name}" for place, nic in enumerate(machine.node.nics))
        nic_lines: tuple[Line, ...] = (((pad(words["nics"], width), "muted"), (nics, "plain")),) if nics else ()
        return (*lines, *class_lines(machine, width), *nic_lines)

    def _warnings(self, machine: Machine, problem: str | None) -> tuple[Line, ...]:
        lines: list[Line] = []
        if problem:
            lines.append((("✖ ", "bad"), (problem, "plain")))
        if machine.note:
            lines.append((("○ ", "muted"), (machine.note, "plain")))
        lines.extend((("▲ ", "warn"), (warning, "plain")) for warning in machine.warnings)
        return tuple(lines) or ((("● ", "ok"), (self.words["no warnings"], "muted")),)


GPU_COLUMNS = (
    Column(title="#", right=True),
    Column(title="name", flexible=True),
    Column(title="memory", width=BAR_CELLS),
    Column(title="used", right=True, width=9),
    Column(title="of", right=True, width=9),
    Column(title="NUMA", right=True),
    Column(title="CPUs"),
)

HOLDER_COLUMNS = (
    Column(title="GPU", right=True),
    Column(title="pid", right=True),
    Column(title="user"),
    Column(title="holds", right=True),
    Column(title="command", flexible=True),
)


def headline(machine: Machine) -> str:
    """`8 × NVIDIA H100 80GB HBM3 · NV18`, or every link class there is, best first."""
    node = machine.node
    names = sorted({gpu.name or "GPU" for gpu in node.gpus})
    codes = sorted({code for row in node.links for code in row if code}, key=lambda code: -link_rank(code))
    return f"{len(node.gpus)} × {', '.join(names)} · {' '.join(codes) or 'one GPU'}"


def pad(text: str, width: int) -> str:
    """Text filled to cells of the terminal, of which a Chinese character takes two."""
    return text + " " * (width - cell_len(text))


def rate_label(machine: Machine, code: str | None) -> str:
    """`371 GB/s one way`; a dash for an unknown product."""
    rate = None if machine.gpu is None else link_bytes_per_s(machine.gpu, code)
    return f"{units.format_rate(rate)} one way"


def class_lines(machine: Machine, width: int) -> tuple[Line, ...]:
    """Each class of link between GPUs, best first: how many pairs, and what one of them carries."""
    node = machine.node
    codes = [node.links[row][column] for row in range(len(node.gpus)) for column in range(row)]
    return tuple(
        (
            (f"{code:<{width}}", link_tone(code)),
            (f"{pairs_label(codes.count(code))}  {rate_label(machine, code)}", "muted"),
        )
        for code in sorted({code for code in codes if code}, key=lambda code: -link_rank(code))
    )


def pairs_label(count: int) -> str:
    """`1 pair`, `28 pairs`."""
    return f"{count} pair{'' if count == 1 else 's'}"


def gpu_row(gpu: Gpu) -> Row:
    """One GPU; an unknown figure is a dash."""
    return (
        cell(str(gpu.index), "muted"),
        cell(gpu.name or units.DASH),
        Cell(runs=tuple(memory_bar(gpu.used_bytes, limit=gpu.memory_bytes, width=BAR_CELLS))),
        cell(units.format_bytes(gpu.used_bytes), "plain" if gpu.used_bytes else "muted"),
        cell(units.format_bytes(gpu.memory_bytes), "muted"),
        cell(units.DASH if gpu.numa is None else str(gpu.numa), "muted"),
        cell(gpu.cpus or units.DASH, "muted"),
    )


def holder_row(holder: Holder) -> Row:
    """One process that holds memory."""
    return (
        cell(str(holder.gpu), "muted"),
        cell(str(holder.pid)),
        cell(holder.user or units.DASH),
        cell(units.format_bytes(holder.used_bytes), "warn"),
        cell(holder.command or units.DASH, "muted"),
    )
