from pathlib import Path

import pytest

from cpadvisor.errors import UsageError
from cpadvisor.job import Request
from cpadvisor.tui.messages import Failed, Finished, attempt
from cpadvisor.tui.session import CPU_REQUEST, FALLBACK_NODE, Live
from cpadvisor.tui.work import Work, looks


@pytest.fixture
def work(tmp_path: Path) -> Work:
    return Work(config=tmp_path / "c.yaml", runs=tmp_path / "runs")


def test_without_a_gpu_the_app_opens_on_a_record_and_says_so(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    from cpadvisor.probe import machine
    from cpadvisor.probe.recorded import load_node

    monkeypatch.setattr(machine, "find_node", lambda **_: (load_node("cpu"), "no GPU here"))
    opened = work.machine(Request())
    assert opened.node.name == FALLBACK_NODE
    assert opened.note is not None
    assert "no GPU here" in opened.note
    assert "c takes the CPU" in opened.note


def test_a_node_that_was_asked_for_carries_no_note(work: Work) -> None:
    opened = work.machine(Request(node="dgx-1v"))
    assert opened.node.name == "dgx-1v"
    assert opened.ring is not None
    assert opened.ring.worst == "NV2"


def test_the_cpu_node_plans_two_ranks_as_locked_and_knows_the_free_choice(work: Work) -> None:
    cpu = work.machine(Request(node="cpu"))
    assert cpu.is_here
    answer = work.answer(cpu, CPU_REQUEST)
    assert [plan.layout.cp for plan in answer.advice.plans] == [2]
    assert answer.advice.unlocked is not None
    assert answer.advice.unlocked.layout.cp == 1


def test_an_unlocked_job_has_no_other_choice(work: Work) -> None:
    cpu = work.machine(Request(node="cpu"))
    assert work.answer(cpu, Request(model="tiny", sequence_len="8k", lock="")).advice.unlocked is None


def test_a_draft_is_saved_once_the_disk_holds_its_text(work: Work) -> None:
    answer = work.answer(work.machine(Request(node="cpu")), CPU_REQUEST)
    first = work.draft(answer, answer.advice.plans[0])
    assert not first.is_saved
    assert "+context_parallel_size: 2" in first.diff
    work.save(first)
    second = work.draft(answer, answer.advice.plans[0])
    assert second.is_saved
    assert second.diff == ""


def test_what_the_user_can_mend_is_told_as_it_is() -> None:
    def refuse() -> object:
        raise UsageError("length 'x' is not a number")

    message = attempt("plan", refuse)
    assert isinstance(message, Failed)
    assert message.reason == "length 'x' is not a number"


def test_an_error_of_our_own_names_its_stage_and_kind() -> None:
    message = attempt("plan", lambda: 1 // 0)
    assert isinstance(message, Failed)
    assert "plan met an error of its own (ZeroDivisionError" in message.reason


def test_looking_ends_with_the_run_and_with_a_run_that_vanished(tmp_path: Path) -> None:
    from tui_support import FakeWork, run_view

    ended = FakeWork(views=[run_view(state="done")])
    messages = list(looks(ended, Path("run"), rank=lambda: 1))  # pyright: ignore
    assert len(messages) == 1
    assert isinstance(messages[0], Finished)
    assert isinstance(messages[0].part, Live)
    assert messages[0].part.rank == 1
    gone = list(looks(Work(config=tmp_path / "c.yaml"), tmp_path / "none", rank=lambda: 0))
    assert [type(message) for message in gone] == [Failed]
