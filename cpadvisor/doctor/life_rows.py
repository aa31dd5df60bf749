"""Whether a run goes on: how long ago it finished a step, and how long ago each rank gave a sign of life. Row L4."""

from collections.abc import Iterator

from cpadvisor.doctor.diagnosis import Diagnosis
from cpadvisor.doctor.run_facts import RunFacts
from cpadvisor.units import DASH, format_seconds
from cpadvisor.watch.state import SETUP_SILENCE_S, SILENCE_S, SILENT_STEPS
from cpadvisor.watch.view import RankView, RunView, state_label

MOST_RANKS = 8
"""So many ranks are told one by one; of more, those that have been silent for longest."""


def life_rows(facts: RunFacts) -> Iterator[Diagnosis]:
    """One row of a run that goes on or ended well; where it hangs or failed, the failure tells it."""
    view = facts.view
    if view.failure is not None or view.state in ("failed", "out_of_memory", "lost", "hung"):
        return
    ended = f"{state_label(view.state)} after {view.step or 0} of {view.steps or DASH} steps"
    yield Diagnosis(
        rule="life",
        severity="ok",
        title=f"the run is {state_label(view.state)}; it does not hang",
        evidence=ended if view.is_final else f"{_last_step(facts)}; {_signs(facts)}; {_limit(view)}",
    )


def _last_step(facts: RunFacts) -> str:
    view, times = facts.view, [rank.step_t for rank in facts.ranks if rank.step_t is not None]
    if view.step is None:
        return f"no step is finished yet, {format_seconds(view.elapsed_s)} after the launch"
    return f"step {view.step} of {view.steps or DASH} was finished {_ago(view, max(times, default=None))}"


def _signs(facts: RunFacts) -> str:
    view = facts.view
    if not any(rank.last_event_t is not None for rank in view.ranks):
        return "no rank has told anything" + ("" if facts.record.writes_events else ": axolotl writes no events")
    silent = sorted(view.ranks, key=lambda rank: rank.last_event_t or 0.0)[:MOST_RANKS]
    of = f"of {len(view.ranks)} ranks the longest silent: " if len(view.ranks) > MOST_RANKS else "last sign of life: "
    ranks = silent if len(view.ranks) > MOST_RANKS else view.ranks
    return of + ", ".join(f"rank {rank.rank} {_sign(rank, view)}" for rank in ranks)


def _sign(rank: RankView, view: RunView) -> str:
    if rank.last_event_t is None:
        return "none yet"
    return _ago(view, rank.last_event_t) + ("" if rank.alive else " (its process is gone)")


def _ago(view: RunView, t: float | None) -> str:
    """Before the look; a file that was read after it may be a moment younger."""
    return f"{DASH if t is None else format_seconds(max(0.0, view.started + view.elapsed_s - t))} ago"


def _limit(view: RunView) -> str:
    if view.step is None:
        return f"silence of {format_seconds(SETUP_SILENCE_S)} would count as a hang"
    return f"silence of {format_seconds(SILENCE_S)} and of {SILENT_STEPS} steps would count as a hang"
