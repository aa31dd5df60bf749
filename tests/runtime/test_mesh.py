from itertools import pairwise

import pytest
import torch
import torch.distributed as dist
from gloo_pool import GlooPool

from runtime import comm
from runtime.errors import TrainerError
from runtime.mesh import device_index, make_mesh
from runtime.settings import Sizes


def place(rank: int, world: int, dp_shard: int, cp: int) -> tuple[int, int, list[int], list[int], list[str]]:
    mesh = make_mesh(Sizes(dp_shard=dp_shard, cp=cp, rank_order=None), torch.device("cpu"))
    cp_ranks = [] if mesh.kv_group is None else dist.get_process_group_ranks(mesh.kv_group)
    shard = mesh.shard_mesh.get_group()
    names = [group.group_desc for group in (mesh.kv_group, shard) if group is not None]
    assert dist.group.WORLD not in (mesh.kv_group, shard), "communicators of their own"
    return mesh.data_rank, mesh.cp_rank, cp_ranks, dist.get_process_group_ranks(shard), names


def exchanges(rank: int, world: int) -> list[int]:
    mesh = make_mesh(Sizes(dp_shard=2, cp=2, rank_order=None), torch.device("cpu"))
    assert mesh.kv_group is not None
    counts = [comm.begun(mesh.groups)]
    values = torch.zeros(1)
    for group in mesh.groups:
        dist.all_reduce(values, group=group)
        counts.append(comm.begun(mesh.groups))
    other = 1 - dist.get_rank(mesh.kv_group)
    lane = comm.lane(mesh.kv_group, "test", mesh.device)
    lane.start({other: (values,)}, {other: (values.shape,)}, room_bytes=4).wait()
    counts.append(comm.begun(mesh.groups))
    return [after - before for before, after in pairwise(counts)]


def test_every_exchange_of_every_group_counts_alike_on_all_ranks(gloo_pool: GlooPool) -> None:
    first, *others = gloo_pool.run(4, exchanges)
    assert first[:3] == [1, 1, 1]
    assert first[3] >= 1  # gloo counts the send and the receive as well
    assert others == [first] * 3


def test_context_ranks_are_neighbours_and_all_ranks_shard(gloo_pool: GlooPool) -> None:
    names = ["cp", "dp_shard_cp"]
    assert gloo_pool.run(4, place, 2, 2) == [
        (0, 0, [0, 1], [0, 1, 2, 3], names),
        (0, 1, [0, 1], [0, 1, 2, 3], names),
        (1, 0, [2, 3], [0, 1, 2, 3], names),
        (1, 1, [2, 3], [0, 1, 2, 3], names),
    ]


def test_a_ring_that_spans_the_world_still_has_its_own_group(gloo_pool: GlooPool) -> None:
    assert gloo_pool.run(2, place, 1, 2)[1] == (0, 1, [0, 1], [0, 1], ["cp", "dp_shard_cp"])


def test_without_context_parallelism_there_is_no_ring_group(gloo_pool: GlooPool) -> None:
    assert gloo_pool.run(2, place, 2, 1)[1] == (1, 0, [], [0, 1], ["dp_shard_cp"])


def axes_of_a_sequence(rank: int, world: int, method: str, ulysses: int) -> tuple[list[int], list[int]]:
    sizes = Sizes(dp_shard=1, cp=4, rank_order=None, method=method, ulysses=ulysses)
    mesh = make_mesh(sizes, torch.device("cpu"))
    place = mesh.attention_place("cpu")
    assert (bool(place.kv_group), bool(place.heads_group)) == (mesh.kv_group is not None, mesh.heads_group is not None)
    kv, heads = (
        [] if group is None else dist.get_process_group_ranks(group) for group in (mesh.kv_group, mesh.heads_group)
    )
    return kv, heads


def test_neighbours_exchange_heads_and_the_others_send_keys_and_values(gloo_pool: GlooPool) -> None:
    assert gloo_pool.run(4, axes_of_a_sequence, "usp", 2) == [
        ([0, 2], [0, 1]),
        ([1, 3], [0, 1]),
        ([0, 2], [2, 3]),
        ([1, 3], [2, 3]),
    ]
    assert gloo_pool.run(4, axes_of_a_sequence, "ulysses", 4) == [([], [0, 1, 2, 3])] * 4
    assert gloo_pool.run(4, axes_of_a_sequence, "allgather", 1) == [([0, 1, 2, 3], [])] * 4


@pytest.mark.parametrize(
    ("local_rank", "order", "visible", "index"),
    [
        (1, None, None, 1),
        (1, None, "4,5", 1),
        (1, (0, 3, 2, 1), None, 3),
        # The launcher may have put the order into CUDA_VISIBLE_DEVICES already: then CUDA counts in that order.
        (1, (0, 3, 2, 1), "0,3,2,1", 1),
        (1, (4, 5), "5,4", 0),
        (1, (0, 1), "GPU-aa,GPU-bb", 1),
    ],
)
def test_a_local_rank_finds_the_gpu_of_the_rank_order(
    local_rank: int, order: tuple[int, ...] | None, visible: str | None, index: int
) -> None:
    assert device_index(local_rank, order, visible, count=4) == index


def test_a_gpu_that_is_hidden_or_absent_is_named() -> None:
    with pytest.raises(TrainerError, match="rank_order asks for GPU 3, but CUDA_VISIBLE_DEVICES is 0,1"):
        device_index(1, (0, 3), "0,1", count=2)
    with pytest.raises(TrainerError, match="local rank 2 asks for GPU 2, but 2 are visible"):
        device_index(2, None, None, count=2)
