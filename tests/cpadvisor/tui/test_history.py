import pytest
from tui_support import history_entries

from cpadvisor.tui.history import SPEEDS, ReplayState, matching, next_speed


def test_a_run_that_cannot_be_read_is_not_alive() -> None:
    assert [entry.is_alive for entry in history_entries()] == [True, False, False, False]


def test_a_filter_looks_at_name_model_layout_and_state() -> None:
    entries = history_entries()
    assert [entry.name for entry in matching(entries, "OUT OF memory llama")] == [entries[1].name]
    assert [entry.name for entry in matching(entries, "torn")] == [entries[3].name]
    assert matching(entries, "") == entries


@pytest.mark.parametrize(
    ("speed", "step", "next_one"),
    [(10.0, 1, 20.0), (10.0, -1, 5.0), (7.0, 1, 10.0), (1.0, -1, 1.0), (1000.0, 1, 1000.0)],
)
def test_a_speed_goes_to_its_neighbour_and_stops_at_the_ends(speed: float, step: int, next_one: float) -> None:
    assert next_speed(speed, step) == next_one
    assert list(SPEEDS) == sorted(SPEEDS)


def test_a_replay_is_over_at_its_last_frame_and_one_without_length_at_once() -> None:
    assert ReplayState(at_s=5.0, length_s=5.0, speed=1.0).is_over
    assert not ReplayState(at_s=4.9, length_s=5.0, speed=1.0).is_over
    assert ReplayState(at_s=0.0, length_s=0.0, speed=1.0).is_over
