from pathlib import Path
from typing import Any

import pytest
from tiny_run import write_folder

from runtime import config as configs
from runtime.errors import ConfigError
from runtime.settings import Checkpoints


def load(folder: Path, **changes: Any) -> tuple[bool, Checkpoints | None, tuple[str, ...]]:
    config = configs.load(write_folder(folder, **changes), world=1)
    return config.saves_model, config.checkpoints, config.warnings


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, None),
        ({"save_strategy": "end"}, None),
        ({"save_steps": 20}, Checkpoints(every=20, keep=2)),
        ({"save_steps": 20, "save_strategy": "steps"}, Checkpoints(every=20, keep=2)),
        ({"save_steps": 0.25, "save_total_limit": 5}, Checkpoints(every=0.25, keep=5)),
        ({"save_strategy": "steps"}, Checkpoints(every=500, keep=2)),
    ],
)
def test_training_states_are_asked_for_as_in_axolotl(
    tmp_path: Path, changes: dict[str, Any], expected: Checkpoints | None
) -> None:
    assert load(tmp_path, **changes) == (True, expected, ())


def test_what_saves_nothing_is_said(tmp_path: Path) -> None:
    assert load(tmp_path, save_strategy="no", save_total_limit=3) == (
        False,
        None,
        ("save_total_limit has no effect here: without save_steps no training state is written",),
    )
    assert load(tmp_path, save_strategy="epoch")[2] == (
        "save_strategy epoch has no effect here: the model is written once, at the end",
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"save_steps": 0}, "save_steps 0 is neither a whole number from 1 up nor a share of all steps below 1"),
        ({"save_steps": -5}, "save_steps -5 is neither"),
        ({"save_steps": 2.5}, "save_steps 2.5 is neither"),
        ({"save_steps": True}, "save_steps True is neither"),
        ({"save_steps": "often"}, "save_steps 'often' is neither"),
        ({"save_steps": 10, "save_total_limit": 0}, "save_total_limit 0 is not a whole number from 1 up; use 2"),
        ({"save_steps": 10, "save_strategy": "epoch"}, "save_strategy epoch and save_steps 10 do not go together"),
        ({"save_steps": 10, "save_strategy": False}, "save_strategy `no` and save_steps 10 do not go together"),
        ({"save_steps": 10, "saves_per_epoch": 2}, "save_steps and saves_per_epoch are both given; remove one"),
        ({"resume_from_checkpoint": "x"}, "resume_from_checkpoint: a run goes on in its own directory"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_mend(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, **changes)
    assert len(caught.value.problems) == 1
    assert message in caught.value.problems[0]


def test_a_state_is_due_every_so_many_steps_and_after_the_last() -> None:
    every_2 = Checkpoints(every=2, keep=2)
    assert [step for step in range(1, 8) if every_2.is_due(step, 7)] == [2, 4, 6, 7]
    # A quarter of 10 steps is 2.5, rounded up as in transformers.
    quarter = Checkpoints(every=0.25, keep=2)
    assert [step for step in range(1, 11) if quarter.is_due(step, 10)] == [3, 6, 9, 10]
