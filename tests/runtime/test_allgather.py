from dataclasses import replace
from itertools import pairwise

import plain_attention
import pytest
import torch
import torch.distributed as dist
from plain_attention import assert_close, causal_mask, inputs, packed_mask, truth
from torch import Tensor

from runtime import allgather, traffic, zigzag
from runtime.blocks import Documents, Place
from runtime.kernels import CPU
from runtime.partial import Given


def span_mask(cuts: tuple[int, ...], key_cuts: tuple[int, ...]) -> Tensor:
    """Causal within each span, its last query and its last key the same token."""
    extents = zip(pairwise(cuts), pairwise(key_cuts or cuts), strict=True)
    sizes = [(end - start, key_end - key_start) for (start, end), (key_start, key_end) in extents]
    return torch.block_diag(*(torch.ones(s, t).tril(t - s) for s, t in sizes)).bool()


def packed_forward(q: Tensor, k: Tensor, v: Tensor, cuts: tuple[int, ...], key_cuts: tuple[int, ...] = ()):
    out, lse = plain_attention.forward(q[None], k[None], v[None], span_mask(cuts, key_cuts))
    return out[0].to(q.dtype), lse[0].float()


def packed_backward(dout, q, k, v, out, lse, cuts: tuple[int, ...], key_cuts: tuple[int, ...] = ()):
    given = (tensor[None] for tensor in (dout, q, k, v, out, lse))
    grads = plain_attention.backward(*given, span_mask(cuts, key_cuts))
    return tuple(grad[0].to(q.dtype) for grad in grads)


PACKING = replace(CPU, name="packing", packed_forward=packed_forward, packed_backward=packed_backward)
"""A kernel of packed documents, by the definition of attention; what is not packed is the CPU kernel's."""
KERNELS = {kernel.name: kernel for kernel in (CPU, PACKING)}


def place_of(rank: int, world: int, tokens: int, documents: Documents | None = None) -> Place:
    return Place(rank=rank, size=world, local=tokens // world, documents=documents)


def shares(rank: int, world: int, *wholes: Tensor) -> list[Tensor]:
    return [zigzag.shard(whole, rank=rank, cp=world, dim=1) for whole in wholes]


def gather(rank: int, world: int, tokens: int) -> tuple[Tensor, Tensor]:
    _, k, v, _ = inputs(tokens)
    return allgather.Gathering(*shares(rank, world, k, v), place_of(rank, world, tokens), dist.group.WORLD).whole()


@pytest.mark.parametrize("world", [2, 3, 4])
def test_k_and_v_are_gathered_as_the_whole_sequence_in_order(gloo_pool, world) -> None:
    _, k, v, _ = inputs(8 * world)
    for gathered in gloo_pool.run(world, gather, 8 * world):
        assert torch.equal(gathered[0], k) and torch.equal(gathered[1], v)


def both_passes(rank: int, world: int, tokens: int, documents: Documents | None, kernel: str = "cpu"):
    q, k, v, dout = shares(rank, world, *inputs(tokens, batch=1 if documents else 2))
    place, group = place_of(rank, world, tokens, documents), dist.group.WORLD
    traffic.take(group.group_name)
    out, lse = allgather.forward(q, k, v, place, group, KERNELS[kernel])
    forward = traffic.take(group.group_name)
    grads = allgather.backward(Given(dout=dout, q=q, out=out, lse=lse), k, v, place, group, KERNELS[kernel])
    backward = traffic.take(group.group_name)
    counts = (forward.messages, forward.sent_bytes), (backward.messages, backward.sent_bytes)
    return [out, lse.transpose(1, 2), *grads], counts


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("world", [2, 3, 4])
@pytest.mark.parametrize("documents", [None, (0, 3, 13)])
def test_every_rank_has_its_share_of_one_process_s_results(gloo_pool, world, documents, kernel) -> None:
    tokens = 8 * world
    answers = gloo_pool.run(world, both_passes, tokens, documents, kernel)
    mask = causal_mask(tokens) if documents is None else packed_mask((*documents, tokens))
    out, lse, *grads = truth(*inputs(tokens, batch=1 if documents else 2), mask)
    got = [zigzag.unshard(list(parts), dim=1) for parts in zip(*(results for results, _ in answers), strict=True)]
    assert_close(tuple(got), (out, lse.transpose(1, 2), *grads))


@pytest.mark.parametrize("world", [2, 4])
def test_k_and_v_go_to_every_rank_in_one_exchange_and_gradients_home_in_another(gloo_pool, world) -> None:
    # A share has 2 x 8 tokens of 2 heads of 8 numbers of 4 bytes, K and V: 2 KiB to each other rank.
    share_bytes = 2 * 2 * 8 * 2 * 8 * 4
    for _, (forward, backward) in gloo_pool.run(world, both_passes, 8 * world, None):
        assert forward == (1, (world - 1) * share_bytes)
        assert backward == (2, 2 * (world - 1) * share_bytes)
