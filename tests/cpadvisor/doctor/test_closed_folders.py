"""A path that this user may not see is one where nothing stands."""

from dataclasses import replace
from pathlib import Path

import pytest
from sound_subjects import SoundRun, write_config

from cpadvisor.doctor import config as doctor_config
from cpadvisor.doctor import look
from cpadvisor.doctor.config import examine_config
from cpadvisor.doctor.run import examine_run
from cpadvisor.rundir import is_file, is_there
from cpadvisor.runrecord import write_record


@pytest.fixture
def closed(tmp_path, monkeypatch):
    """A folder of another user, of mode 0700; root itself may enter all of them."""
    folder = tmp_path / "alice"
    folder.mkdir()
    seen = Path.stat

    def stat(path, **options):
        if folder in path.parents:
            raise PermissionError(13, "Permission denied")
        return seen(path, **options)

    monkeypatch.setattr(Path, "stat", stat)
    return folder


def test_what_stands_at_a_path_is_told_apart(tmp_path):
    (tmp_path / "file").touch()
    assert [is_file(tmp_path / name) for name in ("file", "", "gone")] == [True, False, False]
    there = [is_there(tmp_path / name) for name in ("file", "", "gone", "file/below", "\0")]
    assert there == [True, True, False, False, False]


def test_a_closed_folder_is_seen_and_nothing_inside(closed):
    assert (is_there(closed), is_there(closed / "runs"), is_file(closed / "job.yaml")) == (True, False, False)


def test_the_disk_of_runs_in_a_closed_folder_is_that_of_the_folder(closed):
    assert look._space(closed / "cpadvisor" / "runs") == look._space(closed)


def test_a_model_that_is_written_into_a_closed_folder_has_its_disk(closed, tmp_path, monkeypatch):
    monkeypatch.setattr(doctor_config, "gather_node", lambda environ: (None, "no NVIDIA driver"))
    found = examine_config(write_config(tmp_path, output_dir=str(closed / "out")))
    assert f"disk of {closed}/out" in next(one for one in found if one.rule == "disk").evidence


def test_a_run_that_was_started_from_a_file_in_a_closed_folder_is_judged_as_one_whose_file_is_gone(closed, tmp_path):
    run = SoundRun(tmp_path / "run").whole()
    write_record(run.directory, replace(run.record, config=str(closed / "job.yaml")))
    memory = next(one for one in examine_run(run.directory) if one.rule == "memory")
    assert memory.mends[0].command == f"cpadvisor doctor {run.directory} --symptom oom"
