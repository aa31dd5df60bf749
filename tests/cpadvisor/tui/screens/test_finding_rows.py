from tui_support import DIAGNOSES

from cpadvisor.card import load_rows
from cpadvisor.doctor.diagnosis import Mend
from cpadvisor.tui.i18n import Words
from cpadvisor.tui.screens.finding_rows import card_facts, finding_facts, found_row, mend_lines
from cpadvisor.write.edit import REMOVE, Change

RING, _, DRIVER, SPLIT = DIAGNOSES


def text(lines: tuple[tuple[tuple[str, str], ...], ...]) -> list[str]:
    return ["".join(text for text, _ in line) for line in lines]


def test_a_mend_names_its_keys_once_and_writes_values_as_yaml() -> None:
    changes = (
        Change(key="gradient_checkpointing", value=True),
        Change(key="micro_batch_size", value=1),
        Change(key="flash_attention", value=REMOVE),
        Change(key="cpadvisor.prediction.peak_bytes", value=17),
    )
    mend = Mend(text="write micro_batch_size: 1", changes=changes)
    texts = ["".join(text for text, _ in line) for line in mend_lines(mend, Words("en"), chosen=False)]
    assert texts == ["write micro_batch_size: 1", "gradient_checkpointing: true", "flash_attention: removed"]


def test_the_chosen_mend_alone_says_what_enter_does() -> None:
    facts = finding_facts(RING, 1, Words("en"))
    mends = [fact for fact in facts if fact.name.startswith("mend")]
    assert [fact.chosen for fact in mends] == [False, True]
    assert [any("enter" in line for line in text(fact.lines)) for fact in mends] == [False, True]


def test_a_check_that_found_nothing_is_quiet_and_one_of_a_symptom_is_numbered() -> None:
    assert found_row(DRIVER, None)[2].runs == (("driver 580.95", "muted"),)
    assert found_row(SPLIT, 3)[0].runs == (("3", "faint"),)


def test_the_card_speaks_the_language_of_the_app() -> None:
    row = load_rows()["D4"]
    for language in ("en", "zh"):
        facts = card_facts(SPLIT, Words(language))
        assert [fact.name for fact in facts] == ["D4"]
        assert text(facts[0].lines)[0] == row.card[language].splitlines()[0]
