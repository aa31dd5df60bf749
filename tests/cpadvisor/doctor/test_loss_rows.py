"""A spike of the gradient is told with what became of the loss; only a loss that is lost learns nothing more."""

from dataclasses import replace

import pytest
from sound_subjects import TINY, SoundRun

from cpadvisor.doctor.loss_rows import Spike, spikes_of
from cpadvisor.doctor.run import examine_run
from cpadvisor.watch.failure import Failure
from cpadvisor.watch.monitor import Monitor

RANDOM = TINY["cpadvisor"]


def loss_row(run, view=None):
    return next(one for one in examine_run(run.directory, view=view) if one.rule == "loss")


def spiked_at(run, spike, losses, *, norm=35.0):
    for number, loss in enumerate(losses, start=1):
        run.stepped(0, number, loss=loss, grad_norm=norm if number == spike else 1.0)
    return run


def falling(steps):
    return [6.0 - 4.0 * number / steps for number in range(1, steps + 1)]


@pytest.fixture
def run(tmp_path):
    run = SoundRun(tmp_path / "run")
    run.started(0)
    return run


def test_one_spike_in_a_loss_that_falls_on_is_well_and_says_what_bounds_its_update(run):
    one = loss_row(spiked_at(run, 20, falling(60)))
    assert (one.severity, one.effect, one.mends) == ("ok", None, ())
    assert one.title == "the gradient of step 20 was 35 times the middle; the loss did not rise after it"
    # Medians of the losses of steps 11 to 20 and 21 to 30: 6 - 4 x 15.5 / 60 and 6 - 4 x 25.5 / 60.
    assert "step 20: 35 times the middle, loss 4.967 before and 4.3 after" in one.evidence
    assert one.evidence.endswith("; clipping at max_grad_norm 1 bounds its update")


def test_a_spike_after_which_the_loss_rose_is_a_warning_that_says_by_how_much(run):
    one = loss_row(spiked_at(run, 20, [2.0] * 20 + [2.2] * 20))
    assert one.severity == "warning"
    assert one.effect == "what was learned is partly lost: the loss went from 2 to 2.2"
    assert "learning_rate: 0.0003 in place of 0.001" in one.mends[0].text


def test_a_spike_in_the_newest_step_is_a_note_until_more_is_known(run):
    one = loss_row(spiked_at(run, 20, falling(20)))
    assert (one.severity, one.mends) == ("note", ())
    assert one.title.endswith("the loss does not tell yet what follows")


def test_a_spike_that_nothing_clips_says_so(tmp_path):
    run = SoundRun(tmp_path / "run", config={"max_grad_norm": 0})
    run.started(0)
    assert "max_grad_norm 0 leaves its update unbounded" in loss_row(spiked_at(run, 20, falling(60))).evidence


def test_of_several_spikes_the_one_after_which_the_loss_rose_is_told(run):
    losses = [2.0] * 20 + [3.0] * 20
    norms = {10: 90.0, 20: 30.0}
    for number, loss in enumerate(losses, start=1):
        run.stepped(0, number, loss=loss, grad_norm=norms.get(number, 1.0))
    one = loss_row(run)
    assert one.title.startswith("the loss grows") and "step 10: 90 times" in one.evidence
    spikes = spikes_of(tuple(enumerate(losses, start=1)), tuple((n, norms.get(n, 1.0)) for n in range(1, 41)))
    assert [(spike.step, spike.is_bad) for spike in spikes] == [(10, False), (20, True)]


def test_a_spike_is_bad_only_above_what_chance_gives():
    # 2 % of 2.0 is 0.04.
    assert not Spike(step=1, times=30.0, before=2.0, after=2.03).is_bad
    assert Spike(step=1, times=30.0, before=2.0, after=2.05).is_bad


def test_a_run_that_ended_at_a_loss_that_is_no_number_has_no_row_that_is_well(run):
    view = replace(
        Monitor(run.whole().directory).poll(),
        state="failed",
        failure=Failure(kind="not_a_number", headline="the loss of step 6 is nan"),
    )
    one = loss_row(run, view)
    assert (one.severity, one.title) == ("error", "after step 5 the loss or its gradient is not a number")
    assert one.mends == (), "the failure has them"


@pytest.mark.parametrize(
    ("rate", "block", "wanted"),
    [
        (1e-3, RANDOM, 3e-4),
        (2e-3, RANDOM, 6e-4),
        (5e-6, RANDOM, 1e-6),
        (1e-3, {**RANDOM, "random_weights": False}, 1e-5),
        (1e-5, {**RANDOM, "random_weights": False}, 5e-6),
    ],
)
def test_random_weights_keep_a_rate_at_which_they_learn(rate, block, wanted, tmp_path):
    run = SoundRun(tmp_path / "run", config={"learning_rate": rate, "cpadvisor": block})
    run.started(0)
    changes = loss_row(spiked_at(run, 20, [2.0] * 20 + [2.2] * 20)).mends[0].changes
    assert [(change.key, change.value) for change in changes] == [("learning_rate", wanted)]


def test_the_steadiness_of_a_config_of_random_weights_offers_no_rate_at_which_they_learn_nothing(run):
    one = next(one for one in examine_run(run.directory) if one.rule == "C8")
    assert one.mends[0].changes[0].value == pytest.approx(3e-4)
