from pathlib import Path

import pytest

from runtime import state_folders


@pytest.fixture
def run_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run directory in which a state is whole if it holds a file `whole`."""
    monkeypatch.setattr(
        "runtime.state_index.defect", lambda folder: None if (folder / "whole").exists() else "it has no index"
    )
    return tmp_path


def write(run_dir: Path, step: int, *, whole: bool = True) -> None:
    state_folders.begin(run_dir, step)
    if whole:
        (state_folders.partial(run_dir, step) / "whole").write_text("x")
    state_folders.finish(run_dir, step)


def names(run_dir: Path) -> list[str]:
    return sorted(path.name for path in (run_dir / "checkpoints").iterdir())


def test_a_state_has_its_name_only_when_it_is_finished(run_dir: Path) -> None:
    state_folders.begin(run_dir, 4)
    assert names(run_dir) == ["step-4.partial"]
    assert state_folders.newest_whole(run_dir)[0] is None
    (state_folders.partial(run_dir, 4) / "whole").write_text("x")
    state_folders.finish(run_dir, 4)
    assert names(run_dir) == ["step-4"]
    assert state_folders.newest_whole(run_dir) == (4, ())


def test_the_newest_whole_one_is_taken_by_number_and_the_torn_are_named(run_dir: Path) -> None:
    for step in (8, 10, 9):
        write(run_dir, step, whole=step != 10)
    state_folders.begin(run_dir, 12)
    (run_dir / "checkpoints" / "notes.txt").write_text("mine")
    step, passed_over = state_folders.newest_whole(run_dir)
    assert step == 9
    assert passed_over == (
        f"{run_dir}/checkpoints/step-12.partial was not finished",
        f"{run_dir}/checkpoints/step-10 is not whole: it has no index",
    )


def test_a_directory_without_states_has_none(run_dir: Path) -> None:
    assert state_folders.newest_whole(run_dir) == (None, ())
    assert state_folders.set_aside(run_dir) is None
    assert list(run_dir.iterdir()) == []


def test_a_state_written_again_replaces_the_torn_one_of_its_step(run_dir: Path) -> None:
    write(run_dir, 4, whole=False)
    state_folders.begin(run_dir, 4)
    (state_folders.partial(run_dir, 4) / "left over").write_text("x")
    write(run_dir, 4)
    assert state_folders.newest_whole(run_dir) == (4, ())
    assert [path.name for path in state_folders.final(run_dir, 4).iterdir()] == ["whole"]


def test_the_last_states_are_kept_and_unfinished_ones_go(run_dir: Path) -> None:
    for step in (2, 4, 10):
        write(run_dir, step)
    state_folders.begin(run_dir, 3)
    (run_dir / "checkpoints" / "notes.txt").write_text("mine")
    state_folders.keep_last(run_dir, 2)
    assert names(run_dir) == ["notes.txt", "step-10", "step-4"]


def test_what_was_given_up_leaves_nothing(run_dir: Path) -> None:
    state_folders.begin(run_dir, 2)
    (state_folders.partial(run_dir, 2) / "part").write_text("x")
    state_folders.give_up(run_dir, 2)
    assert names(run_dir) == []


def test_states_of_an_earlier_run_are_moved_never_removed(run_dir: Path) -> None:
    for number in (1, 2):
        write(run_dir, 7 * number)
        assert state_folders.set_aside(run_dir) == run_dir / f"checkpoints.{number}"
    assert (run_dir / "checkpoints.1" / "step-7" / "whole").exists()
    assert (run_dir / "checkpoints.2" / "step-14" / "whole").exists()
    assert not (run_dir / "checkpoints").exists()


def test_a_run_directory_that_is_gone_is_not_made_again(run_dir: Path) -> None:
    with pytest.raises(FileNotFoundError):
        state_folders.begin(run_dir / "gone", 2)
    assert not (run_dir / "gone").exists()
