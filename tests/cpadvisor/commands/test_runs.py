"""`runs`, `runs rm` and `runs compare` as typed."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from cpadvisor import cli, launch, rundir
from cpadvisor.runrecord import RunRecord, write_record
from cpadvisor.watch.view import RunView

Typed = Callable[..., tuple[int, str, str]]


@pytest.fixture
def typed(runs: Path, capsys: pytest.CaptureFixture[str]) -> Typed:
    """Runs `cpadvisor runs …` on the folder of the test; gives its exit status, stdout and stderr."""

    def run(*argv: str) -> tuple[int, str, str]:
        capsys.readouterr()
        try:
            status = cli.main(["runs", *argv, "--runs", str(runs)])
        except SystemExit as leave:
            status = int(leave.code or 0)
        told = capsys.readouterr()
        return status, told.out, told.err

    return run


def ended(runs: Path, hours: int) -> Path:
    """A run of another boot."""
    run_dir = rundir.create_run(runs, model="tiny", layout="1x1x1x2", now=1_795_348_800.0 + 3600 * hours)
    write_record(run_dir, RunRecord(run=run_dir.name, boot_id="before the restart"))
    return run_dir


@pytest.fixture
def long_run(config: Path, runs: Path, fake_torch: Callable[[str], None], poll_until: Callable[..., RunView]) -> Path:
    fake_torch("long")
    run_dir = launch.start(config, runs=runs)
    poll_until(run_dir, lambda view: view.step is not None and all(rank.pid for rank in view.ranks))
    return run_dir


def test_several_runs_are_deleted_at_once(typed: Typed, runs: Path) -> None:
    first, second, third = (ended(runs, hours) for hours in range(3))
    status, out, err = typed("rm", first.name, second.name, first.name, "--json")
    assert (status, json.loads(out)) == (0, {"schema": 1, "removed": [first.name, second.name]})
    assert f"deleted {first}" in err
    assert rundir.list_runs(runs) == (third,)


def test_of_several_none_is_deleted_where_one_lives(typed: Typed, runs: Path, long_run: Path) -> None:
    old = ended(runs, 0)
    status, out, err = typed("rm", old.name, long_run.name)
    assert (status, out) == (1, "")
    assert f"run {long_run.name} is " in err and f"end it with `cpadvisor stop {long_run}`" in err
    assert old.is_dir()
    launch.stop(long_run)
    assert typed("rm", old.name, long_run.name)[0] == 0
    assert rundir.list_runs(runs) == ()


@pytest.mark.parametrize(
    ("argv", "status", "told"),
    [
        (("rm",), 2, "runs rm names no run to delete"),
        (("rm", "nope"), 2, "no run 'nope'"),
        (("compare", "nope"), 2, "runs compare takes two runs, and 1 were named"),
        (("compare", "a", "b", "c"), 2, "runs compare takes two runs, and 3 were named"),
        (("compare", "nope", "neither"), 2, "no run 'nope'"),
        (("delete", "nope"), 2, "invalid choice: 'delete'"),
    ],
)
def test_what_cannot_be_done_is_told_on_stderr_alone(
    typed: Typed, runs: Path, argv: tuple[str, ...], status: int, told: str
) -> None:
    ended(runs, 0)
    seen = typed(*argv)
    assert seen[:2] == (status, "")
    assert told in seen[2]


def test_a_directory_that_is_no_run_is_not_deleted(typed: Typed, tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    status, _, err = typed("rm", str(tmp_path / "notes"))
    assert status == 2 and "no run" in err
    assert (tmp_path / "notes").is_dir()


def test_a_run_that_lives_without_its_directory_is_listed_with_the_command_that_ends_it(
    typed: Typed, long_run: Path
) -> None:
    shutil.rmtree(long_run)
    status, out, err = typed()
    assert status == 0
    assert long_run.name in out and "running" in out
    assert f"end it with `cpadvisor stop {long_run}`" in err
    (row,) = json.loads(typed("--json")[1])["runs"]
    assert (row["run"], row["state"], row["model"]) == (long_run.name, "running", "tiny")
    launch.stop(long_run)
    assert json.loads(typed("--json")[1])["runs"] == []


def test_a_run_that_cannot_be_read_is_named_and_the_others_are_listed(typed: Typed, runs: Path) -> None:
    broken, good = ended(runs, 0), ended(runs, 1)
    (broken / "run.json").write_text("{")
    status, out, err = typed()
    assert status == 0 and good.name in out and broken.name not in out
    assert f"cannot read {broken}/run.json" in err


def test_two_runs_are_compared_in_the_order_given(
    typed: Typed, config: Path, runs: Path, fake_torch: Callable[[str], None]
) -> None:
    fake_torch("train")
    first = launch.start(config, runs=runs)
    config.write_text(config.read_text().replace("learning_rate: 1e-3", "learning_rate: 5e-4"))
    second = launch.start(config, runs=runs)
    for run_dir in (first, second):
        launch.wait(run_dir, poll_s=0.02)
    status, out, _ = typed("compare", second.name, str(first), "--json")
    told = json.loads(out)
    assert (status, told["first"]["run"], told["second"]["run"]) == (0, second.name, first.name)
    assert [each["key"] for each in told["differences"]] == ["learning_rate"]
    out = typed("compare", first.name, second.name)[1]
    assert out.index(first.name) < out.index(second.name) and "learning_rate" in out


def test_a_config_that_is_gone_is_a_note_of_the_comparison(typed: Typed, runs: Path) -> None:
    first, second = ended(runs, 0), ended(runs, 1)
    status, out, _ = typed("compare", first.name, second.name, "--json")
    assert status == 0
    assert all("has no config any more" in note for note in json.loads(out)["notes"])
