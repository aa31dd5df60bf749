import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cpadvisor.watch.logs import MAX_LINE, clean_line, log_times, tail, tail_file


@pytest.mark.parametrize(
    ("raw", "line"),
    [
        ("a\u061cb\u202ec\u2066d".encode(), "abcd"),
        (b"plain", "plain"),
        (b"\x1b[31mred\x1b[0m and \x1b[1;38;5;208mbold\x1b[m", "red and bold"),
        (b"\x1b]0;title\x07text\x1b]52;c;c2VjcmV0\x1b\\", "text"),
        (b"\x1b[?1049h\x1b[2J\x1b[Hgone", "gone"),
        (b"\x1bP1$r0m\x1b\\after", "after"),
        (b"\x1b(Bset\x1b=", "set"),
        (b"unfinished \x1b[38;5", "unfinished "),
        (b"  5%|#\r 50%|#####\r100%|##########", "100%|##########"),
        (b"windows\r", "windows"),
        (b"a\tb\x00\x07\x08c", "a       bc"),
        ("üñ \u202edesrever".encode(), "üñ desrever"),
        (b"\xff broken", "\ufffd broken"),
        ("c1 \x9b31m codes \x85".encode(), "c1  codes "),
    ],
)
def test_a_line_is_what_a_reader_would_see_and_nothing_that_a_terminal_obeys(raw: bytes, line: str) -> None:
    assert clean_line(raw) == line


def test_a_long_line_is_cut_and_says_so() -> None:
    assert clean_line(b"x" * MAX_LINE) == "x" * MAX_LINE
    assert clean_line(b"x" * 50_000) == "x" * (MAX_LINE - 1) + "…"


@given(st.binary(max_size=300))
def test_no_control_character_is_left_in_any_line(raw: bytes) -> None:
    assert all(character >= " " and not "\x7f" <= character <= "\x9f" for character in clean_line(raw))


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log-rank0.txt"


def test_the_last_lines_come_in_their_order(log: Path) -> None:
    log.write_text("one\ntwo\nthree\nnot ended")
    assert tail_file(log, lines=2) == ("three", "not ended")
    assert tail_file(log, lines=99) == ("one", "two", "three", "not ended")
    assert tail_file(log, lines=0) == ()


def test_blank_lines_count_and_the_last_line_end_does_not(log: Path) -> None:
    log.write_text("one\n\n\n")
    assert tail_file(log, lines=2) == ("", "")


def test_only_the_end_of_a_large_file_is_read(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with log.open("wb") as file:
        file.truncate(8 << 30)  # sparse: reading it whole would take 8 GiB
        file.seek(0, 2)
        file.write(b"\n" + b"".join(b"line %d\n" % number for number in range(20_000)))
    lines = tail_file(log, lines=10_000)
    assert (lines[0], lines[-1], len(lines)) == ("line 10000", "line 19999", 10_000)


def test_a_line_without_an_end_is_not_read_whole(log: Path) -> None:
    with log.open("wb") as file:
        file.truncate(8 << 30)
    assert tail_file(log, lines=5) == ("",)


def test_a_log_that_is_not_there_has_no_lines(tmp_path: Path) -> None:
    assert tail(tmp_path, 0, 10) == ()
    assert tail(tmp_path, None, 10) == ()


def test_without_a_rank_the_launchers_log_is_shown(tmp_path: Path) -> None:
    (tmp_path / "log-agent.txt").write_text("from torchrun\n")
    assert tail(tmp_path, None, 10) == ("from torchrun",)


def test_ranks_that_axolotl_starts_are_found_in_torchruns_folder(tmp_path: Path) -> None:
    folder = tmp_path / "torchrun" / "none_x1" / "attempt_0" / "1"
    folder.mkdir(parents=True)
    (folder / "stdout.log").touch()
    (folder / "stderr.log").write_text("RuntimeError: out of memory\n")
    assert tail(tmp_path, 1, 5) == ("RuntimeError: out of memory",)
    assert tail(tmp_path, 0, 5) == ()


def test_of_each_rank_the_log_that_was_written_last_tells_when(tmp_path: Path) -> None:
    for rank, name, seconds in ((0, "stdout", 5), (0, "stderr", 7), (1, "stdout", 6)):
        log = tmp_path / "torchrun" / "none_x1" / "attempt_0" / str(rank) / f"{name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text("step\n")
        os.utime(log, (seconds, seconds))
    (log.parent / "stderr.log").touch()
    assert log_times(tmp_path) == {0: 7.0, 1: 6.0}
