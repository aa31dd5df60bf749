import errno
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from runtime.errors import DiskFullError, TrainerError, VanishedError
from runtime.reporter import Reporter
from runtime.telemetry import EventReader, EventWriter, events_path


def kinds(folder: Path) -> list[tuple[str, object]]:
    return [(event["kind"], event.get("state")) for event in EventReader(events_path(folder, 0)).poll()]


def test_the_end_is_written_once_and_nothing_after_it(tmp_path: Path) -> None:
    reporter = Reporter(tmp_path / "run", rank=0)
    reporter.emit("step", step=1)
    reporter.end("failed", "first")
    reporter.end("done")
    reporter.emit("step", step=2)
    assert kinds(tmp_path / "run") == [("step", None), ("end", "failed")]


def test_a_heartbeat_comes_only_after_silence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reporter = Reporter(tmp_path, rank=0)
    reporter.emit("step", step=1)
    reporter.heartbeat()
    assert kinds(tmp_path) == [("step", None)]
    monkeypatch.setattr("runtime.reporter.HEARTBEAT_S", 0.01)
    time.sleep(0.02)
    reporter.heartbeat()
    reporter.heartbeat()
    assert kinds(tmp_path) == [("step", None), ("heartbeat", None)]


def test_rank_0_alone_speaks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Reporter(tmp_path, rank=1).warn("rule", "from rank 1")
    Reporter(tmp_path, rank=0).warn("rule", "from rank 0")
    assert capsys.readouterr().out == "warning: from rank 0\n"


def events(folder: Path) -> list[dict[str, Any]]:
    return list(EventReader(events_path(folder, 0)).poll())


def test_the_end_of_a_failure_carries_its_cause(tmp_path: Path) -> None:
    reporter = Reporter(tmp_path, rank=0)
    reporter.step = 2
    reporter.progress.enter("forward", step=3)
    reporter.end("failed", "loss is nan", cause="not_a_number", ranks=[1])
    (end,) = events(tmp_path)
    assert (end["kind"], end["state"], end["reason"]) == ("end", "failed", "loss is nan")
    assert (end["step"], end["in_step"]) == (2, 3)  # the last that was finished, and the one under way
    assert (end["cause"], end["ranks"]) == ("not_a_number", [1])


def full_until_the_ballast_is_gone(run_dir: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    write = EventWriter.emit

    def emit(self: EventWriter, kind: str, **fields: object) -> None:
        if (run_dir / "ballast").exists():
            raise OSError(code, os.strerror(code))
        write(self, kind, **fields)

    monkeypatch.setattr(EventWriter, "emit", emit)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_told_in_the_space_of_the_ballast(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    reporter = Reporter(tmp_path, rank=0)
    reporter.emit("step", step=1)
    (tmp_path / "ballast").write_bytes(bytes(64 << 10))
    full_until_the_ballast_is_gone(tmp_path, monkeypatch, code)
    with pytest.raises(DiskFullError) as caught:
        reporter.emit("step", step=2)
    reporter.end("failed", "a later word")
    assert [event["kind"] for event in events(tmp_path)] == ["step", "end"]
    end = events(tmp_path)[-1]
    assert (end["state"], end["cause"], end["reason"]) == ("failed", "disk_full", str(caught.value))
    assert f"cannot write {events_path(tmp_path, 0)}: {os.strerror(code)} (" in end["reason"]
    assert "bytes are free there); free some space, then resume the run" in end["reason"]


def test_the_end_itself_may_need_the_ballast(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reporter = Reporter(tmp_path, rank=0)
    (tmp_path / "ballast").write_bytes(b"x")
    full_until_the_ballast_is_gone(tmp_path, monkeypatch, errno.ENOSPC)
    reporter.end("stopped", "SIGTERM at step 4")
    assert [(event["state"], event["reason"]) for event in events(tmp_path)] == [("stopped", "SIGTERM at step 4")]


def test_a_disk_full_to_the_last_byte_still_ends_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reporter = Reporter(tmp_path, rank=0)
    (tmp_path / "ballast").mkdir()  # cannot be removed as a file, so there is never any space
    full_until_the_ballast_is_gone(tmp_path, monkeypatch, errno.ENOSPC)
    with pytest.raises(DiskFullError, match="No space left on device"):
        reporter.emit("step", step=1)
    reporter.end("failed", "never written, never raised")
    assert events(tmp_path) == []


def test_another_error_of_the_disk_is_told_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reporter = Reporter(tmp_path, rank=0)
    (tmp_path / "ballast").write_bytes(b"x")
    full_until_the_ballast_is_gone(tmp_path, monkeypatch, errno.EIO)
    with pytest.raises(TrainerError, match=r"cannot write .*events-rank0\.jsonl: Input/output error") as caught:
        reporter.emit("step", step=1)
    assert not isinstance(caught.value, DiskFullError)
    assert events(tmp_path)[-1]["cause"] == "exception"


def test_a_log_on_a_full_disk_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reporter = Reporter(tmp_path, rank=0)
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr("sys.stdout", full)
        with pytest.raises(DiskFullError, match="cannot write /dev/full: No space left on device"):
            reporter.say("step 1/4")
        # What could not be written waits in the buffer: closing the file must not try again and fail.
    assert events(tmp_path)[-1]["cause"] == "disk_full"


def test_a_directory_that_cannot_be_made_is_told_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TrainerError, match=r"cannot write .*file/run/events-rank0\.jsonl: Not a directory"):
        Reporter(tmp_path / "file" / "run", rank=0)


@pytest.mark.parametrize("how", ["removed", "moved", "replaced"])
def test_a_directory_that_is_gone_ends_the_run_and_is_not_made_again(tmp_path: Path, how: str) -> None:
    run_dir = tmp_path / "run"
    reporter = Reporter(run_dir, rank=0)
    reporter.emit("step", step=1)
    if how == "moved":
        run_dir.rename(tmp_path / "elsewhere")
    else:
        shutil.rmtree(run_dir)
    if how == "replaced":
        run_dir.mkdir()
        events_path(run_dir, 0).write_text("")
    with pytest.raises(VanishedError, match=f"the run directory {run_dir} is gone"):
        reporter.emit("step", step=2)
    reporter.end("failed", "nobody reads this")
    assert list(run_dir.iterdir() if how == "replaced" else tmp_path.glob("run")) == (
        [events_path(run_dir, 0)] if how == "replaced" else []
    )
    if how == "moved":
        assert kinds(tmp_path / "elsewhere") == [("step", None)]
