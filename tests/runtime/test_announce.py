from pathlib import Path
from typing import Any

import pytest
from gloo_pool import GlooPool
from real_run import of_kind
from tiny_run import SHAPE, make_trainer, write_folder

from runtime import announce, comm
from runtime.reporter import Reporter

LAYERS, KV_HEADS, HEAD_DIM = SHAPE["num_hidden_layers"], SHAPE["num_key_value_heads"], SHAPE["head_dim"]
FLOAT32_BYTES = 4
ACCUMULATION = 3


def train_and_tell(rank: int, world: int, path: Path) -> list[dict[str, Any]]:
    """The `nccl` events of two steps."""
    trainer = make_trainer(path)
    folder = path.parent / f"rank{rank}"
    reporter = Reporter(folder, rank=0)
    comm.take_traffic(trainer.mesh.cp_group_name)
    for step in range(2):
        result = trainer.step(step, reporter)
        reporter.step = step + 1
        announce.step(trainer, result, reporter)
    return of_kind(folder, "nccl")


@pytest.mark.parametrize(
    ("cp", "policy", "forwards"), [(2, "none", 1), (2, "attention_saved", 1), (2, "full", 2), (4, "none", 1)]
)
def test_each_step_tells_the_hops_and_bytes_of_the_formula(
    gloo_pool: GlooPool, tmp_path: Path, cp: int, policy: str, forwards: int
) -> None:
    own = {"random_weights": True, "tokenizer": "bytes", "recompute": {policy: LAYERS}}
    changes = {"context_parallel_size": cp, "gradient_accumulation_steps": ACCUMULATION, "micro_batch_size": 2}
    path = write_folder(tmp_path, cpadvisor=own, **changes)
    # 2 tensors x sequences x (tokens / cp) x kv heads x head dim x 4 bytes: K and V of one hop, or their gradients,
    # which travel in float32 as K and V do on a CPU.
    hop_bytes = 2 * 2 * (128 // cp) * KV_HEADS * HEAD_DIM * FLOAT32_BYTES
    # Forward: cp - 1 hops of K and V, twice where the layer runs again. Backward: cp - 1 of each of the two.
    hops = LAYERS * ACCUMULATION * (cp - 1) * (forwards + 2)
    for told in gloo_pool.run(cp, train_and_tell, path):
        assert [event["step"] for event in told] == [1, 2]
        for event in told:
            assert (event["group"], event["op"]) == ("cp", "send_recv")
            assert (event["count"], event["bytes"]) == (hops, hops * hop_bytes)
            assert (event["wire_s"], event["exposed_s"]) == (None, None)


def test_a_sequence_that_is_whole_on_its_rank_sends_nothing_round(gloo_pool: GlooPool, tmp_path: Path) -> None:
    assert gloo_pool.run(1, train_and_tell, write_folder(tmp_path)) == [[]]
