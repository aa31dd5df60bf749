from pathlib import Path

from cpadvisor.tui import command_log
from cpadvisor.tui.command_log import MOST_ENTRIES, CommandLog, Entry, line_of


def test_a_command_stands_in_the_log_from_its_start_and_gets_its_outcome_at_its_end() -> None:
    log = CommandLog()
    number = log.begin("cpadvisor plan")
    assert [(entry.command, entry.seconds) for entry in log.entries] == [("cpadvisor plan", None)]
    log.end(number, "it failed")
    assert log.entries[0].seconds is not None
    assert log.entries[0].problem == "it failed"


def test_the_file_is_the_users_alone_and_holds_one_line_a_command(tmp_path: Path) -> None:
    path = tmp_path / "state" / "commands.log"
    log = CommandLog(path)
    log.end(log.begin("cpadvisor stop r1"))
    log.end(log.begin("cpadvisor launch c.yaml"), "two\nlines")
    assert path.stat().st_mode & 0o777 == 0o600
    first, second = path.read_text().splitlines()
    assert first.endswith("  cpadvisor stop r1")
    assert "  ok  " in first
    assert second.endswith("  cpadvisor launch c.yaml  # two lines")
    assert "  failed  " in second


def test_a_line_has_time_outcome_length_and_command() -> None:
    # 1 700 000 000 seconds after the epoch is 2023-11-14 22:13:20 UTC.
    entry = Entry(command="cpadvisor inspect", started_at=1_700_000_000, seconds=0.26)
    assert line_of(entry) == "2023-11-14T22:13:20Z  ok  0.3 s  cpadvisor inspect"


def test_the_log_is_bounded_in_memory_and_on_disk(tmp_path: Path, monkeypatch) -> None:  # pyright: ignore
    monkeypatch.setattr(command_log, "MOST_BYTES", 2000)
    path = tmp_path / "commands.log"
    log = CommandLog(path)
    for place in range(MOST_ENTRIES + 20):
        log.end(log.begin(f"cpadvisor stop run-{place}"))
    assert len(log.entries) == MOST_ENTRIES
    assert path.stat().st_size <= 2000 + 100
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_text().splitlines()[-1].endswith(f"run-{MOST_ENTRIES + 19}")


def test_a_log_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    log = CommandLog(tmp_path)  # a folder
    log.end(log.begin("cpadvisor inspect"))
    assert len(log.entries) == 1


def test_a_link_in_the_place_of_the_log_is_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "precious"
    target.write_text("kept")
    (tmp_path / "commands.log").symlink_to(target)
    log = CommandLog(tmp_path / "commands.log")
    log.end(log.begin("cpadvisor inspect"))
    assert target.read_text() == "kept"


def test_without_a_path_nothing_is_written(tmp_path: Path, monkeypatch) -> None:  # pyright: ignore
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    log = CommandLog()
    log.end(log.begin("cpadvisor inspect"))
    assert list(tmp_path.iterdir()) == []
