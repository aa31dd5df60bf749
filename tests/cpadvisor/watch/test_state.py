import pytest
from hypothesis import given
from hypothesis import strategies as st

from cpadvisor.watch.state import End, Evidence, derive, silence_limit_s
from cpadvisor.watch.view import FINAL_STATES, LIVE_STATES


def end(rank: int, state: str, t: float = 10.0) -> End:
    return End(rank=rank, state=state, reason=None, t=t)


def seen(**facts: object) -> str:
    ends = facts.pop("ends", ())
    assert isinstance(ends, tuple)
    values = {"world": 2, "agent_known": True, "alive": False, "age_s": 60.0, **facts}
    return derive(Evidence(ends={each.rank: each for each in ends}, **values))  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("facts", "state"),
    [
        ({"alive": True}, "launching"),
        ({"alive": True, "spoken_ranks": 1}, "initialising"),
        ({"alive": True, "spoken_ranks": 2, "started_ranks": 1}, "warming_up"),
        ({"alive": True, "spoken_ranks": 2, "started_ranks": 2, "finished_steps": 2}, "warming_up"),
        ({"alive": True, "spoken_ranks": 2, "started_ranks": 2, "finished_steps": 3}, "running"),
        ({"alive": True, "spoken_ranks": 2, "finished_steps": 3, "stop_asked_t": 5.0}, "stopping"),
        ({"alive": True, "ends": (end(0, "done"), end(1, "done")), "finished_steps": 3}, "running"),
        ({"alive": True, "finished_steps": 3, "halted": True}, "hung"),
        ({"alive": True, "spoken_ranks": 1, "halted": True}, "hung"),
        ({"alive": True, "finished_steps": 3, "silent_s": 60.0, "silence_limit_s": 60.0}, "running"),
        ({"alive": True, "finished_steps": 3, "silent_s": 60.1, "silence_limit_s": 60.0}, "hung"),
        ({"alive": True, "silent_s": 60.1, "silence_limit_s": 60.0}, "hung"),
        ({"alive": True, "halted": True, "stop_asked_t": 5.0}, "stopping"),
        ({"halted": True, "silent_s": 90.0, "silence_limit_s": 60.0}, "lost"),
        ({"alive": True, "writes_events": False}, "launching"),
        ({"alive": True, "writes_events": False, "spoken_ranks": 1}, "running"),
        ({"alive": True, "writes_events": False, "spoken_ranks": 1, "silent_s": 9.0, "silence_limit_s": 8.0}, "hung"),
        ({"agent_known": False, "age_s": 1.0}, "launching"),
        ({"agent_known": False}, "lost"),
        ({}, "lost"),
        ({"exit": 0}, "done"),
        ({"exit": 1}, "failed"),
        ({"exit": -9}, "failed"),
        ({"rank_failed": True}, "failed"),
        ({"ends": (end(0, "done"), end(1, "done"))}, "done"),
        ({"ends": (end(0, "done"), end(1, "done")), "exit": 1}, "done"),
        ({"ends": (end(0, "done"),)}, "lost"),
        ({"ends": (end(0, "done"), end(1, "failed"))}, "failed"),
        ({"ends": (end(0, "stopped", t=10.1), end(1, "failed")), "exit": 1}, "failed"),
        ({"ends": (end(0, "stopped"), end(1, "failed", t=10.1)), "exit": 1}, "stopped"),
        ({"ends": (end(0, "stopped"),), "rank_failed": True}, "failed"),
        ({"ends": (end(0, "stopped"), end(1, "stopped")), "exit": 1}, "stopped"),
    ],
)
def test_the_state_follows_from_what_is_seen(facts: dict[str, object], state: str) -> None:
    assert seen(**facts) == state


def test_what_failed_after_the_stop_was_stopped() -> None:
    late, early = (end(1, "failed", t=11.0),), (end(1, "failed", t=9.0),)
    assert seen(stop_asked_t=10.0, ends=late, exit=1, rank_failed=True) == "stopped"
    assert seen(stop_asked_t=10.0, ends=early, exit=1) == "failed"


def test_a_run_that_finished_before_the_stop_reached_it_is_done() -> None:
    assert seen(stop_asked_t=10.0, ends=(end(0, "done"), end(1, "done"))) == "done"


@given(
    alive=st.booleans(),
    halted=st.booleans(),
    known=st.booleans(),
    stop=st.none() | st.floats(0, 20),
    exit=st.none() | st.integers(-15, 3),
    states=st.lists(st.sampled_from(["done", "failed", "stopped"]), max_size=2),
)
def test_what_lives_is_never_final_and_what_is_gone_never_runs(
    alive: bool, halted: bool, known: bool, stop: float | None, exit: int | None, states: list[str]
) -> None:
    ends = tuple(end(rank, state) for rank, state in enumerate(states))
    state = seen(alive=alive, halted=halted, agent_known=known, stop_asked_t=stop, exit=exit, ends=ends)
    assert state in (LIVE_STATES if alive else FINAL_STATES)


def limit(**facts: float | bool | None) -> float:
    values = {"step_s": None, "expected_step_s": None, "checkpoint_s": None, "is_stepping": True, **facts}
    return silence_limit_s(**values)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("facts", "seconds"),
    [
        ({"step_s": 2.0}, 60.0),
        ({"step_s": 14.0}, 140.0),
        ({"step_s": 2.0, "checkpoint_s": 45.0}, 135.0),
        ({"is_stepping": False}, 600.0),
        ({"is_stepping": False, "expected_step_s": 90.0}, 900.0),
        ({"is_stepping": False, "step_s": 2.0, "expected_step_s": 90.0}, 600.0),
    ],
)
def test_a_silence_is_a_hang_after_ten_steps_and_never_within_a_minute_or_the_set_up(
    facts: dict[str, float], seconds: float
) -> None:
    assert limit(**facts) == seconds
