from dataclasses import replace
from pathlib import Path

from tui_support import h100_node, machine, run_view

from cpadvisor.job import Request
from cpadvisor.tui.session import Live, Session, request_label, why_not_launch


def test_a_problem_keeps_what_was_there_and_goes_when_the_stage_succeeds() -> None:
    before = Session(machine=machine(h100_node()), busy="plan")
    failed = before.failed("plan", "no such model")
    assert failed.machine is before.machine
    assert failed.problems == {"plan": "no such model"}
    assert failed.done("plan").problems == {}


def test_another_stage_does_not_clear_a_problem() -> None:
    assert Session().failed("plan", "wrong").done("machine").problems == {"plan": "wrong"}


def test_a_look_at_the_run_leaves_another_stage_at_work() -> None:
    planning = Session(busy="plan")
    assert planning.done("run").busy == "plan"
    assert planning.done("plan").busy is None


def test_a_run_is_alive_until_its_view_is_final() -> None:
    started = Session(run_dir=Path("run"))
    assert started.is_running
    assert replace(started, live=Live(view=run_view())).is_running
    assert not replace(started, live=Live(view=run_view(state="done"))).is_running
    assert not Session().is_running


def test_the_label_shows_a_length_as_people_say_it_and_a_wrong_one_as_typed() -> None:
    assert request_label(Request(model="tiny", sequence_len="8192")) == ("tiny", "8K")
    assert request_label(Request(model="tiny", sequence_len="8x")) == ("tiny", "8x")


def test_a_live_run_refuses_a_second_launch() -> None:
    session = Session(run_dir=Path("run"), live=Live(view=run_view()))
    assert why_not_launch(session) == "a run is alive; X stops it"


def test_without_a_plan_the_refusal_gives_the_planning_error() -> None:
    here = machine(replace(h100_node(), source="nvml"))
    assert why_not_launch(Session(machine=here, problems={"plan": "unknown model"})) == "unknown model"


def test_the_cpu_of_this_host_counts_as_here_and_a_record_does_not() -> None:
    assert machine(replace(h100_node(), name="cpu")).is_here
    assert not machine(h100_node()).is_here
