import json
from pathlib import Path

from cpadvisor.watch.reason import RankFailure, root_cause, torchrun_failures
from cpadvisor.watch.state import End

TABLE = """\
W1122 12:00:01.000 41 torch/distributed/elastic/multiprocessing/api.py:1010] Sending process 52 closing signal SIGTERM
torch.distributed.elastic.multiprocessing.errors.ChildFailedError:
============================================================
runtime.train FAILED
------------------------------------------------------------
Failures:
[1]:
  time      : 2026-11-22_12:00:01
  host      : node
  rank      : 0 (local_rank: 0)
  exitcode  : -15 (pid: 52)
  error_file: <N/A>
  traceback : Signal 15 (SIGTERM) received by PID 52
------------------------------------------------------------
Root Cause (first observed failure):
[0]:
  time      : 2026-11-22_12:00:00
  host      : node
  rank      : 2 (local_rank: 2)
  exitcode  : {code} (pid: 54)
  error_file: <N/A>
  traceback : To enable traceback see: https://pytorch.org/docs/stable/elastic/errors.html
============================================================
"""


def write_table(run_dir: Path, code: int) -> tuple[RankFailure, ...]:
    (run_dir / "log-agent.txt").write_text(TABLE.format(code=code))
    return torchrun_failures(run_dir)


def write_error(run_dir: Path, rank: int, text: str, stamp: int) -> None:
    path = run_dir / "torchrun" / "none_ab" / "attempt_0" / str(rank) / "error.json"
    path.parent.mkdir(parents=True)
    message = {"message": text, "extraInfo": {"py_callstack": "…", "timestamp": str(stamp)}}
    path.write_text(json.dumps({"message": message}))


def cause(run_dir: Path, *ends: End, failures: tuple[RankFailure, ...] = (), exit: int | None = 1) -> str:
    return root_cause(run_dir, ends=ends, failures=failures, exit=exit)


def test_torchruns_table_is_read_with_its_root_cause_last(tmp_path: Path) -> None:
    assert write_table(tmp_path, 1) == (RankFailure(rank=0, exit=-15), RankFailure(rank=2, exit=1))


def test_a_kill_from_outside_comes_before_what_its_peers_say(tmp_path: Path) -> None:
    failures = write_table(tmp_path, -9)
    peer = End(rank=0, state="failed", reason="RuntimeError: Connection closed by peer", t=5.0)
    assert cause(tmp_path, peer, failures=failures).startswith("rank 2 was ended by SIGKILL")


def test_a_peer_that_torchrun_ended_is_no_cause(tmp_path: Path) -> None:
    failures = write_table(tmp_path, 1)
    (tmp_path / "log-rank2.txt").write_text("Traceback\nValueError: bad token\n\n")
    assert cause(tmp_path, failures=failures) == "rank 2: ValueError: bad token"


def test_the_rank_that_failed_first_is_named_not_the_lowest(tmp_path: Path) -> None:
    first = End(rank=3, state="failed", reason="OutOfMemoryError: loss", t=5.0)
    later = End(rank=0, state="failed", reason="RuntimeError: Connection closed by peer", t=5.1)
    ended = End(rank=1, state="stopped", reason="SIGTERM", t=4.0)
    assert cause(tmp_path, later, first, ended) == "rank 3: OutOfMemoryError: loss"


def test_the_earliest_error_file_speaks_where_no_event_does(tmp_path: Path) -> None:
    write_error(tmp_path, 0, "RuntimeError: peer gone", 1002)
    write_error(tmp_path, 1, "FileNotFoundError: train.txt\nsecond line", 1001)
    assert cause(tmp_path) == "rank 1: FileNotFoundError: train.txt"


def test_a_torn_error_file_is_passed_over(tmp_path: Path) -> None:
    write_error(tmp_path, 0, "RuntimeError: x", 1002)
    write_error(tmp_path, 1, "never read", 1)
    torn = tmp_path / "torchrun" / "none_ab" / "attempt_0" / "1" / "error.json"
    torn.write_text('{"message"')
    assert cause(tmp_path) == "rank 0: RuntimeError: x"


def test_a_rank_without_words_is_told_by_its_exit_status(tmp_path: Path) -> None:
    assert cause(tmp_path, failures=write_table(tmp_path, 3)) == "rank 2 ended with exit status 3"


def test_torchrun_itself_is_asked_last(tmp_path: Path) -> None:
    (tmp_path / "log-agent.txt").write_text("Traceback\nModuleNotFoundError: No module named 'torch'\n")
    assert cause(tmp_path) == "ModuleNotFoundError: No module named 'torch'"
    assert cause(tmp_path, exit=-9) == "torchrun was ended by SIGKILL from outside"


def test_where_nothing_speaks_that_is_said(tmp_path: Path) -> None:
    assert cause(tmp_path, exit=2) == "the launcher ended with exit status 2"
    assert cause(tmp_path, exit=None) == "no rank and no log says why"


def test_a_long_reason_is_cut(tmp_path: Path) -> None:
    told = cause(tmp_path, End(rank=0, state="failed", reason="x" * 5000, t=1.0))
    assert len(told) == 400 and told.endswith("…")
