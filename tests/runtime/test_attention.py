"""The operator of attention inside what a trainer puts around it: checkpointing, compilation, FSDP2, TP."""

from collections import Counter
from functools import partial

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from sequence_job import make_place
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

from runtime import kernels, recompute, traffic, zigzag
from runtime.attention import AttentionPlace, attend, context_attention

HIDDEN, HEADS, KV_HEADS, HEAD_DIM, TOKENS = 32, 4, 2, 8, 32
WHOLE = AttentionPlace(kernel="cpu")


class Block(nn.Module):
    """Projections around attention and a residual: what a decoder layer does with it."""

    def __init__(self, place):
        super().__init__()
        self.place = place
        self.q = nn.Linear(HIDDEN, HEADS * HEAD_DIM, bias=False)
        self.k = nn.Linear(HIDDEN, KV_HEADS * HEAD_DIM, bias=False)
        self.v = nn.Linear(HIDDEN, KV_HEADS * HEAD_DIM, bias=False)
        self.o = nn.Linear(HEADS * HEAD_DIM, HIDDEN, bias=False)

    def forward(self, x):
        q, k, v = (layer(x).unflatten(-1, (-1, HEAD_DIM)) for layer in (self.q, self.k, self.v))
        out, _ = attend(q, k, v, None, self.place)
        return x + self.o(out.flatten(-2))


def make_block(place):
    torch.manual_seed(3)
    return Block(place)


def make_input():
    return torch.randn(1, TOKENS, HIDDEN, generator=torch.Generator().manual_seed(4))


def one_process():
    """Loss and the gradient of every parameter, by torch's own attention."""
    block, x = make_block(WHOLE), make_input()
    q, k, v = (layer(x).unflatten(-1, (-1, HEAD_DIM)).transpose(1, 2) for layer in (block.q, block.k, block.v))
    out = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True).transpose(1, 2)
    (x + block.o(out.flatten(-2))).square().sum().backward()
    return {name: parameter.grad for name, parameter in block.named_parameters()}


def full(tensor):
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def counting(calls):
    """The CPU kernel, counted."""

    def forward(*tensors):
        calls["forward"] += 1
        return kernels.CPU.block_forward(*tensors)

    def backward(*tensors):
        calls["backward"] += 1
        return kernels.CPU.block_backward(*tensors)

    return kernels.Kernel(name="counted", block_forward=forward, block_backward=backward)


def count_calls(rank, world, method, ulysses, policy, compiles):
    """Kernel calls and exchanges of one forward and backward of a recomputed block."""
    from runtime import kernel_choice

    calls = Counter()
    kernel_choice.KERNELS["counted"] = counting(calls)
    place = make_place(rank, world, method, ulysses)
    place = AttentionPlace(kernel="counted", method=method, kv_group=place.kv_group, heads_group=place.heads_group)
    block = make_block(place)
    x = zigzag.shard(make_input(), rank=rank, cp=world, dim=1).clone().requires_grad_()
    run = partial(recompute._runner(policy), block) if policy != "none" else block
    if compiles:
        torch._dynamo.reset()
        run = torch.compile(run, backend="aot_eager", fullgraph=True)
    groups = [name for name in (place.kv_group, place.heads_group) if name]
    for name in groups:
        traffic.take(name)
    loss = run(x).square().sum()
    forward = calls["forward"], sum(traffic.take(name).messages for name in groups)
    loss.backward()
    return forward, (calls["forward"], calls["backward"], sum(traffic.take(name).messages for name in groups))


@pytest.mark.parametrize("compiles", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize(
    ("method", "ulysses", "kernel_calls", "sent_forward", "sent_backward"),
    [
        # cp 2: a rank's own block and one foreign. K and V go once forward; backward once more, and the gradients once.
        ("ring", 1, 2, 1, 2),
        ("allgather", 1, 2, 1, 2),
        # The whole sequence in one block. Forward: q, k, v out and the output back; backward the same.
        ("ulysses", 2, 1, 2, 2),
    ],
)
def test_with_attention_saved_kernels_and_messages_run_once_forward_and_once_backward(
    gloo_pool, method, ulysses, kernel_calls, sent_forward, sent_backward, compiles
):
    for policy in ("none", "attention_saved"):
        for forward, total in gloo_pool.run(2, count_calls, method, ulysses, policy, compiles):
            assert forward == (kernel_calls, sent_forward)
            assert total == (kernel_calls, kernel_calls, sent_backward), f"{policy}: nothing runs a second time"


def test_with_full_recomputation_kernels_and_messages_run_again(gloo_pool):
    for forward, total in gloo_pool.run(2, count_calls, "ring", 1, "full", False):
        assert forward == (2, 1)
        assert total == (4, 2, 1 + 2)


def gradients_in_company(rank, world, method, ulysses, tp, compiles):
    """Gradients of every parameter of a block under FSDP2 over cp, with tensor parallelism and checkpointing."""
    cp = world // tp
    mesh = init_device_mesh("cpu", (cp, tp), mesh_dim_names=("cp", "tp"))
    grid = torch.arange(world).view(cp, tp)
    kv_group = heads_group = ""
    for column in grid.T.tolist():
        group = dist.new_group(column)
        if rank in column:
            kv_group, heads_group = ("", group.group_name) if ulysses > 1 else (group.group_name, "")
    block = make_block(AttentionPlace(kernel="cpu", method=method, kv_group=kv_group, heads_group=heads_group))
    if tp > 1:
        plan = {"q": ColwiseParallel(), "k": ColwiseParallel(), "v": ColwiseParallel(), "o": RowwiseParallel()}
        parallelize_module(block, mesh["tp"], plan)

    def keep(_context, operator, *_args, **_kwargs):
        is_attention = operator is torch.ops.cpadvisor.context_attention.default
        return CheckpointPolicy.MUST_SAVE if is_attention else CheckpointPolicy.PREFER_RECOMPUTE

    contexts = partial(create_selective_checkpoint_contexts, keep)
    plain = block.forward
    block.forward = lambda x: checkpoint(plain, x, use_reentrant=False, context_fn=contexts)
    if compiles:
        torch._dynamo.reset()
        block.compile(backend="aot_eager")
    fully_shard(block, mesh=mesh["cp"], mp_policy=MixedPrecisionPolicy(reduce_dtype=torch.float32))
    block.set_gradient_divide_factor(1.0)
    block.set_force_sum_reduction_for_comms(True)
    x = zigzag.shard(make_input(), rank=mesh["cp"].get_local_rank(), cp=cp, dim=1).clone()
    block(x).square().sum().backward()
    return {name: full(parameter.grad).clone() for name, parameter in block.named_parameters()}


@pytest.mark.parametrize(
    ("world", "method", "ulysses", "tp", "compiles"),
    [
        (2, "ring", 1, 1, False),
        (2, "ring", 1, 1, True),
        (2, "ulysses", 2, 1, True),
        (4, "ring", 1, 2, False),
        (4, "ring", 1, 2, True),
        (4, "allgather", 1, 2, False),
        (4, "ulysses", 2, 2, False),
    ],
)
def test_every_gradient_is_that_of_one_process_under_fsdp2_tp_checkpointing_and_compilation(
    gloo_pool, world, method, ulysses, tp, compiles
):
    right = one_process()
    for grads in gloo_pool.run(world, gradients_in_company, method, ulysses, tp, compiles):
        assert grads.keys() == right.keys()
        for name, grad in grads.items():
            error = ((grad - right[name]).norm() / right[name].norm()).item()
            assert error < 1e-5, f"{name} is off by {error:.1e}"


@pytest.mark.parametrize(
    ("documents", "told"),
    [
        ([[0, 5, 8]], "documents of 1 sequences for a batch of 2"),
        ([[0, 40], [0, 8]], r"documents begin at \[0, 40\]: .* none begins beyond 8 tokens"),
        ([[3, 8], [0, 8]], r"documents begin at \[3, 8\]: they ascend from 0"),
        ([[0, 6, 5], [0, 5, 6]], r"documents begin at \[0, 6, 5\]"),
    ],
)
def test_documents_that_are_not_those_of_the_sequences_are_refused(documents, told):
    q, k, v = (torch.randn(2, 8, heads, HEAD_DIM) for heads in (HEADS, KV_HEADS, KV_HEADS))
    with pytest.raises(ValueError, match=told):
        attend(q, k, v, torch.tensor(documents), WHOLE)


def test_heads_that_do_not_group_are_refused():
    q, k, v = (torch.randn(1, 8, heads, HEAD_DIM) for heads in (3, 2, 2))
    with pytest.raises(ValueError, match="3 query heads do not share 2 K/V heads evenly"):
        attend(q, k, v, None, WHOLE)


def test_documents_that_change_between_forward_and_backward_are_noticed():
    q, k, v = (torch.randn(1, 8, heads, HEAD_DIM, requires_grad=True) for heads in (HEADS, KV_HEADS, KV_HEADS))
    documents = torch.tensor([[0, 5]])
    out, _ = attend(q, k, v, documents, WHOLE)
    documents[0, 1] = 3
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.sum().backward()


@pytest.mark.parametrize("documents", [None, torch.tensor([[0, 5]])], ids=["one document", "packed"])
def test_the_operator_is_sound_for_autograd_and_tracing(documents):
    shapes = [(1, 8, heads, HEAD_DIM) for heads in (HEADS, KV_HEADS, KV_HEADS)]
    q, k, v = (torch.randn(shape, requires_grad=True) for shape in shapes)
    torch.library.opcheck(context_attention, (q, k, v, documents, "none", "", "", "cpu"))
