import json
from pathlib import Path
from typing import Any

import pytest

from cpadvisor.processes import ProcessId
from cpadvisor.runrecord import RunRecord
from cpadvisor.watch.case import Case
from cpadvisor.watch.clues import read_clues
from cpadvisor.watch.failure import KINDS, Failure
from cpadvisor.watch.reason import root_cause
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
  exitcode  : {peer} (pid: 52)
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

RECORD = RunRecord(
    run="r",
    interpreter="/venv/bin/python",
    model="tiny",
    sequence_len=8192,
    world=4,
    agent=ProcessId(pid=41, start_ticks=9),
)


def write_table(run_dir: Path, code: int, *, peer: int = -15) -> None:
    (run_dir / "log-agent.txt").write_text(TABLE.format(code=code, peer=peer))


def write_error(run_dir: Path, rank: int, text: str, stamp: int, stack: str = "…") -> None:
    path = run_dir / "torchrun" / "none_ab" / "attempt_0" / str(rank) / "error.json"
    path.parent.mkdir(parents=True)
    message = {"message": text, "extraInfo": {"py_callstack": stack, "timestamp": str(stamp)}}
    path.write_text(json.dumps({"message": message}))


def failure(run_dir: Path, *ends: End, exit: int | None = 1, **more: Any) -> Failure:
    clues = read_clues(run_dir, world=4)
    found = root_cause(Case(record=RECORD, name="r", ends=ends, clues=clues, exit=exit, **more))
    assert found.kind in KINDS
    assert len(found.evidence) <= 10
    return found


def cause(run_dir: Path, *ends: End, exit: int | None = 1) -> str:
    return failure(run_dir, *ends, exit=exit).headline


def failed(rank: int, reason: str, t: float = 5.0, **more: Any) -> End:
    return End(rank=rank, state="failed", reason=reason, t=t, **more)


def test_a_kill_from_outside_comes_before_what_its_peers_say(tmp_path: Path) -> None:
    write_table(tmp_path, -9)
    found = failure(tmp_path, failed(0, "RuntimeError: Connection closed by peer"))
    assert (
        found.headline == "rank 2 was ended by SIGKILL: killed from outside, or by the kernel for want of host memory"
    )
    assert (found.kind, found.rank) == ("killed", 2)
    assert found.evidence == ("torchrun: rank 2 (pid 54) ended with exit status -9",)
    assert found.command == "cpadvisor launch --resume r"


def test_a_peer_that_torchrun_had_to_kill_is_no_cause(tmp_path: Path) -> None:
    write_table(tmp_path, 1, peer=-9)
    assert cause(tmp_path, failed(2, "ValueError: bad token")) == "rank 2: ValueError: bad token"


@pytest.mark.parametrize(("code", "name"), [(-15, "SIGTERM"), (143, "SIGTERM"), (-11, "SIGSEGV"), (137, "SIGKILL")])
def test_a_rank_that_a_signal_ended_is_named_with_it(tmp_path: Path, code: int, name: str) -> None:
    write_table(tmp_path, code)
    found = failure(tmp_path, failed(0, "RuntimeError: Connection closed by peer"))
    assert (found.kind, found.rank) == ("killed", 2)
    assert found.headline.startswith(f"rank 2 was ended by {name}")


def test_a_kill_while_the_kernel_ran_out_of_memory_is_the_kernels(tmp_path: Path) -> None:
    write_table(tmp_path, -9)
    found = failure(tmp_path, oom_kills=1)
    assert (found.kind, found.headline) == (
        "host_memory",
        "rank 2 was ended by SIGKILL: the kernel killed it for want of host memory",
    )
    assert "the kernel killed 1 process(es) for want of memory while the run ran" in found.evidence
    assert found.mend is not None and "free -h" in found.mend


def test_a_kill_while_the_kernel_killed_nothing_stays_one_from_outside(tmp_path: Path) -> None:
    write_table(tmp_path, -9)
    found = failure(tmp_path, oom_kills=0)
    assert (found.kind, found.headline) == ("killed", "rank 2 was ended by SIGKILL from outside")
    assert "the kernel killed no process for want of memory while the run ran" in found.evidence


def test_a_crash_leaves_its_words_in_the_evidence(tmp_path: Path) -> None:
    write_table(tmp_path, -11)
    (tmp_path / "log-rank2.txt").write_text("step 1\nFatal Python error: Segmentation fault\n")
    assert failure(tmp_path).evidence[1:] == ("step 1", "Fatal Python error: Segmentation fault")


GLOO = "RuntimeError: [gloo/transport/tcp/pair.cc:537] Read error [127.0.0.1]:20913: Connection reset by peer"


def test_without_torchrun_a_rank_without_a_word_is_what_its_peers_lost(tmp_path: Path) -> None:
    found = failure(tmp_path, failed(0, GLOO), failed(3, GLOO, t=5.1), spoken=frozenset({0, 1, 3}), exit=None)
    assert (found.kind, found.rank) == ("killed", 1)
    assert found.headline == "rank 1 is gone without a word, and its peers lost their connection to it"
    assert found.evidence == (f"rank 0: {GLOO}",)


def test_a_rank_without_a_word_is_not_blamed_for_what_another_says_of_itself(tmp_path: Path) -> None:
    spoken = frozenset({0, 1})
    assert failure(tmp_path, failed(0, "ValueError: x"), spoken=spoken).headline == "rank 0: ValueError: x"
    assert failure(tmp_path, failed(0, GLOO), failed(1, "ValueError: x", t=4.0), spoken=spoken).rank == 1


def test_a_peer_that_torchrun_ended_is_no_cause(tmp_path: Path) -> None:
    write_table(tmp_path, 1)
    (tmp_path / "log-rank2.txt").write_text("Traceback (most recent call last):\n  File x\nValueError: bad token\n\n")
    found = failure(tmp_path)
    assert (found.headline, found.kind, found.rank) == ("rank 2: ValueError: bad token", "exception", 2)
    assert found.evidence == ("Traceback (most recent call last):", "  File x", "ValueError: bad token")


def test_the_rank_that_failed_first_is_named_not_the_lowest(tmp_path: Path) -> None:
    first = failed(3, "IndexError: loss")
    later = failed(0, "RuntimeError: Connection closed by peer", t=5.1)
    ended = End(rank=1, state="stopped", reason="SIGTERM", t=4.0)
    assert cause(tmp_path, later, first, ended) == "rank 3: IndexError: loss"


def test_the_trace_of_the_rank_that_failed_first_is_the_evidence(tmp_path: Path) -> None:
    lines = "\n".join(f'  File "/code/part{number}.py", line {number}, in f' for number in range(20))
    write_error(tmp_path, 1, "ValueError: x", 5, f"Traceback (most recent call last):\n{lines}\n\x1b[31mValueError: x")
    write_error(tmp_path, 0, "RuntimeError: peer gone", 5, "other")
    found = failure(tmp_path, failed(1, "ValueError: x"))
    assert len(found.evidence) == 10
    assert found.evidence[-2:] == ('  File "/code/part19.py", line 19, in f', "ValueError: x")
    assert found.command == "cpadvisor logs r --rank 1"


def test_a_trace_leaves_out_marks_and_where_the_copy_of_the_trainer_lies(tmp_path: Path) -> None:
    stack = f'  File "{tmp_path}/code/runtime/data.py", line 9, in read\n    x = y\n        ^~~\n\nNameError: y'
    write_error(tmp_path, 1, "NameError: y", 5, stack)
    told = failure(tmp_path, failed(1, "NameError: y"), code=f"{tmp_path}/code/")
    assert told.evidence == ('  File "runtime/data.py", line 9, in read', "    x = y", "NameError: y")


def test_the_last_lines_of_a_rank_stand_in_for_a_trace(tmp_path: Path) -> None:
    told = "[W1123 19:02:22.892352521 WorkerServer.cpp:113] [c10d] Server listening to UNIX /tmp/x.sock"
    (tmp_path / "log-rank1.txt").write_text(f"a\nstep 1\nstep 2\n{told}\nerror: bad\n\n")
    assert failure(tmp_path, failed(1, "error: bad")).evidence == ("step 1", "step 2", "error: bad")


def test_the_earliest_error_file_speaks_where_no_event_does(tmp_path: Path) -> None:
    write_error(tmp_path, 0, "RuntimeError: peer gone", 1002)
    write_error(tmp_path, 1, "FileNotFoundError: train.txt\nsecond line", 1001)
    assert cause(tmp_path) == "rank 1: FileNotFoundError: train.txt"


@pytest.mark.parametrize("content", ['{"message"', "[]", '{"message": 3}', '{"message": {"message": ""}}', "\xff"])
def test_an_error_file_of_another_shape_is_passed_over(tmp_path: Path, content: str) -> None:
    write_error(tmp_path, 0, "RuntimeError: x", 1002)
    write_error(tmp_path, 1, "never read", 1)
    torn = tmp_path / "torchrun" / "none_ab" / "attempt_0" / "1" / "error.json"
    torn.write_text(content, encoding="latin-1")
    assert cause(tmp_path) == "rank 0: RuntimeError: x"


def test_a_rank_without_words_is_told_by_its_exit_status(tmp_path: Path) -> None:
    write_table(tmp_path, 3)
    assert cause(tmp_path) == "rank 2 ended with exit status 3"


def test_torchrun_itself_is_asked_last(tmp_path: Path) -> None:
    (tmp_path / "log-agent.txt").write_text("Traceback (most recent call last):\n  x\nRuntimeError: no rendezvous\n")
    found = failure(tmp_path)
    assert (found.kind, found.headline, found.command) == (
        "launcher",
        "RuntimeError: no rendezvous",
        "cpadvisor doctor",
    )
    assert found.evidence[-1] == "RuntimeError: no rendezvous"


def test_a_launcher_that_a_signal_ended_is_named_with_it(tmp_path: Path) -> None:
    (tmp_path / "log-agent.txt").write_text("W1122 12:00:01.000 41 starting\n")
    found = failure(tmp_path, exit=-9)
    assert (found.kind, found.headline) == ("launcher_killed", "torchrun was ended by SIGKILL from outside")


def test_a_hang_up_that_torchrun_passed_on_comes_before_the_ranks_that_obeyed(tmp_path: Path) -> None:
    told = "torch.distributed.elastic.multiprocessing.api.SignalException: Process 41 got signal: 2\n"
    (tmp_path / "log-agent.txt").write_text(told)
    found = failure(tmp_path, failed(0, "KeyboardInterrupt: "))
    assert (found.kind, found.headline) == ("launcher_killed", "torchrun was ended by SIGINT from outside")


def test_a_sigterm_that_came_after_a_failure_is_not_its_cause(tmp_path: Path) -> None:
    told = "torch.distributed.elastic.multiprocessing.api.SignalException: Process 41 got signal: 15\n"
    (tmp_path / "log-agent.txt").write_text(told)
    assert cause(tmp_path, failed(1, "ValueError: x")) == "rank 1: ValueError: x"


def test_a_sigterm_before_any_rank_listened_is_told_as_such(tmp_path: Path) -> None:
    told = "torch.distributed.elastic.multiprocessing.api.SignalException: Process 41 got signal: 15\n"
    (tmp_path / "log-agent.txt").write_text(f"Traceback (most recent call last):\n  x\n{told}")
    found = failure(tmp_path, exit=1)
    assert (found.kind, found.headline) == ("launcher_killed", "torchrun was ended by SIGTERM from outside")
    assert found.mend is not None and found.mend.startswith("start it again: ")


def test_a_signal_without_a_name_is_told_by_its_number(tmp_path: Path) -> None:
    assert cause(tmp_path, exit=-40) == "torchrun was ended by signal 40 from outside"


def test_an_interpreter_without_torch_is_named_with_the_command_that_installs_it(tmp_path: Path) -> None:
    told = "/venv/bin/python: Error while finding module specification for 'torch.distributed.run' "
    (tmp_path / "log-agent.txt").write_text(told + "(ModuleNotFoundError: No module named 'torch')\n")
    found = failure(tmp_path)
    assert (found.kind, found.headline) == ("no_torch", "/venv/bin/python has no torch")
    assert found.command == "/venv/bin/python -m pip install 'cpadvisor[train]'"


def test_where_nothing_speaks_that_is_said(tmp_path: Path) -> None:
    assert cause(tmp_path, exit=2) == "the launcher ended with exit status 2"
    assert cause(tmp_path, exit=None) == "no rank and no log says why"


def test_a_long_reason_is_cut(tmp_path: Path) -> None:
    told = cause(tmp_path, failed(0, "x" * 5000))
    assert len(told) == 400 and told.endswith("…")


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("loss is nan and gradient norm nan at step 3; lower learning_rate or max_grad_norm", "not_a_number"),
        ("out of GPU memory: Tried to allocate 2.00 GiB", "out_of_memory"),
        ("OSError: [Errno 28] No space left on device", "disk_full"),
        ("/runs/r/config.yaml: 2 errors\n  - seed -4\n  - colour: unknown", "config"),
        ("RuntimeError: [enforce fail] DefaultCPUAllocator: can't allocate memory: you tried", "host_memory"),
        ("ValueError: bad token", "exception"),
    ],
)
def test_the_words_of_a_trainer_that_names_no_kind_are_understood(tmp_path: Path, reason: str, kind: str) -> None:
    assert failure(tmp_path, failed(1, reason)).kind == kind


def test_the_trainers_own_word_for_the_kind_counts(tmp_path: Path) -> None:
    assert failure(tmp_path, failed(1, "ValueError: x", kind="disk_full")).kind == "disk_full"
    assert failure(tmp_path, failed(1, "ValueError: x", kind="of another version")).kind == "exception"


def test_a_loss_that_is_no_number_is_told_with_its_step_and_the_rate(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("base_model: tiny\nlearning_rate: 1e-3\n")
    reason = "loss is nan and gradient norm nan at step 3; lower learning_rate or max_grad_norm"
    found = failure(tmp_path, failed(1, reason, step=4), losses=((1, 5.5), (2, 7.25)))
    assert (found.step, found.command) == (3, "cpadvisor doctor r --symptom nan")
    assert found.mend == (
        "lower learning_rate (now 0.001), set max_grad_norm to 1.0, warm up over a tenth of the steps"
    )
    assert found.evidence == ("the losses up to step 2: 5.5000, 7.2500",)


def test_what_already_steadies_a_training_is_not_advised_again(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("max_grad_norm: 0.5\nwarmup_ratio: 0.03\n")
    assert failure(tmp_path, failed(1, "loss is nan at step 3")).mend == "lower learning_rate"


def test_what_the_trainer_refuses_of_a_config_is_the_evidence(tmp_path: Path) -> None:
    found = failure(tmp_path, failed(0, "/runs/r/config.yaml: 2 errors\n  - seed -4 is wrong\n  - colour is unknown"))
    assert found.headline == "rank 0: /runs/r/config.yaml: 2 errors"
    assert found.evidence == ("  - seed -4 is wrong", "  - colour is unknown")
