import pytest

from runtime.progress import Progress


def test_a_rank_begins_by_building_and_a_phase_keeps_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("runtime.progress.time.monotonic", lambda: now)
    progress = Progress()
    assert (progress.step, progress.phase, progress.since_s()) == (0, "build", 0.0)
    now = 107.5
    assert progress.since_s() == 7.5
    progress.enter("data", step=1)
    progress.enter("forward")
    assert (progress.step, progress.phase, progress.since_s()) == (1, "forward", 0.0)
