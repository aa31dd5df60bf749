"""What a run has said and left behind: its events, rank by rank, and how NCCL joined its ranks."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cpadvisor.check.config import examine_file
from cpadvisor.check.finding import Finding
from cpadvisor.check.subject import Config
from cpadvisor.errors import ConfigError
from cpadvisor.rundir import CONFIG_FILE
from cpadvisor.runrecord import RunRecord, read_record, user_config
from cpadvisor.watch.events import EventFile, number, text, whole
from cpadvisor.watch.monitor import Monitor
from cpadvisor.watch.series import Series
from cpadvisor.watch.view import Points, RunView
from runtime.telemetry import events_path

RING = "send_recv"
"""The operation by which K and V go round a ring."""

MAX_LOG_BYTES = 16 << 20
"""Of one rank's NCCL log: transports are told when ranks first meet, which is at its beginning."""

_CHANNEL = re.compile(
    r"Channel \d+(?:/\d+)? : (?P<first>\d+)\[\S*\] -> (?P<second>\d+)\[\S*\](?: \[\w+\])? via (?P<how>\S+)"
)
"""`Channel 00/0 : 0[0] -> 1[1] via P2P/CUMEM`, `… [send] via NET/IB/0/GDRDMA` (nccl src/transport/*.cc)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RankFacts:
    """One rank's own words; empty where it has said nothing."""

    rank: int
    start: Mapping[str, Any] = field(default_factory=lambda: dict[str, Any]())
    """The newest `start` event."""
    exchanges: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: dict[str, Mapping[str, Any]]())
    """The newest `nccl` event of the group cp since then, by operation: `send_recv` for a ring."""
    warnings: Mapping[str, str] = field(default_factory=lambda: dict[str, str]())
    """Rule to message, of the newest process."""
    out_of_memory: Mapping[str, Any] | None = None
    grad_norm: Points = ()
    """Norms before clipping, of the steps that count; nan where one was no number."""
    step_t: float | None = None
    """When it finished its newest step, in Unix seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """Everything that the checks of a run read."""

    record: RunRecord
    view: RunView
    file: Path | None
    """The config as the user wrote it, from which the run was started; None where it is gone."""
    config: Config | None
    """The copy that runs, None where it cannot be read."""
    findings: tuple[Finding, ...] = ()
    """What `check` says of that copy."""
    ranks: tuple[RankFacts, ...] = ()
    transports: Mapping[str, int] = field(default_factory=lambda: dict[str, int]())
    """How NCCL joined pairs of ranks, `P2P/CUMEM` or `SHM/direct`, to the number of channels."""

    @property
    def started(self) -> tuple[RankFacts, ...]:
        """Ranks whose model was built."""
        return tuple(rank for rank in self.ranks if rank.start)

    @property
    def cp(self) -> int:
        """Ranks that share a sequence."""
        return int(self.record.layout.get("cp", 1))


def read_facts(run_dir: Path, view: RunView | None) -> RunFacts:
    """Read a run directory. Raises LaunchError where it is none."""
    record = read_record(run_dir)
    try:
        config, findings = examine_file(run_dir / CONFIG_FILE)
    except ConfigError:
        config, findings = None, ()
    return RunFacts(
        record=record,
        view=view or Monitor(run_dir).poll(),
        file=user_config(record),
        config=config,
        findings=findings,
        ranks=tuple(_read_rank(run_dir, rank) for rank in range(record.world)),
        transports=_transports(run_dir),
    )


def _read_rank(run_dir: Path, rank: int) -> RankFacts:
    start: Mapping[str, Any] = {}
    exchanges: dict[str, Mapping[str, Any]] = {}
    warnings: dict[str, str] = {}
    lack: Mapping[str, Any] | None = None
    norms = Series()
    step_t: float | None = None
    announced = False
    for event in EventFile(events_path(run_dir, rank)).poll():
        kind = event["kind"]
        if kind == "process" or (kind == "start" and start and not announced):
            warnings = {}
        announced = kind == "process" or (announced and kind != "start")
        if kind == "start":
            start, exchanges, lack = event, {}, None
        elif kind == "nccl" and event.get("group") == "cp" and whole(event, "bytes") is not None:
            exchanges[text(event, "op") or RING] = event
        elif kind == "warning":
            warnings[str(event.get("rule", "warning"))] = str(event.get("message", "a warning without a text"))
        elif kind == "out_of_memory":
            lack = event
        elif kind == "step" and (step := whole(event, "step")) is not None:
            norms.append(step, number(event, "grad_norm"))
            step_t = number(event, "t")
    return RankFacts(
        rank=rank,
        start=start,
        exchanges=exchanges,
        warnings=warnings,
        out_of_memory=lack,
        grad_norm=norms.points(),
        step_t=step_t,
    )


def _transports(run_dir: Path) -> dict[str, int]:
    found: Counter[str] = Counter()
    for path in sorted(run_dir.glob("nccl-*.log")):
        found += transports_in(_head(path))
    return dict(found)


def transports_in(log: str) -> "Counter[str]":
    """Channels by transport in the text of an NCCL log: `{"P2P/CUMEM": 48}`."""
    return Counter("/".join(match["how"].split("/")[:2]) for match in _CHANNEL.finditer(log))


def _head(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(MAX_LOG_BYTES).decode(errors="replace")
    except OSError:
        return ""
