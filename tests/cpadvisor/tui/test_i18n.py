import re
from pathlib import Path

import pytest

import cpadvisor.tui
from cpadvisor.tui.i18n import LANGUAGES, Words

SOURCES = [path for path in Path(cpadvisor.tui.__file__).parent.rglob("*.py") if path.name != "i18n.py"]


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_word_that_a_screen_asks_for_is_in_the_table(language: str) -> None:
    words = Words(language)
    asked = {key for path in SOURCES for key in re.findall(r"""words\[["']([a-z ]+)["']\]""", path.read_text())}
    assert len(asked) > 30
    assert all(words[key] for key in asked)


def test_an_unknown_language_falls_back_to_english() -> None:
    assert Words("fr")["links"] == "Links"


def test_the_languages_differ() -> None:
    assert Words("zh")["links"] != Words("en")["links"]
