"""A run that is gone without a word, and one whose directory is gone: what can still be said of it."""

from collections.abc import Sequence
from dataclasses import replace

from cpadvisor.errors import LaunchError
from cpadvisor.rundir import shell_name
from cpadvisor.units import format_seconds
from cpadvisor.watch.failure import Failure
from cpadvisor.watch.living import find_living
from cpadvisor.watch.mends import again, resumes
from cpadvisor.watch.ranks import RankEvents
from cpadvisor.watch.sources import Sources
from cpadvisor.watch.state import SILENCE_S
from cpadvisor.watch.view import RunView


class VanishedError(LaunchError):
    """The run directory is gone. `view` is the last that was known, with a failure of kind vanished."""

    def __init__(self, view: RunView) -> None:
        failure = view.failure
        assert failure is not None, view
        how = f" with `{failure.command}`" if failure.command else ""
        super().__init__(f"{failure.headline}; {failure.evidence[0]}; {failure.mend}{how}")
        self.view = view


def lost_cause(sources: Sources, name: str, *, silence_limit_s: float, checkpoint_step: int | None) -> Failure:
    """Why nothing says how a run ended."""
    record = sources.record
    if sources.is_foreign():
        since = format_seconds(silence_limit_s)
        return Failure(
            kind="lost",
            headline=f"its processes are on host {record.host}, and its events have been silent for over {since}",
            mend="look there, where its processes can be seen",
            command=f"ssh {record.host} cpadvisor watch --once {name}",
        )
    headline = (
        "torchrun and its ranks are gone, and how is not known: their keeper, who writes it down, was killed (SIGKILL)"
    )
    if not sources.is_of_this_boot():
        headline = "the machine was restarted while it ran"
    return Failure(
        kind="lost",
        headline=headline,
        mend=f"start it again: {resumes(record, checkpoint_step)}",
        command=again(record, name),
    )


def vanished(sources: Sources, ranks: Sequence[RankEvents], *, last: RunView | None) -> RunView:
    """The last view of a run whose directory is gone: lost, or as it was while processes of it still run."""
    record = sources.record
    living = find_living(sources, ranks, silence_limit_s=SILENCE_S)
    pids = [record.agent.pid] if record.agent is not None and living.agent is not None else []
    pids += [rank.pid for rank in ranks if rank.rank in living.ranks and rank.pid is not None]
    numbers = ", ".join(map(str, pids))
    failure = Failure(
        kind="vanished",
        headline=f"{sources.run_dir} has vanished; what it told of the run {record.run} is lost",
        evidence=(f"processes {numbers} of it still run" if pids else "no process of it runs",),
        mend="end it: nothing that it finds out can be kept" if pids else "nothing of it is left to end",
        command=f"cpadvisor stop {shell_name(sources.run_dir)}" if pids else None,
    )
    view = last or RunView(run=record.run, directory=sources.run_dir, state="launching", world=record.world)
    return replace(view, state=view.state if living.any else "lost", reason=failure.headline, failure=failure)
