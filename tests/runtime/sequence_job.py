"""Attention of one rank on its share of fixed random tensors, and the truth in float64; for tests of all methods."""

import torch
import torch.distributed as dist
from torch import Tensor

from runtime import zigzag
from runtime.attention import AttentionPlace, attend

HEAD_DIM = 16
BATCH = 2


def whole(sequence_len: int, heads: int, kv_heads: int, dtype: torch.dtype) -> list[Tensor]:
    """q, k, v and the gradient of the output, [B, S, heads, D]."""
    generator = torch.Generator().manual_seed(7)
    shapes = [(BATCH, sequence_len, count, HEAD_DIM) for count in (heads, kv_heads, kv_heads, heads)]
    return [torch.randn(shape, generator=generator).to(dtype) for shape in shapes]


def mask(sequence_len: int, documents: list[int] | None) -> Tensor:
    """[S, S]: which token sees which."""
    index = torch.arange(sequence_len)
    document = sum(((index >= start).long() for start in documents or [0]), torch.zeros(sequence_len))
    return (index[:, None] >= index) & (document[:, None] == document)


def truth(q: Tensor, k: Tensor, v: Tensor, dout: Tensor, documents: list[list[int]] | None) -> list[Tensor]:
    """out, lse, dq, dk, dv by the definition, in float64."""
    q, k, v = (tensor.double().requires_grad_() for tensor in (q, k, v))
    times = q.shape[2] // k.shape[2]
    k_all, v_all = (tensor.repeat_interleave(times, dim=2) for tensor in (k, v))
    seen = torch.stack([mask(q.shape[1], each) for each in documents or [None] * q.shape[0]])
    scores = torch.einsum("bshd,bthd->bhst", q, k_all) * q.shape[-1] ** -0.5
    scores = scores.masked_fill(~seen[:, None], float("-inf"))
    out = torch.einsum("bhst,bthd->bshd", scores.softmax(-1), v_all)
    out.backward(dout.double())
    assert q.grad is not None and k.grad is not None and v.grad is not None
    return [out.detach(), scores.logsumexp(-1).detach(), q.grad, k.grad, v.grad]


def make_place(rank: int, world: int, method: str, ulysses: int) -> AttentionPlace:
    """The groups of a method over all ranks: neighbours exchange heads, the others send K and V."""
    grid = torch.arange(world).view(-1, ulysses)
    names = {"kv_group": "", "heads_group": ""}
    for kind, rows in (("kv_group", grid.T), ("heads_group", grid)):
        for row in rows.tolist():
            group = dist.new_group(row)
            if rank in row and len(row) > 1:
                names[kind] = group.group_name
    return AttentionPlace(kernel="cpu", method=method, **names)


def padded(documents: list[list[int]] | None, sequence_len: int) -> Tensor | None:
    """Document starts as the operator takes them, [B, N]."""
    if documents is None:
        return None
    longest = max(map(len, documents))
    return torch.tensor([starts + [sequence_len] * (longest - len(starts)) for starts in documents])


def run(
    rank: int,
    world: int,
    method: str,
    ulysses: int,
    sequence_len: int,
    heads: tuple[int, int],
    dtype: torch.dtype,
    documents: list[list[int]] | None,
) -> list[Tensor]:
    """This rank's share of out, lse, dq, dk, dv."""
    place = make_place(rank, world, method, ulysses)
    q, k, v, dout = (zigzag.shard(t, rank=rank, cp=world, dim=1).clone() for t in whole(sequence_len, *heads, dtype))
    for tensor in (q, k, v):
        tensor.requires_grad_()
    out, lse = attend(q, k, v, padded(documents, sequence_len), place)
    out.backward(dout)
    assert q.grad is not None and k.grad is not None and v.grad is not None
    return [out.detach(), lse, q.grad, k.grad, v.grad]


def joined(shares: list[list[Tensor]]) -> list[Tensor]:
    """Results of all ranks as results of the whole sequence; the sequence is dim 2 of the log-sum-exp."""
    dims = (1, 2, 1, 1, 1)
    return [zigzag.unshard(list(parts), dim=dim) for parts, dim in zip(zip(*shares, strict=True), dims, strict=True)]


def errors(results: list[Tensor], right: list[Tensor]) -> dict[str, float]:
    """Relative L2 error of each."""
    names = ("out", "lse", "dq", "dk", "dv")
    pairs = zip(names, results, right, strict=True)
    return {name: ((value.double() - true).norm() / true.norm()).item() for name, value, true in pairs}
