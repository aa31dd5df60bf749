import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from runtime import comm, ring, zigzag
from runtime.attention import CPU

BATCH, HEADS, KV_HEADS, HEAD_DIM = 2, 4, 2, 8


def whole_qkv(sequence_len, dtype=torch.float64):
    generator = torch.Generator().manual_seed(7)
    shapes = ((HEADS,), (KV_HEADS,), (KV_HEADS,), (HEADS,))
    return [torch.randn(BATCH, sequence_len, *h, HEAD_DIM, generator=generator).to(dtype) for h in shapes]


def reference(q, k, v, dout):
    q, k, v = (tensor.double().requires_grad_() for tensor in (q, k, v))
    heads_first = [tensor.transpose(1, 2) for tensor in (q, k, v)]
    out = F.scaled_dot_product_attention(*heads_first, is_causal=True, enable_gqa=True).transpose(1, 2)
    out.backward(dout.double())
    return out.detach(), q.grad, k.grad, v.grad


def ring_of_shares(rank, world, sequence_len, dtype):
    q, k, v, dout = (
        zigzag.shard(whole, rank=rank, cp=world, dim=1).clone() for whole in whole_qkv(sequence_len, dtype)
    )
    for tensor in (q, k, v):
        tensor.requires_grad_()
    group = dist.group.WORLD
    out, _ = ring.ring_attention(q, k, v, group.group_name, "cpu")
    out.backward(dout)
    return [tensor.detach() for tensor in (out, q.grad, k.grad, v.grad)]


@pytest.mark.parametrize("world", [2, 3, 4])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-6), (torch.bfloat16, 1e-2)])
def test_a_ring_gives_out_and_gradients_of_one_process(gloo_pool, world, dtype, tolerance):
    sequence_len = 16 * world
    shares = gloo_pool.run(world, ring_of_shares, sequence_len, dtype)
    expected = reference(*whole_qkv(sequence_len, dtype))
    for name, parts, truth in zip(("out", "dq", "dk", "dv"), zip(*shares, strict=True), expected, strict=True):
        whole = zigzag.unshard(list(parts), dim=1)
        error = (whole.double() - truth).norm() / truth.norm()
        assert error < tolerance, f"{name} of {world} ranks is off by {error:.1e} relative"


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


def count_hops(rank, world, sequence_len):
    q, k, v, dout = (
        zigzag.shard(whole, rank=rank, cp=world, dim=1).clone() for whole in whole_qkv(sequence_len, torch.float32)
    )
    group = dist.group.WORLD
    comm.take_traffic(group.group_name)
    with LargestTensor() as largest:
        out, lse = ring.ring_forward(q, k, v, group, CPU)
        forward = comm.take_traffic(group.group_name)
        ring.ring_backward(dout, q, k, v, out, lse, group, CPU)
        backward = comm.take_traffic(group.group_name)
    return forward, backward, largest.elements, largest.exchanges


@pytest.mark.parametrize("world", [2, 4])
def test_each_pass_takes_p_minus_1_hops_of_the_size_of_the_formula_and_never_the_whole_k_or_v(gloo_pool, world):
    sequence_len = 64 * world
    # 2 tensors x batch x (tokens / cp) x kv heads x head dim, in elements: what one hop of K and V carries.
    hop_elements = 2 * BATCH * (sequence_len // world) * KV_HEADS * HEAD_DIM
    whole_kv_elements = BATCH * sequence_len * KV_HEADS * HEAD_DIM
    for forward, backward, largest, exchanges in gloo_pool.run(world, count_hops, sequence_len):
        assert forward.hops == world - 1
        assert forward.sent_bytes == (world - 1) * hop_elements * 4
        # Backward sends K and V again, and their gradients: P - 1 hops each, the gradients in float32.
        assert backward.hops == 2 * (world - 1)
        assert backward.sent_bytes == (world - 1) * hop_elements * (4 + 4)
        assert exchanges == {"send", "recv_"}, "K and V pass from neighbour to neighbour, and by no other way"
        # What a rank holds is its share of q, or of K and V together; at 4 ranks both are below the whole K.
        assert largest <= max(hop_elements, BATCH * (sequence_len // world) * HEADS * HEAD_DIM)
        if world == 4:
            assert largest < whole_kv_elements


def ring_that_keeps_its_own_on_rank_1(rank, world, sequence_len, dtype):
    if rank == 1:
        comm.keep_own(dist.group.WORLD.group_name)
    return ring_of_shares(rank, world, sequence_len, dtype)


@pytest.mark.parametrize("world", [2, 3])
def test_a_rank_that_keeps_its_own_k_and_v_is_wrong_and_nobody_hangs(gloo_pool, world):
    try:
        shares = gloo_pool.run(world, ring_that_keeps_its_own_on_rank_1, 16 * world, torch.float32)
    finally:
        gloo_pool.close()  # the fault lives in the process
    expected, *_ = reference(*whole_qkv(16 * world, torch.float32))
    errors = []
    for rank, (out, *_) in enumerate(shares):
        truth = zigzag.shard(expected, rank=rank, cp=world, dim=1)
        errors.append(((out.double() - truth).norm() / truth.norm()).item())
    assert errors[0] < 2e-6 or world == 3, "rank 0 of two still gets what rank 1 sends"
    assert errors[1] > 0.1, "rank 1 attends to its own keys twice"


@given(st.integers(1, 3), st.integers(1, 5), st.floats(-200, 200), st.floats(-200, 200))
def test_merging_two_blocks_is_the_softmax_over_both_even_where_exponentials_overflow(batch, heads, shift_a, shift_b):
    generator = torch.Generator().manual_seed(batch * 10 + heads)
    scores = torch.randn(batch, heads, 3, 10, dtype=torch.float64, generator=generator)
    scores[..., :4] += shift_a
    scores[..., 4:] += shift_b
    values = torch.randn(batch, heads, 10, 6, dtype=torch.float64, generator=generator)

    def block(columns):
        part = scores[..., columns]
        out = (part.softmax(-1) @ values[:, :, columns]).transpose(1, 2)
        return out.float().contiguous(), part.logsumexp(-1).float().contiguous()

    out, lse = block(slice(0, 4))
    ring.merge_(out, lse, *block(slice(4, 10)))
    truth = (scores.softmax(-1) @ values).transpose(1, 2)
    assert torch.allclose(out.double(), truth, atol=2e-5)
    assert torch.allclose(lse.double(), scores.logsumexp(-1), rtol=1e-6, atol=2e-5)


def test_the_operator_is_sound_for_autograd_and_tracing():
    q, k, v, _ = (tensor.requires_grad_() for tensor in whole_qkv(8, torch.float32))
    torch.library.opcheck(ring.ring_attention, (q, k, v, "", "cpu"))
