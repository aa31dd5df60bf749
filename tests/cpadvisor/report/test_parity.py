"""The comparison as text and JSON, on figures made by hand."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from cpadvisor.parity.readings import RankReading, Reading
from cpadvisor.parity.running import Outcome
from cpadvisor.parity.verdict import judge
from cpadvisor.report.parity import parity_json, parity_text
from cpadvisor.report.table import cell_width


def reading(cp: int, losses: tuple[float | None, ...], *, sent: int | None = None) -> Reading:
    steps = range(1, len(losses) + 1)
    ranks = tuple(
        RankReading(
            rank=rank,
            local_tokens=512 // cp,
            method="ring",
            backend="gloo",
            loss=dict(zip(steps, losses, strict=True)),
            grad_norm=dict.fromkeys(steps, 2.0),
            sent_bytes={} if sent is None else dict.fromkeys(steps, sent),
            warnings=("a planted fault",) if cp > 1 else (),
        )
        for rank in range(cp)
    )
    return Reading(directory=Path(f"/runs/tiny-cp{cp}"), cp=cp, sequence_len=512, micro_batch=1, ranks=ranks)


def outcome(losses: tuple[float | None, ...], *, sent: int | None = 768) -> Outcome:
    whole, parallel = reading(1, (6.0, 5.5)), reading(2, losses, sent=sent)
    verdict = judge(whole, parallel, steps=2, step_bytes=(768, 768))
    return Outcome(verdict=verdict, parallel=parallel, whole=whole, notes=("both runs take 512",))


def test_equal_runs_are_shown_side_by_side_with_their_limits():
    lines = parity_text(outcome((6.0, 5.5))).splitlines()
    assert " ".join(lines[0].split()) == "step loss, cp 1 cp 2 difference grad norm, cp 1 cp 2 difference"
    assert lines[2].split() == ["2", "5.500000", "5.500000", "0.0e+00", "2.000000", "2.000000", "0.0e+00"]
    assert lines[-1] == "verdict: equal: cp 2 gives what cp 1 gives, at 512 tokens"
    assert "runs: tiny-cp2, tiny-cp1" in lines
    assert max(cell_width(line) for line in lines) <= 80


def test_the_first_wrong_step_is_marked_and_named():
    text = parity_text(outcome((6.0, 5.6)))
    assert [line.endswith("<- differs") for line in text.splitlines()[1:3]] == [False, True]
    assert text.splitlines()[-1] == "verdict: differs: step 2 is the first that is wrong"


def test_a_check_that_fails_without_a_wrong_step_says_why():
    assert parity_text(outcome((6.0, 5.5), sent=512)).splitlines()[-1] == (
        "verdict: differs: step 1: ranks 0, 1 sent 512 B of 768 B"
    )


def test_what_was_not_seen_is_told_beside_the_verdict():
    assert parity_text(outcome((6.0, 5.5), sent=None)).splitlines()[-1].endswith("; not seen: bytes sent")


def test_notes_and_each_warning_once_stand_above_the_verdict():
    lines = parity_text(outcome((6.0, 5.5))).splitlines()
    assert lines[-4:-2] == ["note: both runs take 512", "warning: a planted fault"]


@pytest.mark.parametrize("value", [None, float("nan")])
def test_a_missing_value_is_a_dash_and_null(value: float | None):
    made = outcome((6.0, value))
    assert "–" in parity_text(made).splitlines()[2]
    data = json.loads(json.dumps(parity_json(made), allow_nan=False))
    assert data["steps"][1]["loss"] == {"cp_1": 5.5, "cp_n": None, "difference": None}


def test_json_holds_verdict_steps_checks_limits_and_runs():
    data = json.loads(json.dumps(parity_json(outcome((6.0, 5.5 * 1.5))), allow_nan=False))
    assert (data["schema"], data["verdict"], data["cp"], data["sequence_len"]) == (1, "differs", 2, 512)
    assert data["first_wrong_step"] == 2
    assert data["steps"][1]["loss"]["difference"] == pytest.approx(0.5)
    assert [check["name"] for check in data["checks"]] == ["split", "traffic", "loss", "grad_norm"]
    assert data["tolerance"]["first_step"] == data["tolerance"]["later_steps"] == {"loss": 1e-4, "grad_norm": 1e-4}
    assert "float32" in data["tolerance"]["why"]
    assert data["runs"] == [
        {"cp": 2, "run": "tiny-cp2", "dir": "/runs/tiny-cp2"},
        {"cp": 1, "run": "tiny-cp1", "dir": "/runs/tiny-cp1"},
    ]


def test_a_verdict_knows_whether_it_is_equal():
    made = outcome((6.0, 5.5)).verdict
    assert made.is_equal and not replace(made, word="differs").is_equal
