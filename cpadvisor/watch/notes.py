"""What to know of a run directory itself: that another version wrote it, and lines that hold no event."""

from collections.abc import Iterable, Iterator

from cpadvisor.rundir import RUN_FILE
from cpadvisor.runrecord import SCHEMA, RunRecord
from cpadvisor.watch.ranks import RankEvents
from runtime.telemetry import VERSION


def notes_of(record: RunRecord, ranks: Iterable[RankEvents], problem: str | None = None) -> tuple[str, ...]:
    """One line each; none for a directory that this version wrote whole. `problem` is why its record cannot be read."""
    ranks = tuple(ranks)
    now = () if problem is None else (f"{problem}; what it said before is shown",)
    return (*now, *_of_record(record), *_of_versions(ranks), *_of_lines(ranks))


def _of_record(record: RunRecord) -> Iterator[str]:
    if record.schema != SCHEMA:
        yield f"{RUN_FILE} has schema {record.schema}, and this cpadvisor writes {SCHEMA}: what both know is shown"
    if record.unread:
        yield f"{RUN_FILE} says {', '.join(record.unread)} in a way that is not known here: shown as unknown"


def _of_versions(ranks: Iterable[RankEvents]) -> Iterator[str]:
    found = sorted({version for rank in ranks for version in rank.source.versions})
    if found:
        versions = f"version{'s' if len(found) > 1 else ''} {', '.join(found)}"
        yield f"its events have {versions}, and this cpadvisor knows {VERSION}: what both know is shown"


def _of_lines(ranks: Iterable[RankEvents]) -> Iterator[str]:
    for rank in ranks:
        if count := rank.source.unread:
            yield f"{count} line{'s' if count > 1 else ''} of rank {rank.rank}'s events cannot be read"
