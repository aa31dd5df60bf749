import json
from dataclasses import replace
from pathlib import Path

import pytest

from cpadvisor.errors import LaunchError
from cpadvisor.processes import ProcessId
from cpadvisor.runrecord import RunRecord, read_record, write_record

RECORD = RunRecord(
    run="20261122T120000Z-tiny-1x2x1x2",
    argv=("python", "-m", "torch.distributed.run"),
    env={"NCCL_NVLS_ENABLE": "0"},
    interpreter="/venv/bin/python",
    config="/home/me/job.yaml",
    engine="cpadvisor",
    model="tiny",
    layout={"dp_replicate": 1, "dp_shard": 2, "tp": 1, "cp": 2},
    sequence_len=8192,
    world=4,
    steps=50,
    started=1_795_348_800.0,
    host="node",
    boot_id="b",
    agent=ProcessId(pid=42, start_ticks=987),
    prediction={"peak_bytes": 1},
    gpus=(3, 1, 2, 0),
)


def test_a_record_reads_back_as_it_was_written(tmp_path: Path) -> None:
    write_record(tmp_path, RECORD)
    assert read_record(tmp_path) == RECORD
    assert RECORD.layout_label == "1×2×1×2"


def test_the_agent_is_written_with_its_start(tmp_path: Path) -> None:
    write_record(tmp_path, RECORD)
    values = json.loads((tmp_path / "run.json").read_text())
    assert values["agent"] == {"pid": 42, "start_ticks": 987}
    assert (values["schema"], values["gpus"]) == (1, [3, 1, 2, 0])


def test_a_record_without_torchrun_takes_what_its_keeper_wrote_of_it(tmp_path: Path) -> None:
    write_record(tmp_path, replace(RECORD, agent=None))
    kept = {"agent": {"pid": 7, "start_ticks": 70}, "keeper": {"pid": 6, "start_ticks": 60}}
    (tmp_path / "agent.json").write_text(json.dumps(kept))
    record = read_record(tmp_path)
    assert (record.agent, record.keeper) == (ProcessId(pid=7, start_ticks=70), ProcessId(pid=6, start_ticks=60))
    write_record(tmp_path, RECORD)
    assert read_record(tmp_path) == RECORD


@pytest.mark.parametrize("content", ["{", "[]", '{"agent": null}', '{"agent": {"pid": "7"}}'])
def test_what_a_keeper_left_torn_says_nothing(tmp_path: Path, content: str) -> None:
    write_record(tmp_path, replace(RECORD, agent=None))
    (tmp_path / "agent.json").write_text(content)
    assert read_record(tmp_path).agent is None


def test_records_of_other_versions_read_as_far_as_they_go(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"schema": 7, "run": "r", "world": 2, "colour": "red"}')
    record = read_record(tmp_path)
    assert (record.schema, record.run, record.world, record.agent, record.gpus) == (7, "r", 2, None, None)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "is no run: it has no run.json"),
        ("{", "cannot read .*run.json"),
        ("[]", "holds a list, not an object"),
        ('{"world": "2"}', "holds what no launch writes"),
        ('{"world": 20000000}', "20000000 is above 65536, the most ranks of a run, in world"),
        ('{"started": NaN}', "nan is no time, .* in started"),
        ('{"started": 1e300}', "is no time, .* in started"),
        pytest.param('{"run": ' + "[" * 100_000, "cannot read .*recursion", id="nested"),
        ('{"agent": "1234"}', "holds what no launch writes"),
        ('{"agent": {"pid": 1}}', "holds what no launch writes .'start_ticks'"),
    ],
)
def test_a_record_that_cannot_be_read_says_why(tmp_path: Path, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / "run.json").write_text(content)
    with pytest.raises(LaunchError, match=message):
        read_record(tmp_path)
