"""Runs of two CPU processes under torch 2.13, recorded with a fault in each: what is told of them, live and again."""

from pathlib import Path

import pytest

from cpadvisor.report.failure import COLUMNS, MOST_LINES, failure_text
from cpadvisor.watch.monitor import Monitor
from cpadvisor.watch.replay import Replay

RUNS = Path(__file__).parents[2] / "data" / "runs"

NOTHING_KILLED = "the kernel killed no process for want of memory while the run ran"
CAUSES = [
    # name, state, kind, rank, headline, a line of the evidence
    ("killed", "failed", "killed", 1, "rank 1 was ended by SIGKILL from outside", NOTHING_KILLED),
    ("sigterm_to_a_rank", "failed", "killed", 1, "rank 1 was ended by SIGTERM from outside", NOTHING_KILLED),
    (
        *("exception", "failed", "exception", 1, "rank 1: RuntimeError: planted fault exception:rank=1,step=3"),
        '    raise RuntimeError(f"planted fault {fault.text}")',
    ),
    (
        *("out_of_memory", "out_of_memory", "out_of_memory", 0),
        "rank 0 ran out of GPU memory in the forward pass of step 2: no terms were predicted, "
        "the GPU's 8.0 GiB are too few; most went to activations, 8.0 GiB",
        "asked for 2.0 GiB with 1.0 GiB free of 8.0 GiB",
    ),
    (
        *("not_a_number", "failed", "not_a_number", 1),
        "rank 1: loss is nan (the part of every rank is not finite) and gradient norm 3.44891619682312 at step 3; "
        "lower learning_rate or max_grad_norm",
        "the losses up to step 2: 5.9971, 5.5355",
    ),
    ("hang_up", "failed", "launcher_killed", None, "torchrun was ended by SIGHUP from outside", NOTHING_KILLED),
    ("interrupt", "failed", "launcher_killed", None, "torchrun was ended by SIGINT from outside", NOTHING_KILLED),
]


@pytest.mark.parametrize(("name", "state", "kind", "rank", "headline", "line"), CAUSES)
def test_the_cause_is_told_and_not_the_peers_that_it_took_down(
    name: str, state: str, kind: str, rank: int | None, headline: str, line: str
) -> None:
    view = Monitor(RUNS / name).poll()
    failure = view.failure
    assert failure is not None
    assert (view.state, view.notes) == (state, ())
    assert (failure.kind, failure.rank, failure.headline) == (kind, rank, headline)
    assert line in failure.evidence
    assert failure.mend and failure.command


@pytest.mark.parametrize("name", [cause[0] for cause in CAUSES])
def test_it_fits_on_a_screen(name: str) -> None:
    lines = failure_text(Monitor(RUNS / name).poll()).splitlines()
    assert len(lines) <= MOST_LINES
    assert max(map(len, lines)) <= COLUMNS


@pytest.mark.parametrize("name", [cause[0] for cause in CAUSES])
def test_a_replay_goes_through_the_states_and_ends_in_the_same_frame_each_time(name: str) -> None:
    frames = list(Replay(RUNS / name).frames(0.5))
    assert frames[-1] == list(Replay(RUNS / name).frames(7.0))[-1] == Monitor(RUNS / name).poll()
    states = list(dict.fromkeys(view.state for view in frames))
    assert states[:3] == ["launching", "initialising", "warming_up"]
    assert states[-1] in ("failed", "out_of_memory")
    assert all(view.failure is None for view in frames if not view.is_final)
    steps = [view.step or 0 for view in frames]
    assert steps == sorted(steps)
