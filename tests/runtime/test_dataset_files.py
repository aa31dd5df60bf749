from pathlib import Path

import pytest

from runtime.dataset_files import DataSource, documents, python_stdlib
from runtime.errors import ConfigError


def rows(path: Path, text: str, field: str = "text") -> list[str]:
    path.write_text(text)
    return list(documents((DataSource(path=path, field=field),)))


def test_a_text_file_is_one_document(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("one\ntwo\n")
    assert list(documents((DataSource(path=path, field=None),))) == ["one\ntwo\n"]


def test_each_row_of_json_is_a_document_and_blank_ones_are_none(tmp_path: Path) -> None:
    # U+2028 ends a line for str.splitlines, not for JSON.
    text = '{"body": "one\u2028more"}\n\n{"body": ""}\n{"body": "two", "id": 1}\n'
    assert rows(tmp_path / "a.jsonl", text, field="body") == ["one\u2028more", "two"]


def test_windows_marks_and_line_ends_are_no_part_of_the_text(tmp_path: Path) -> None:
    assert rows(tmp_path / "a.jsonl", '\ufeff{"text": "one"}\r\n\r\n{"text": "two"}\r\n') == ["one", "two"]
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfone\r\ntwo\r\n")
    assert list(documents((DataSource(path=tmp_path / "a.txt", field=None),))) == ["one\ntwo\n"]


def test_half_of_a_surrogate_pair_becomes_a_question_mark(tmp_path: Path) -> None:
    assert rows(tmp_path / "a.jsonl", r'{"text": "a\ud83db \ud83d\ude00"}') == ["a?b \U0001f600"]


def test_files_come_in_the_order_of_the_config(tmp_path: Path) -> None:
    for name in ("b", "a"):
        (tmp_path / name).write_text(name)
    sources = tuple(DataSource(path=tmp_path / name, field=None) for name in ("b", "a"))
    assert list(documents(sources)) == ["b", "a"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"text": "a"}\n{"text": \n', "line 2 is not JSON"),
        ('{"text": "a"}\n{"body": "b"}\n', r"line 2 has no text under field 'text' \(it has 'body'\)"),
        ('{"text": 3}\n', "line 1 has no text under field 'text'"),
        pytest.param('{"text": ' + "[" * 100_000 + "\n", "line 1 is not JSON", id="nested without end"),
        ("[1]\n", "line 1 has no text under field 'text' .it is no object"),
    ],
)
def test_a_bad_row_names_file_and_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=r"a\.jsonl: " + message):
        rows(tmp_path / "a.jsonl", text)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="cannot be read as UTF-8 text"):
        list(documents((DataSource(path=path, field=None),)))


def test_the_built_in_corpus_is_megabytes_of_python_and_the_same_each_time() -> None:
    text = python_stdlib()
    assert len(text) > 3_000_000
    assert "class ArgumentParser(" in text
    assert text == python_stdlib()
    assert next(documents(())) == text
