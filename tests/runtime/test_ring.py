import pytest
import torch
import torch.distributed as dist
from sequence_job import HEAD_DIM, errors, joined, run, truth, whole
from torch.utils._python_dispatch import TorchDispatchMode

from runtime import comm, ring, traffic, zigzag
from runtime.blocks import Place
from runtime.kernels import CPU
from runtime.partial import Given

HEADS, KV_HEADS, BATCH = 4, 2, 2


class LargestTensor(TorchDispatchMode):
    """Remembers the most elements that any operator's result had, and which operators spoke to other ranks."""

    def __init__(self):
        super().__init__()
        self.elements = 0
        self.exchanges = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if func.namespace == "c10d":
            self.exchanges.add(func._opname)
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if isinstance(tensor, torch.Tensor):
                self.elements = max(self.elements, tensor.numel())
        return result


def measure_messages(rank, world, sequence_len):
    tensors = whole(sequence_len, HEADS, KV_HEADS, torch.float32)
    q, k, v, dout = (zigzag.shard(tensor, rank=rank, cp=world, dim=1).clone() for tensor in tensors)
    group = dist.group.WORLD
    place = Place(rank=rank, size=world, local=q.shape[1])
    traffic.take(group.group_name)
    with LargestTensor() as largest:
        out, lse = ring.forward(q, k, v, place, group, CPU)
        forward = traffic.take(group.group_name)
        ring.backward(Given(dout=dout, q=q, out=out, lse=lse), k, v, place, group, CPU)
        backward = traffic.take(group.group_name)
    sent = [(part.messages, part.sent_bytes) for part in (forward, backward)]
    return *sent, largest.elements, largest.exchanges


@pytest.mark.parametrize("world", [2, 4])
def test_only_the_halves_that_are_needed_travel_from_neighbour_to_neighbour(gloo_pool, world):
    sequence_len = 64 * world
    # 2 tensors x batch x (tokens / cp) x kv heads x head dim: K and V of one share.
    share = 2 * BATCH * (sequence_len // world) * KV_HEADS * HEAD_DIM
    for rank, (forward, backward, largest, exchanges) in enumerate(
        gloo_pool.run(world, measure_messages, sequence_len)
    ):
        # A share's late half is needed by the ranks before its own alone, which it passes first.
        wholes, halves = (0, world - 1) if rank == 0 else (world - rank, rank - 1)
        passed = 4 * (share * wholes + share // 2 * halves)
        assert forward == (world - 1, passed)
        # Backward: K and V again; the gradients of world - 1 - r whole shares above and r halves below go home.
        returned = 4 * (share * (world - 1 - rank) + share // 2 * rank)
        assert backward == (2 * (world - 1), passed + returned)
        assert exchanges == {"send", "recv_"}
        # What a rank holds is its share of q, or of K and V; at 4 ranks both are below the whole K.
        assert largest <= max(share, BATCH * (sequence_len // world) * HEADS * HEAD_DIM)
        if world == 4:
            assert largest < BATCH * sequence_len * KV_HEADS * HEAD_DIM


@pytest.mark.parametrize("world", [3])
def test_a_ring_of_an_odd_number_of_ranks_is_as_exact(gloo_pool, world):
    shares = gloo_pool.run(world, run, "ring", 1, 16 * world, (HEADS, KV_HEADS), torch.float32, None)
    found = errors(joined(shares), truth(*whole(16 * world, HEADS, KV_HEADS, torch.float32), None))
    assert max(found.values()) < 2e-6, found


def ring_that_keeps_its_own_on_rank_1(rank, world, sequence_len):
    if rank == 1:
        comm.keep_own(dist.group.WORLD.group_name)
    tensors = whole(sequence_len, HEADS, KV_HEADS, torch.float32)
    q, k, v, _ = (zigzag.shard(tensor, rank=rank, cp=world, dim=1).clone() for tensor in tensors)
    return ring.forward(q, k, v, Place(rank=rank, size=world, local=q.shape[1]), dist.group.WORLD, CPU)[0]


@pytest.mark.parametrize("world", [2, 3])
def test_a_rank_that_keeps_its_own_k_and_v_is_wrong_and_nobody_hangs(gloo_pool, world):
    try:
        shares = gloo_pool.run(world, ring_that_keeps_its_own_on_rank_1, 16 * world)
    finally:
        gloo_pool.close()  # the fault lives in the process
    expected, *_ = truth(*whole(16 * world, HEADS, KV_HEADS, torch.float32), None)
    off = []
    for rank, out in enumerate(shares):
        right = zigzag.shard(expected, rank=rank, cp=world, dim=1)
        off.append(((out.double() - right).norm() / right.norm()).item())
    assert off[0] < 2e-6 or world == 3, "rank 0 of two still gets what rank 1 sends"
    assert off[1] > 0.1, "rank 1 attends to its own keys twice"
