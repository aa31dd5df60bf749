from pathlib import Path

from cpadvisor.watch.clues import RankFailure, read_clues, table_rows

# torch 2.13: rank 1 was killed with SIGKILL, torchrun then ended rank 0.
AGENT_LOG = """\
W1123 18:00:01.000 41 torch/distributed/elastic/multiprocessing/api.py:1010] Sending process 52 closing signal SIGTERM
E1123 18:00:02.000 41 torch/distributed/elastic/multiprocessing/api.py:984] failed (exitcode: -9) of rank 1
Failures:
[1]:
  time      : 2026-11-23_18:00:02
  host      : node
  rank      : 0 (local_rank: 0)
  exitcode  : -15 (pid: 52)
Root Cause (first observed failure):
[0]:
  time      : 2026-11-23_18:00:01
  host      : node
  rank      : 1 (local_rank: 1)
  exitcode  : -9 (pid: 53)
"""


def test_the_rows_of_torchruns_table_come_with_its_root_cause_last() -> None:
    assert table_rows(tuple(AGENT_LOG.splitlines())) == (
        RankFailure(rank=0, exit=-15, pid=52),
        RankFailure(rank=1, exit=-9, pid=53),
    )


def test_a_row_without_a_pid_is_a_row_all_the_same() -> None:
    assert table_rows(("  rank : 3 (local_rank: 1)", "  exitcode : 1")) == (RankFailure(rank=3, exit=1),)


def test_ranks_that_torchrun_ended_itself_are_no_first_failures(tmp_path: Path) -> None:
    (tmp_path / "log-agent.txt").write_text(AGENT_LOG)
    clues = read_clues(tmp_path, world=2)
    assert clues.closed_pids == {52}
    assert clues.first_failures == (RankFailure(rank=1, exit=-9, pid=53),)


def test_a_directory_without_files_has_no_clues_but_its_space(tmp_path: Path) -> None:
    clues = read_clues(tmp_path, world=2)
    assert (clues.failures, clues.errors, clues.agent_log, clues.config) == ((), (), (), {})
    assert clues.rank_logs == {0: (), 1: ()}
    assert clues.space is not None


def test_a_config_that_cannot_be_read_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_bytes(b"\xff\xfe: [")
    assert read_clues(tmp_path, world=1).config == {}
    (tmp_path / "config.yaml").write_text("learning_rate: 2e-5\n")
    assert read_clues(tmp_path, world=1).config == {"learning_rate": 2e-5}


def test_logs_are_plain_lines_of_their_end(tmp_path: Path) -> None:
    lines = [f"\x1b[31mline {number}\x1b[0m" for number in range(500)]
    (tmp_path / "log-rank0.txt").write_text("\n".join(lines) + "\n")
    told = read_clues(tmp_path, world=1).rank_logs[0]
    assert (told[0], told[-1], len(told)) == ("line 440", "line 499", 60)
