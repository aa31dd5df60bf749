"""Config: the file line by line with where each comes from, the change against the disk, and what `check` finds."""

import re
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical

from cpadvisor import units
from cpadvisor.tui.keys import CPU_KEY
from cpadvisor.tui.screens.base import StageScreen, panel
from cpadvisor.tui.screens.reader import Reader
from cpadvisor.tui.session import Draft, Session
from cpadvisor.tui.widgets.lines import Line, Lines, diff_lines
from cpadvisor.tui.widgets.prose import Prose
from cpadvisor.tui.widgets.table import Cell, Column, Grid, Row, RowTable, cell

SEVERITY = {"error": ("✖", "bad"), "warning": ("▲", "warn"), "note": ("○", "muted")}
_TRAILING_COMMENT = re.compile(r"\s+# .*$")
_TOP_KEY = re.compile(r"([A-Za-z_][\w-]*):")


class ConfigScreen(StageScreen):
    """The file at the left; change, findings and command at the right."""

    MODE = "config"
    AUTO_FOCUS = "#file"
    BINDINGS: ClassVar = [
        Binding("w", "app.write", "Write", id="config-write", tooltip="Write the file; the old one is kept as .bak"),
        Binding("e", "app.edit_file", "Edit", id="config-edit", tooltip="Open the file in $EDITOR; it is checked then"),
        CPU_KEY,
    ]

    def body(self) -> ComposeResult:
        """Two columns, one below the other in a narrow terminal."""
        yield RowTable(id="file")
        with Vertical(id="about-file"):
            yield Lines(id="diff")
            yield RowTable(id="findings")
            yield Prose(id="command")

    def show(self, session: Session) -> None:
        """Hand the draft to the widgets."""
        words, draft = self.words, session.draft
        problem = session.problems.get("draft") or session.problems.get("write")
        for name, title in (("file", "file"), ("diff", "diff"), ("findings", "checks"), ("command", "command")):
            panel(self.query_one(f"#{name}"), words[title])
        if draft is None:
            said = problem or session.problems.get("plan") or words["planning"]
            self.query_one("#file", RowTable).grid = Grid(columns=FILE_COLUMNS, empty=said)
            return
        self._show_draft(draft, problem)

    def _show_draft(self, draft: Draft, problem: str | None) -> None:
        words = self.words
        said = "edited" if draft.is_edited else "saved" if draft.is_saved else "not saved"
        panel(self.query_one("#file"), str(draft.path), words[said])
        self.query_one("#file", RowTable).grid = Grid(columns=FILE_COLUMNS, rows=file_rows(draft, words["yours"]))
        changes = sum(1 for line in draft.diff.splitlines() if line[:1] in "+-" and line[:3] not in ("+++", "---"))
        panel(self.query_one("#diff"), words["diff"], f"{units.format_count(changes)} ±" if changes else "")
        self.query_one("#diff", Lines).lines = change_lines(draft, words["saved"])
        self.query_one("#findings", RowTable).grid = Grid(
            columns=FINDING_COLUMNS, rows=finding_rows(draft), empty="● nothing to mend"
        )
        panel(self.query_one("#findings"), words["checks"], finding_counts(draft))
        lines: list[Line] = [((problem, "bad"),)] if problem else []
        self.query_one("#command", Prose).lines = (*lines, ((draft.command, "plain"),))

    def copied(self) -> str | None:
        """The whole file, the change or the command; of findings the one under the cursor."""
        draft, focused = self.session.draft, self.focused
        if draft is None or focused is None:
            return None
        whole = {"file": draft.text, "diff": draft.diff, "command": draft.command}
        return whole.get(focused.id or "") or super().copied()

    @on(RowTable.Picked, "#findings")
    def _read_finding(self, event: RowTable.Picked) -> None:
        if self.session.draft is not None:
            finding = self.session.draft.findings[event.index]
            fix: Line = (("fix  ", "muted"), (finding.fix or units.DASH, "ok"))
            lines: tuple[Line, ...] = (((finding.message, "plain"),), (("", "plain"),), fix)
            self.app.push_screen(Reader(f"{finding.rule} {finding.key or ''}", lines))

    @on(RowTable.Picked, "#file")
    def _read_line(self, event: RowTable.Picked) -> None:
        draft = self.session.draft
        key = None if draft is None else keys_of(draft.text)[event.index]
        text = "" if draft is None else draft.text.splitlines()[event.index]
        line = None if draft is None else next((each for each in draft.lines if each.key == key), None)
        about: tuple[Line, ...] = () if line is None else (((line.origin, "accent"), (f"  {line.comment}", "muted")),)
        self.app.push_screen(Reader(key or self.words["file"], (((text, "plain"),), *about)))


FILE_COLUMNS = (
    Column(title="", right=True),
    Column(title="line", most=48),
    Column(title="from", flexible=True),
)

FINDING_COLUMNS = (
    Column(title=""),
    Column(title="rule"),
    Column(title="key"),
    Column(title="message"),
    Column(title="fix", flexible=True),
)


def keys_of(text: str) -> tuple[str | None, ...]:
    """The top-level key that each line of a YAML text belongs to; a comment belongs to none."""
    keys: list[str | None] = []
    for line in text.splitlines():
        match = _TOP_KEY.match(line)
        if match:
            keys.append(match[1])
        elif line.startswith("#") or not line.strip():
            keys.append(None)
        else:
            keys.append(keys[-1] if keys else None)
    return tuple(keys)


def file_rows(draft: Draft, yours: str = "") -> tuple[Row, ...]:
    """The lines of the file, numbered; what the file says behind a line about its origin stands in a column.

    A key that was changed after the plan is called `yours`, beside what the plan has for it.
    """
    origins = {line.key: (line.origin, line.comment) for line in draft.lines} | changed_keys(draft, yours)
    rows: list[Row] = []
    last: str | None = None
    for number, (line, key) in enumerate(zip(draft.text.splitlines(), keys_of(draft.text), strict=True), start=1):
        origin, comment = origins.get(key, ("", "")) if key is not None and key != last else ("", "")
        last = key
        shown = line if key is None else _TRAILING_COMMENT.sub("", line)
        about = Cell(runs=((origin, "accent"), (f"  {comment}" if comment else "", "muted")))
        rows.append((cell(str(number), "faint"), cell(shown, "faint" if key is None else "plain"), about))
    return tuple(rows)


def changed_keys(draft: Draft, yours: str) -> dict[str, tuple[str, str]]:
    """Origin and comment of each key that is not as the plan has it; none in a file that is the plan's."""
    if draft.planned is None:
        return {}
    planned, there = blocks_of(draft.planned), blocks_of(draft.text)
    return {
        key: (yours, " ".join(planned.get(key, units.DASH).split()))
        for key, block in there.items()
        if planned.get(key) != block
    }


def blocks_of(text: str) -> dict[str, str]:
    """The lines of each top-level key, without the comments behind them."""
    blocks: dict[str, str] = {}
    for line, key in zip(text.splitlines(), keys_of(text), strict=True):
        if key is not None:
            blocks[key] = blocks.get(key, "") + _TRAILING_COMMENT.sub("", line).rstrip() + "\n"
    return blocks


def change_lines(draft: Draft, saved: str) -> tuple[Line, ...]:
    """The unified diff; where there is none, that the disk holds this text."""
    return diff_lines(draft.diff) if draft.diff else ((("● ", "ok"), (saved, "muted")),)


def finding_rows(draft: Draft) -> tuple[Row, ...]:
    """One line a finding."""
    return tuple(
        (
            cell(*SEVERITY.get(finding.severity, ("○", "muted"))),
            cell(finding.rule, "muted"),
            cell(finding.key or units.DASH, "accent"),
            cell(finding.message),
            cell(finding.fix or units.DASH, "ok" if finding.fix else "muted"),
        )
        for finding in draft.findings
    )


def finding_counts(draft: Draft) -> str:
    """`✖ 1  ▲ 2`, leaving out what there is none of."""
    counts = [
        f"{mark} {number}"
        for severity, (mark, _) in SEVERITY.items()
        if (number := sum(finding.severity == severity for finding in draft.findings))
    ]
    return "  ".join(counts) or "● 0"
