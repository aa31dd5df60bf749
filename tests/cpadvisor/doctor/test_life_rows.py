"""Asked whether a run hangs, the doctor answers with the age of its last step and of each rank's last word."""

from dataclasses import replace

import pytest
from sound_subjects import SoundRun
from written_runs import STARTED

from cpadvisor.doctor.run import examine_run
from cpadvisor.doctor.symptoms import guided
from cpadvisor.watch.failure import Failure
from cpadvisor.watch.monitor import Monitor


@pytest.fixture
def run(tmp_path):
    return SoundRun(tmp_path / "run")


def live(run, *, elapsed_s, **changes):
    """The run as a look sees it while its processes live."""
    view = Monitor(run.directory).poll()
    ranks = tuple(replace(rank, alive=True) for rank in view.ranks)
    fields = {"state": "running", "failure": None, "reason": None, "ranks": ranks, "elapsed_s": elapsed_s, **changes}
    return replace(view, **fields)


def asked(run, view):
    return guided(examine_run(run.directory, view=view), "hang")


def test_a_run_that_goes_on_says_how_old_its_step_and_the_signs_of_its_ranks_are(run):
    for rank in (0, 1):
        run.started(rank)
        run.stepped(rank, 1)
    run.event(1, 3.5, "memory", peak_allocated_bytes=1, allocated_bytes=1)
    # Step 1 ends 3 s after the launch; the look is at 5 s.
    one = asked(run, live(run, elapsed_s=5.0))[0]
    assert (one.rule, one.severity, one.title) == ("life", "ok", "the run is running; it does not hang")
    assert one.evidence == (
        "step 1 of 5 was finished 2.00 s ago; last sign of life: rank 0 2.00 s ago, rank 1 1.50 s ago; "
        "silence of 1 min 00 s and of 10 steps would count as a hang"
    )


def test_before_the_first_step_the_launch_is_what_it_is_counted_from(run):
    run.started(0)
    one = asked(run, live(run, elapsed_s=5.0, state="warming_up"))[0]
    assert one.evidence == (
        "no step is finished yet, 5.00 s after the launch; last sign of life: rank 0 4.00 s ago, rank 1 none yet; "
        "silence of 10 min 00 s would count as a hang"
    )


def test_of_many_ranks_the_longest_silent_are_told(run):
    run.stepped(0, 1)
    view = live(run, elapsed_s=20.0)
    ranks = tuple(replace(view.ranks[0], rank=rank, last_event_t=STARTED + rank) for rank in range(16))
    one = asked(run, replace(view, ranks=ranks))[0]
    assert "of 16 ranks the longest silent: rank 0 20.00 s ago, rank 1 19.00 s ago" in one.evidence
    assert "rank 8 " not in one.evidence


def test_a_run_that_is_done_hangs_no_more(run):
    one = asked(run.whole(), None)[0]
    assert (one.title, one.evidence) == ("the run is done; it does not hang", "done after 5 of 5 steps")


def test_where_a_run_hangs_or_failed_only_the_failure_tells_it(run):
    run.started(0)
    failure = Failure(kind="hung", headline="ranks wait for rank 1")
    for state in ("hung", "failed"):
        view = live(run, elapsed_s=900.0, state=state, failure=failure)
        assert [one.rule for one in asked(run, view)] == ["failure"]
