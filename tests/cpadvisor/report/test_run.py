from dataclasses import replace
from pathlib import Path

from cpadvisor.report.run import comparison_rows, exchange_label, runs_table, view_text
from cpadvisor.units import GIB
from cpadvisor.watch.failure import Failure
from cpadvisor.watch.view import Exchange, RunView

VIEW = RunView(
    run="r1",
    directory=Path("/runs/r1"),
    state="warming_up",
    model="tiny",
    sequence_len=8192,
    world=2,
    step=2,
    steps=5,
    loss=((1, 5.0), (2, 4.5)),
    step_s=((1, 3.0), (2, 2.0), (3, 2.1)),
    tokens_per_s_per_gpu=((1, 900.0), (2, 950.0), (3, 1000.0)),
    peak_bytes=2 * GIB,
    prediction={"peak_bytes": 3 * GIB, "step_s": 2.0, "terms_bytes": {"activations": 2 * GIB, "context": GIB // 2}},
    notes=("run.json has schema 7",),
)
FAILURE = Failure(kind="killed", headline="rank 1 was ended by SIGKILL", mend="start it again", command="c")


def test_the_list_shows_how_far_predictions_of_memory_and_time_were_off() -> None:
    lost = RunView(run="r2", directory=Path("/runs/r2"), state="lost")
    assert runs_table([VIEW, lost]).splitlines() == [
        "run  state       step    loss  tok/s/GPU     peak  peak err  step err",
        # 2.0 GiB against 3.0 - 0.5, and 2.1 s against 2.0 s
        "r1   warming up   2/5  4.5000      1,000  2.0 GiB     −20 %      +5 %",
        "r2   lost         0/–       –          –        –         –         –",
    ]


def test_memory_stands_beside_what_the_allocator_was_to_report() -> None:
    assert ("peak memory", "2.0 GiB", "2.5 GiB") in comparison_rows(VIEW)


def test_what_was_exchanged_stands_with_its_times_where_they_were_taken() -> None:
    ring = Exchange(op="send_recv", sent_bytes=2 * GIB, wire_s=0.0123, exposed_s=0.0004)
    heads = Exchange(op="all_to_all", sent_bytes=GIB, exposed_s=0.002)
    lines = view_text(replace(VIEW, exchanges=(ring, heads))).splitlines()
    assert lines[-2] == "ring 2.0 GiB, wire 12 ms, exposed 400 µs; heads 1.0 GiB, exposed 2 ms"
    assert exchange_label(Exchange(op="all_gather", sent_bytes=0)) == "gathered 0 B"


def test_a_run_that_goes_well_shows_its_notes_and_no_failure() -> None:
    lines = view_text(VIEW).splitlines()
    assert lines[0] == "r1  warming up"
    assert lines[-1] == "note: run.json has schema 7"


def test_a_failure_closes_the_text_and_its_headline_is_said_once() -> None:
    text = view_text(replace(VIEW, state="failed", reason=FAILURE.headline, failure=FAILURE))
    assert text.splitlines()[0] == "r1  failed"
    assert text.endswith("\n\nfailed: rank 1 was ended by SIGKILL\n\nstart it again\n  c")
    assert text.count("SIGKILL") == 1


def test_a_run_that_was_stopped_says_why_in_its_first_line() -> None:
    text = view_text(replace(VIEW, state="stopped", reason="stopped on request"))
    assert text.splitlines()[0] == "r1  stopped: stopped on request"


def test_a_run_of_one_process_has_one_rank() -> None:
    assert "2 ranks" in view_text(VIEW)
    assert view_text(replace(VIEW, world=1)).splitlines()[1].endswith("1 rank")
