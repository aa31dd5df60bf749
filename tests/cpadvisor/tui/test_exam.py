from tui_support import DIAGNOSES

from cpadvisor.doctor.diagnosis import SEVERITIES
from cpadvisor.tui.exam import LOOKED_AT, MARKS, SUBJECTS, counts, matching


def test_every_severity_has_a_mark_of_its_own_worst_first() -> None:
    assert tuple(MARKS) == SEVERITIES
    assert len({mark for mark, _ in MARKS.values()}) == len(SEVERITIES)


def test_findings_are_counted_by_severity() -> None:
    assert counts(DIAGNOSES) == {"error": 1, "warning": 1, "note": 0, "ok": 2}


def test_every_subject_says_what_is_looked_at() -> None:
    assert set(LOOKED_AT) == set(SUBJECTS)


def test_a_filter_wants_every_word_in_any_case_and_anywhere() -> None:
    assert [one.rule for one in matching(DIAGNOSES, "PHB d2")] == ["ring-link"]
    assert [one.rule for one in matching(DIAGNOSES, "shm phb")] == []
    assert matching(DIAGNOSES, "  ") == DIAGNOSES
