"""Which processes of a run live: by number and start time on this host, by the silence of their events on another."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cpadvisor.processes import HALTED_STATES
from cpadvisor.watch.ranks import RankEvents
from cpadvisor.watch.sources import Sources

_SEEN_BY_EVENTS = "?"
"""The state letter of a process that cannot be asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Living:
    """State letters, as /proc/<pid>/stat has them, of the processes that live."""

    agent: str | None = None
    ranks: Mapping[int, str] = field(default_factory=lambda: dict[int, str]())

    @property
    def any(self) -> bool:
        """Whether torchrun or a rank of it still runs."""
        return self.agent is not None or bool(self.ranks)

    @property
    def halted(self) -> frozenset[int]:
        """Ranks whose process is stopped by a signal or held by a debugger."""
        return frozenset(rank for rank, state in self.ranks.items() if state in HALTED_STATES)


def find_living(sources: Sources, ranks: Sequence[RankEvents], *, silence_limit_s: float) -> Living:
    """What lives now."""
    if sources.is_foreign():
        return _by_events(sources, ranks, silence_limit_s)
    states = {rank.rank: sources.rank_state(rank.rank, rank.process) for rank in ranks}
    return Living(
        agent=sources.agent_state(), ranks={rank: state for rank, state in states.items() if state is not None}
    )


def _by_events(sources: Sources, ranks: Sequence[RankEvents], silence_limit_s: float) -> Living:
    now = sources.now()
    if not sources.record.writes_events:
        last = max(sources.record.started, *sources.log_times().values(), 0.0)
        lives = now - last < silence_limit_s and sources.exit_status() is None
        return Living(agent=_SEEN_BY_EVENTS if lives else None)
    speaking = [
        rank.rank
        for rank in ranks
        if rank.end is None and rank.last_t is not None and now - rank.last_t < silence_limit_s
    ]
    starts = all(rank.last_t is None for rank in ranks) and now - sources.record.started < silence_limit_s
    return Living(agent=_SEEN_BY_EVENTS if speaking or starts else None, ranks=dict.fromkeys(speaking, _SEEN_BY_EVENTS))
