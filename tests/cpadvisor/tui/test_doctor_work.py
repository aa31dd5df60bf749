from pathlib import Path

import pytest

from cpadvisor.doctor.diagnosis import Mend
from cpadvisor.errors import ConfigError
from cpadvisor.job import Request
from cpadvisor.probe.recorded import load_node
from cpadvisor.tui.exam import Exam, Subject
from cpadvisor.tui.session import CPU_REQUEST
from cpadvisor.tui.work import Work
from cpadvisor.write.edit import Change

BATCH = Mend(text="one sequence at a time", changes=(Change(key="micro_batch_size", value=1),))


@pytest.fixture
def work(tmp_path: Path) -> Work:
    work = Work(config=tmp_path / "c.yaml", runs=tmp_path / "runs")
    machine = work.machine(Request(node="cpu"))
    answer = work.answer(machine, CPU_REQUEST)
    work.save(work.draft(answer, answer.advice.plans[0]))
    return work


def config(work: Work) -> Subject:
    return Subject(kind="config", label="c.yaml", path=work.config)


def test_a_config_is_examined_for_the_node_that_is_shown_and_its_mends_change_that_file(work: Work) -> None:
    exam = work.examine(config(work), node=load_node("cpu"))
    assert exam.config == work.config
    assert {"D1", "D5", "L1"} <= {row for one in exam.found for row in one.card}


def test_a_mend_is_previewed_without_a_word_written_and_then_written_with_the_old_file_beside(work: Work) -> None:
    work.config.write_text(work.config.read_text().replace("micro_batch_size: 1", "micro_batch_size: 2"))
    before = work.config.read_text()
    remedy = work.remedy(work.examine(config(work), node=load_node("cpu")), "the batch", BATCH)
    assert "-micro_batch_size: 2" in remedy.diff
    assert work.config.read_text() == before
    mended = work.mend(remedy)
    assert "micro_batch_size: 1" in work.config.read_text()
    assert mended.backup is not None
    assert mended.backup.read_text() == before


def test_a_mend_that_is_a_command_changes_no_file(work: Work) -> None:
    exam = Exam(subject=Subject(kind="node", label="this machine"))
    remedy = work.remedy(exam, "shm", Mend(text="a larger /dev/shm", command="mount -o remount,size=8g /dev/shm"))
    assert remedy.path is None
    assert remedy.diff == ""
    with pytest.raises(ConfigError, match="mount -o remount"):
        work.mend(remedy)


def test_a_file_that_is_gone_is_told_and_none_is_made(work: Work) -> None:
    exam = work.examine(config(work), node=load_node("cpu"))
    work.config.unlink()
    with pytest.raises(ConfigError, match=r"c\.yaml"):
        work.remedy(exam, "the batch", BATCH)
    assert not work.config.exists()
