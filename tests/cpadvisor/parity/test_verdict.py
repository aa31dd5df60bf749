"""The verdict on figures written by hand."""

from collections.abc import Callable

import pytest

from cpadvisor.parity.readings import Reading
from cpadvisor.parity.verdict import BFLOAT16, FLOAT32, Verdict, judge, relative

Make = Callable[..., Reading]

LOSS = {1: 6.0, 2: 5.5, 3: 5.25, 4: 5.0}


def outcomes(verdict: Verdict) -> dict[str, str]:
    return {check.name: check.outcome for check in verdict.checks}


def evidence(verdict: Verdict, name: str) -> str:
    return next(check.evidence for check in verdict.checks if check.name == name)


def sent(size: int, *, ranks: int = 2) -> dict[int, dict[int, int]]:
    return {rank: dict.fromkeys(LOSS, size) for rank in range(ranks)}


def test_a_difference_is_relative_to_cp_1():
    assert relative(4.0, 4.5) == 0.125
    assert relative(0.0, 0.25) == 0.25
    assert relative(None, 1.0) is None
    assert relative(1.0, float("nan")) is None


def test_like_runs_are_equal(make_reading: Make):
    near = {step: value * (1 + 5e-5) for step, value in LOSS.items()}
    verdict = judge(
        make_reading(cp=1, loss=LOSS), make_reading(cp=2, loss=near, sent=sent(768)), steps=4, step_bytes=(768, 768)
    )
    assert (verdict.word, verdict.first_wrong_step) == ("equal", None)
    assert outcomes(verdict) == dict.fromkeys(("split", "traffic", "loss", "grad_norm"), "passed")
    assert evidence(verdict, "split") == "256 local tokens x cp 2 = 512 on all 2 ranks, by ring"
    assert evidence(verdict, "traffic") == "768 B a step from every rank, as the formula has it"


def test_the_first_step_that_is_off_is_named(make_reading: Make):
    off = {**LOSS, 3: 5.25 * 1.01, 4: 5.0 * 1.02}
    verdict = judge(make_reading(cp=1, loss=LOSS), make_reading(cp=2, loss=off), steps=4, step_bytes=None)
    assert (verdict.word, verdict.first_wrong_step) == ("differs", 3)
    assert evidence(verdict, "loss") == "step 3: the loss is off by 1.0e-02, above 1e-04"
    assert [pair.within(verdict.tolerance) for pair in verdict.steps] == [True, True, False, False]


def test_the_gradient_norm_counts_where_the_loss_agrees(make_reading: Make):
    norms = {1: 2.0, 2: 2.3, 3: 2.0, 4: 2.0}
    verdict = judge(
        make_reading(cp=1, loss=LOSS), make_reading(cp=2, loss=LOSS, grad_norm=norms), steps=4, step_bytes=None
    )
    assert (verdict.word, verdict.first_wrong_step) == ("differs", 2)
    assert outcomes(verdict)["loss"] == "passed"
    assert evidence(verdict, "grad_norm") == "step 2: the gradient norm is off by 1.5e-01, above 1e-04"


def moved(by: dict[int, float]) -> dict[int, float]:
    return {step: value * (1 + by.get(step, 0.0)) for step, value in LOSS.items()}


def on_gpu(make_reading: Make, losses: dict[int, float]) -> Verdict:
    whole = make_reading(cp=1, loss=LOSS, backend="nccl")
    return judge(whole, make_reading(cp=2, loss=losses, backend="nccl"), steps=4, step_bytes=None)


def test_in_bf16_later_steps_may_drift_and_the_first_may_not(make_reading: Make):
    # One H200: another kernel moves the first loss by 5e-6, the fourth by 1.4e-2; a rank that does not exchange moves
    # the first by 2.3e-3 or more.
    rounded = on_gpu(make_reading, moved({1: 5e-6, 2: 1e-4, 3: 4e-3, 4: 1.4e-2}))
    assert (rounded.word, rounded.tolerance) == ("equal", BFLOAT16)
    assert evidence(rounded, "loss") == "5.0e-06 apart in step 1, within 1e-04; at most 1.4e-02 later, within 3e-02"
    faulty = on_gpu(make_reading, moved({1: 2.3e-3}))
    assert (faulty.word, faulty.first_wrong_step) == ("differs", 1)
    assert on_gpu(make_reading, moved({4: 5e-2})).first_wrong_step == 4


def test_float32_may_not_drift_either(make_reading: Make):
    whole, parallel = make_reading(cp=1, loss=LOSS), make_reading(cp=2, loss=moved({4: 1e-3}))
    verdict = judge(whole, parallel, steps=4, step_bytes=None)
    assert (verdict.word, verdict.first_wrong_step, verdict.tolerance) == ("differs", 4, FLOAT32)


@pytest.mark.parametrize("value", [None, float("nan"), float("inf")])
def test_a_value_that_is_no_number_is_wrong(make_reading: Make, value):
    verdict = judge(
        make_reading(cp=1, loss=LOSS), make_reading(cp=2, loss={**LOSS, 2: value}), steps=4, step_bytes=None
    )
    assert (verdict.word, verdict.first_wrong_step) == ("differs", 2)
    assert evidence(verdict, "loss") == "step 2: a loss is missing or no number"


def test_one_rank_that_tells_another_loss_is_enough(make_reading: Make):
    verdict = judge(
        make_reading(cp=1, loss=LOSS),
        make_reading(cp=2, loss=LOSS, losses={1: {**LOSS, 2: 5.0}}),
        steps=4,
        step_bytes=None,
    )
    assert (verdict.word, verdict.first_wrong_step) == ("differs", 2)


def test_a_missing_step_is_wrong(make_reading: Make):
    short = {step: LOSS[step] for step in (1, 2, 3)}
    verdict = judge(make_reading(cp=1, loss=LOSS), make_reading(cp=2, loss=short), steps=4, step_bytes=None)
    assert (verdict.word, verdict.first_wrong_step) == ("differs", 4)


@pytest.mark.parametrize(
    ("local", "said"),
    [
        ({0: 512, 1: 512}, "ranks 0, 1 have 512 local tokens; x cp 2 that is not 512"),
        ({1: 128}, "rank 1 has 128 local tokens; x cp 2 that is not 512"),
    ],
)
def test_local_tokens_that_do_not_add_up_are_no_context_parallelism(make_reading: Make, local, said):
    verdict = judge(make_reading(cp=1, loss=LOSS), make_reading(cp=2, loss=LOSS, local=local), steps=4, step_bytes=None)
    assert verdict.word == "not context parallel"
    assert evidence(verdict, "split") == said


def test_the_method_none_is_no_context_parallelism(make_reading: Make):
    verdict = judge(
        make_reading(cp=1, loss=LOSS), make_reading(cp=2, loss=LOSS, method="none"), steps=4, step_bytes=None
    )
    assert verdict.word == "not context parallel"
    assert evidence(verdict, "split") == "ranks 0, 1 have the method none"


def test_without_its_events_the_traffic_is_not_seen_and_not_passed(make_reading: Make):
    whole = make_reading(cp=1, loss=LOSS)
    silent = judge(
        whole, make_reading(cp=2, loss=LOSS, sent={0: dict.fromkeys(LOSS, 768)}), steps=4, step_bytes=(768, 768)
    )
    assert (silent.word, outcomes(silent)["traffic"]) == ("equal", "not seen")
    assert evidence(silent, "traffic") == "rank 1 did not say what it sent"
    unknown = judge(whole, make_reading(cp=2, loss=LOSS, sent=sent(768)), steps=4, step_bytes=None)
    assert (unknown.word, outcomes(unknown)["traffic"]) == ("equal", "not seen")


def test_a_rank_sends_what_its_place_asks_for(make_reading: Make):
    places = {0: dict.fromkeys(LOSS, 512), 1: dict.fromkeys(LOSS, 640)}
    verdict = judge(
        make_reading(cp=1, loss=LOSS), make_reading(cp=2, loss=LOSS, sent=places), steps=4, step_bytes=(512, 640)
    )
    assert evidence(verdict, "traffic") == "512 B to 640 B a step from every rank, as the formula has it"


def test_a_rank_that_sends_less_is_named_with_its_step(make_reading: Make):
    bytes_of = {0: dict.fromkeys(LOSS, 768), 1: {1: 768, 2: 512, 3: 768, 4: 768}}
    verdict = judge(
        make_reading(cp=1, loss=LOSS), make_reading(cp=2, loss=LOSS, sent=bytes_of), steps=4, step_bytes=(768, 768)
    )
    assert verdict.word == "differs"
    assert evidence(verdict, "traffic") == "step 2: rank 1 sent 512 B of 768 B"


def test_a_ring_that_carries_nothing_is_no_context_parallelism(make_reading: Make):
    verdict = judge(
        make_reading(cp=1, loss=LOSS), make_reading(cp=2, loss=LOSS, sent=sent(0)), steps=4, step_bytes=(768, 768)
    )
    assert verdict.word == "not context parallel"


def test_the_limits_say_why():
    for tolerance in (FLOAT32, BFLOAT16):
        assert tolerance.of(1) is tolerance.first and tolerance.of(2) is tolerance.later
        assert tolerance.why.startswith(("float32: ", "bf16: "))
