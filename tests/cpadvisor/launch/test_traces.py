import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from cpadvisor.launch.keeper import KEEPER_VARIABLE, RUN_VARIABLE
from cpadvisor.launch.traces import marked_runs, may_live
from cpadvisor.processes import ProcessId, identify
from cpadvisor.rundir import boot_id
from cpadvisor.runrecord import RunRecord

GONE = ProcessId(pid=1, start_ticks=1)
RECORD = RunRecord(run="r", boot_id=boot_id(), agent=GONE, keeper=GONE)


def test_what_left_no_trace_needs_no_closer_look(tmp_path: Path) -> None:
    assert not may_live(tmp_path, RECORD, ())
    assert not may_live(tmp_path, replace(RECORD, agent=None), ())


def test_a_process_that_the_record_names_is_a_trace_within_one_boot(tmp_path: Path) -> None:
    me = identify(os.getpid())
    assert may_live(tmp_path, replace(RECORD, agent=me), ())
    assert may_live(tmp_path, replace(RECORD, keeper=me), ())
    assert not may_live(tmp_path, replace(RECORD, agent=me, boot_id="another boot"), ())


def test_a_run_that_just_began_may_live(tmp_path: Path) -> None:
    assert may_live(tmp_path, replace(RECORD, agent=None, started=time.time()), ())


def test_a_run_of_another_host_may_live_until_its_exit_status_is_written(tmp_path: Path) -> None:
    record = replace(RECORD, host="gpu-07")
    assert may_live(tmp_path, record, ())
    (tmp_path / "exit.json").write_text("{}")
    assert not may_live(tmp_path, record, ())


@pytest.mark.parametrize("variable", [RUN_VARIABLE, KEEPER_VARIABLE])
def test_a_process_that_carries_the_name_of_the_run_is_a_trace(tmp_path: Path, variable: str) -> None:
    run_dir, link = tmp_path / "r", tmp_path / "link"
    run_dir.mkdir()
    link.symlink_to(run_dir)
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, env={variable: str(link)})
    try:
        assert may_live(run_dir, RECORD, marked_runs())
    finally:
        child.communicate()
    assert not may_live(run_dir, RECORD, marked_runs())
