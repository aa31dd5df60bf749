import errno
import os
import stat
from pathlib import Path

import pytest

from cpadvisor import rundir
from cpadvisor.errors import LaunchError, NoSuchRunError, WriteError
from cpadvisor.rundir import create_run, find_run, list_runs, replace_with_backup, runs_root, write_atomically
from cpadvisor.watch.logs import rank_log

NOON = 1_795_348_800.0  # 2026-11-22 12:00:00 UTC


def make_run(root: Path, model: str = "tiny", now: float = NOON) -> Path:
    run = create_run(root, model=model, layout="1×1×1×2", now=now)
    (run / "run.json").write_text("{}")
    return run


def test_runs_live_under_the_state_folder(tmp_path: Path) -> None:
    assert runs_root(environ={"XDG_STATE_HOME": "/state"}) == Path("/state/cpadvisor/runs")
    assert runs_root(tmp_path, environ={"XDG_STATE_HOME": "/state"}) == tmp_path


def test_a_relative_state_folder_is_ignored() -> None:
    assert runs_root(environ={"XDG_STATE_HOME": "state"}) == Path.home() / ".local/state/cpadvisor/runs"


def test_a_run_is_named_by_utc_time_model_and_layout_and_is_private(tmp_path: Path) -> None:
    mask = os.umask(0)
    try:
        run = make_run(tmp_path / "runs")
    finally:
        os.umask(mask)
    assert run.name == "20261122T120000Z-tiny-1x1x1x2"
    assert stat.S_IMODE(run.stat().st_mode) == 0o700


def test_a_model_name_with_slashes_stays_one_folder(tmp_path: Path) -> None:
    assert make_run(tmp_path, "../org/My Model").name == "20261122T120000Z-org-My-Model-1x1x1x2"


def test_runs_of_one_second_are_numbered_and_listed_in_their_order(tmp_path: Path) -> None:
    made = [make_run(tmp_path) for _ in range(11)]
    assert made[1].name == "20261122T120000Z-tiny-1x1x1x2-2"
    assert list_runs(tmp_path) == tuple(made)
    earlier = make_run(tmp_path, now=NOON - 1)
    assert list_runs(tmp_path)[0] == earlier


def test_folders_without_a_record_are_no_runs(tmp_path: Path) -> None:
    (tmp_path / "20261122T120000Z-notes").mkdir()
    assert list_runs(tmp_path) == ()
    assert list_runs(tmp_path / "nowhere") == ()


@pytest.fixture
def foreign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The run of another user beside one of ours; the tests may run as root, who sees all."""
    directory = create_run(tmp_path, model="theirs", layout="1x1x1x1", now=0.0)
    (directory / "run.json").write_text("{}")
    (create_run(tmp_path, model="ours", layout="1x1x1x1", now=0.0) / "run.json").write_text("{}")
    see = Path.stat

    def refuse(path: Path, **options: bool) -> os.stat_result:
        if path.parent == directory:
            raise PermissionError(errno.EACCES, "Permission denied")
        return see(path, **options)

    monkeypatch.setattr(Path, "stat", refuse)
    return directory


def test_a_private_run_of_another_user_hides_none_of_ours(tmp_path: Path, foreign: Path) -> None:
    assert [path.name for path in list_runs(tmp_path)] == ["19700101T000000Z-ours-1x1x1x1"]
    assert find_run(tmp_path, "19700101T000000Z").name == "19700101T000000Z-ours-1x1x1x1"
    with pytest.raises(NoSuchRunError, match=r"theirs-1x1x1x1 is no run: it has no run.json that you may read"):
        find_run(tmp_path, str(foreign))
    assert rank_log(foreign, 0) is None


def test_a_hidden_directory_is_on_its_way_out_and_no_run(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    run.rename(tmp_path / f".removed-{run.name}")
    assert list_runs(tmp_path) == ()


def test_a_prefix_that_only_one_run_has_finds_it(tmp_path: Path) -> None:
    first, second = make_run(tmp_path), make_run(tmp_path, now=NOON + 3600)
    assert find_run(tmp_path, "20261122T12") == first
    assert find_run(tmp_path, second.name) == second
    assert find_run(tmp_path / "elsewhere", str(first)) == first


def test_a_whole_name_wins_over_longer_names_that_begin_with_it(tmp_path: Path) -> None:
    first = make_run(tmp_path)
    make_run(tmp_path)
    assert find_run(tmp_path, first.name) == first


def test_a_prefix_that_does_not_decide_names_the_runs(tmp_path: Path) -> None:
    for hours in range(7):
        make_run(tmp_path, now=NOON + 3600 * hours)
    with pytest.raises(LaunchError, match=r"'2026' begins the names of 7 runs: 20261122T12.* and 2 more; give more"):
        find_run(tmp_path, "2026")


def test_a_path_that_leads_to_no_run_says_so(tmp_path: Path) -> None:
    make_run(tmp_path)
    (tmp_path / "notes").mkdir()
    with pytest.raises(
        LaunchError, match=r"/notes is no run: it has no run\.json that you may read; .* lists the runs"
    ):
        find_run(tmp_path, str(tmp_path / "notes"))


@pytest.mark.parametrize("name", ["nope", ""])
def test_an_unknown_run_is_told_with_those_that_there_are(tmp_path: Path, name: str) -> None:
    run = make_run(tmp_path)
    with pytest.raises(LaunchError, match=f"no run '{name}' in .*; it holds {run.name}"):
        find_run(tmp_path, name)
    with pytest.raises(LaunchError, match="holds no runs; start one with `cpadvisor launch FILE`"):
        find_run(tmp_path / "empty", name)


def test_a_write_replaces_the_whole_file_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "new" / "job.yaml"
    write_atomically(path, "a: 1\r\n")
    write_atomically(path, "b: ü\n")
    assert path.read_bytes() == "b: ü\n".encode()
    assert [entry.name for entry in path.parent.iterdir()] == ["job.yaml"]


def test_a_write_keeps_the_mode_and_the_link(tmp_path: Path) -> None:
    path, link = tmp_path / "job.yaml", tmp_path / "link.yaml"
    path.write_text("old")
    path.chmod(0o640)
    link.symlink_to(path)
    write_atomically(link, "new")
    assert link.is_symlink()
    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_full_disk_leaves_the_old_file_and_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "job.yaml"
    path.write_text("old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("cpadvisor.rundir.os.fsync", full)
    with pytest.raises(WriteError, match=r"job.yaml: No space left on device; free some space .*unchanged"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["job.yaml"]


def test_a_rename_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "job.yaml"
    path.write_text("old")

    def refuse(self: Path, target: Path) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(WriteError, match="choose a place that you may write to"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["job.yaml"]


def test_a_folder_is_not_overwritten(tmp_path: Path) -> None:
    with pytest.raises(WriteError, match="Is a directory; that is a folder: name a file"):
        write_atomically(tmp_path, "text")


def test_a_file_in_the_place_of_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(WriteError, match="a file where a folder is needed"):
        write_atomically(tmp_path / "file" / "job.yaml", "text")
    with pytest.raises(WriteError, match="a file where a folder is needed"):
        create_run(tmp_path / "file", model="tiny", layout="1")


def test_a_folder_that_has_vanished_is_made_again_only_where_that_is_wanted(tmp_path: Path) -> None:
    with pytest.raises(WriteError, match="No such file or directory"):
        write_atomically(tmp_path / "gone" / "stop.json", "{}", makes_folder=False)
    assert not (tmp_path / "gone").exists()
    write_atomically(tmp_path / "new" / "job.yaml", "text")


def test_the_old_content_is_kept_as_bak(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    assert replace_with_backup(path, "one") is None
    backup = replace_with_backup(path, "two")
    assert backup == tmp_path / "job.yaml.bak"
    assert (path.read_text(), backup.read_text()) == ("two", "one")


def test_the_same_text_again_makes_no_backup(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text("one")
    assert replace_with_backup(path, "one") is None
    assert not (tmp_path / "job.yaml.bak").exists()


def test_a_file_to_be_replaced_that_is_no_text_is_named(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    assert rundir.read_existing(path) is None
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(WriteError, match="it is no UTF-8 text; name another file"):
        rundir.read_existing(path)


def test_the_last_step_that_is_kept_is_the_highest_whole_one(tmp_path: Path) -> None:
    assert rundir.kept_step(tmp_path) is None
    for name in ("step-9", "step-10", "step-12.partial", "steps", "notes.txt"):
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
    assert rundir.kept_step(tmp_path) == 10


def test_a_boot_has_one_name() -> None:
    assert rundir.boot_id() == rundir.boot_id()
    assert len(rundir.boot_id() or "") == 36


def test_a_command_names_a_run_by_its_name_where_runs_usually_are_and_by_its_path_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert rundir.command_name(rundir.runs_root() / "r") == "r"
    assert rundir.command_name(tmp_path / "my runs" / "r") == f"{tmp_path}/my runs/r"
    assert rundir.shell_name(tmp_path / "my runs" / "r") == f"'{tmp_path}/my runs/r'"
