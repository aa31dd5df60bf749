from pathlib import Path
from typing import Any

import pytest
from gloo_pool import GlooPool
from real_run import of_kind
from tiny_run import SHAPE, make_trainer, write_folder

from runtime import announce, traffic
from runtime.reporter import Reporter

LAYERS, HEADS = SHAPE["num_hidden_layers"], SHAPE["num_attention_heads"]
KV_HEADS, HEAD_DIM = SHAPE["num_key_value_heads"], SHAPE["head_dim"]
FLOAT32_BYTES = 4
ACCUMULATION, MICRO_BATCH, TOKENS = 3, 2, 128


def train_and_tell(rank: int, world: int, path: Path) -> list[dict[str, Any]]:
    """The `nccl` events of two steps."""
    trainer = make_trainer(path)
    folder = path.parent / f"rank{rank}"
    reporter = Reporter(folder, rank=0)
    for group in trainer.mesh.sequence_groups:
        traffic.take(group.group_name)
    for step in range(2):
        result = trainer.step(step, reporter)
        reporter.step = step + 1
        announce.step(trainer, result, reporter)
    return of_kind(folder, "nccl")


def told_by(gloo_pool: GlooPool, folder: Path, cp: int, **own: Any) -> list[list[dict[str, Any]]]:
    settings = {"random_weights": True, "tokenizer": "bytes", **own}
    changes = {
        "context_parallel_size": cp,
        "gradient_accumulation_steps": ACCUMULATION,
        "micro_batch_size": MICRO_BATCH,
    }
    return gloo_pool.run(cp, train_and_tell, write_folder(folder, cpadvisor=settings, **changes))


def share_bytes(cp: int, heads: int) -> int:
    """Bytes of a tensor with so many heads on one rank."""
    return MICRO_BATCH * (TOKENS // cp) * heads * HEAD_DIM * FLOAT32_BYTES


@pytest.mark.parametrize(
    ("cp", "policy", "forwards"), [(2, "none", 1), (2, "attention_saved", 1), (2, "full", 2), (4, "none", 1)]
)
def test_a_ring_tells_messages_and_bytes_of_the_formula(
    gloo_pool: GlooPool, tmp_path: Path, cp: int, policy: str, forwards: int
) -> None:
    kv = 2 * share_bytes(cp, KV_HEADS)
    for rank, told in enumerate(told_by(gloo_pool, tmp_path, cp, recompute={policy: LAYERS})):
        # K and V go down the ranks: whole while their source stands above the receiver, their early half afterwards.
        # Rank 0 sends cp - 1 halves, rank r above it cp - r whole and r - 1 halves.
        passed = kv * (cp - 1) // 2 if rank == 0 else kv * (cp - rank) + kv * (rank - 1) // 2
        # Gradients go home: whole to the cp - 1 - r sources above, half to the r below.
        returned = kv * (cp - 1 - rank) + kv * rank // 2
        assert [event["step"] for event in told] == [1, 2]
        for event in told:
            assert (event["group"], event["op"]) == ("cp", "send_recv")
            assert event["count"] == LAYERS * ACCUMULATION * (cp - 1) * (forwards + 2)
            assert event["bytes"] == LAYERS * ACCUMULATION * ((forwards + 1) * passed + returned)
            assert event["wire_s"] is None, "the host's clock does not see the wire"
            assert event["exposed_s"] > 0


def test_gathered_keys_and_values_go_to_all_and_their_gradients_come_back(gloo_pool: GlooPool, tmp_path: Path) -> None:
    for told in told_by(gloo_pool, tmp_path, 4, method="allgather"):
        for event in told:
            assert event["op"] == "all_gather"
            assert event["count"] == LAYERS * ACCUMULATION * 3
            # K, V forward, again backward, then dK, dV, to each of three others.
            assert event["bytes"] == LAYERS * ACCUMULATION * 3 * 3 * 2 * share_bytes(4, KV_HEADS)


def test_heads_are_exchanged_by_all_to_all(gloo_pool: GlooPool, tmp_path: Path) -> None:
    lse = MICRO_BATCH * (TOKENS // 2) * HEADS * FLOAT32_BYTES
    q, kv = share_bytes(2, HEADS), 2 * share_bytes(2, KV_HEADS)
    for told in told_by(gloo_pool, tmp_path, 2, method="ulysses"):
        for event in told:
            assert event["op"] == "all_to_all"
            assert event["count"] == LAYERS * ACCUMULATION * 4
            # Half of each stays. Forward: q, k, v, then out and the log-sum-exp; backward: dout, q, out, the
            # log-sum-exp, k, v, then dq, dk, dv.
            assert event["bytes"] == LAYERS * ACCUMULATION * ((q + kv + q + lse) + (3 * q + lse + kv + q + kv)) // 2


def test_both_ways_of_usp_have_an_event(gloo_pool: GlooPool, tmp_path: Path) -> None:
    for told in told_by(gloo_pool, tmp_path, 4, method="usp", ulysses_degree=2):
        assert [event["op"] for event in told] == ["send_recv", "all_to_all"] * 2


def test_a_sequence_that_is_whole_on_its_rank_sends_nothing(gloo_pool: GlooPool, tmp_path: Path) -> None:
    assert gloo_pool.run(1, train_and_tell, write_folder(tmp_path)) == [[]]
