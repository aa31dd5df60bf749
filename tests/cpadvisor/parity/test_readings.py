"""What a run's events say, and what is left unknown where they are silent."""

from pathlib import Path

from cpadvisor.parity.readings import read_run
from runtime.telemetry import EventWriter


def write(folder: Path, rank: int, *events: tuple[str, dict[str, object]]) -> None:
    writer = EventWriter(folder, rank)
    for kind, fields in events:
        writer.emit(kind, **fields)
    writer.close()


START = {"local_tokens": 256, "cp_method": "ring", "backend": "gloo", "recompute": {"none": 1, "full": 1}}


def test_a_rank_says_its_split_its_values_and_its_traffic(tmp_path: Path):
    write(
        tmp_path,
        0,
        ("process", {"rank": 0}),
        ("start", START),
        ("nccl", {"group": "cp", "op": "send_recv", "count": 6, "bytes": 768}),
        ("nccl", {"group": "dp_shard", "op": "all_gather", "count": 1, "bytes": 9}),
        ("step", {"step": 1, "loss": 6.0, "grad_norm": 2.5}),
        ("nccl", {"group": "cp", "op": "send_recv", "count": 6, "bytes": 512}),
        ("step", {"step": 2, "loss": float("nan"), "grad_norm": 2.0}),
        ("warning", {"rule": "planted_fault", "message": "drop-exchange"}),
        ("end", {"state": "done"}),
    )
    reading = read_run(tmp_path, world=1, cp=2, sequence_len=512, micro_batch=1)
    (rank,) = reading.ranks
    assert (rank.local_tokens, rank.method, rank.backend) == (256, "ring", "gloo")
    assert rank.recomputed_layers == 1
    assert rank.loss == {1: 6.0, 2: None}
    assert rank.grad_norm == {1: 2.5, 2: 2.0}
    assert rank.sent_bytes == {1: 768, 2: 512}
    assert rank.warnings == ("drop-exchange",)
    assert not reading.on_gpu


def test_an_event_that_names_its_step_counts_for_that_step(tmp_path: Path):
    write(tmp_path, 0, ("start", START), ("nccl", {"group": "cp", "step": 2, "bytes": 512}))
    (rank,) = read_run(tmp_path, world=1, cp=2, sequence_len=512, micro_batch=1).ranks
    assert rank.sent_bytes == {2: 512}


def test_a_silent_rank_is_unknown(tmp_path: Path):
    write(tmp_path, 0, ("start", {**START, "backend": "nccl"}))
    reading = read_run(tmp_path, world=2, cp=2, sequence_len=512, micro_batch=1)
    assert reading.on_gpu
    assert (reading.ranks[1].local_tokens, reading.ranks[1].method, reading.ranks[1].loss) == (None, None, {})
