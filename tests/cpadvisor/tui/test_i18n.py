import re
from pathlib import Path

import pytest

import cpadvisor.tui
from cpadvisor.report.compare import figure_rows
from cpadvisor.report.run import comparison_rows
from cpadvisor.tui.i18n import LANGUAGES, Words
from cpadvisor.watch.compare import compare_runs
from cpadvisor.watch.view import FINAL_STATES, LIVE_STATES, RunView, state_label

SOURCES = [path for path in Path(cpadvisor.tui.__file__).parent.rglob("*.py") if path.name != "i18n.py"]


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_word_that_a_screen_asks_for_is_in_the_table(language: str) -> None:
    words = Words(language)
    asked = {key for path in SOURCES for key in re.findall(r"""words\[["']([a-z ]+)["']\]""", path.read_text())}
    assert len(asked) > 30
    assert all(words[key] for key in asked)


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_state_and_every_figure_of_a_run_has_a_name(language: str) -> None:
    words = Words(language)
    view = RunView(run="r", directory=Path("/runs/r"), state="done")
    names = [name for name, *_ in (*comparison_rows(view), *figure_rows(compare_runs(view, view, None, None)))]
    assert len({words.figure(name) for name in names}) == len(set(names))
    states = [*LIVE_STATES, *FINAL_STATES]
    assert len({words.state(state) for state in states}) == len(states)
    if language == "en":
        assert [words.state(state) for state in states] == [state_label(state) for state in states]
        assert [words.figure(name) for name in names] == names


def test_a_state_of_another_version_is_shown_as_it_is() -> None:
    assert Words("zh").state("waiting_in_line") == "waiting in line"


def test_an_unknown_language_falls_back_to_english() -> None:
    assert Words("fr")["links"] == "Links"


def test_the_languages_differ() -> None:
    assert Words("zh")["links"] != Words("en")["links"]
