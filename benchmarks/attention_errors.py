"""How far ring, all-gather and Ulysses attention is off, on the GPUs of this machine, beside one kernel alone.

`python -m benchmarks.attention_errors` prints relative L2 errors against float64 attention of the whole sequence: each
kernel, each method, heads 8:8, 8:2 and 8:1 of 128, causal and packed, bf16 (float32 on CPU processes). Exit status 1
where a method is further off than allowed: 1.2 times the kernel alone for out and dq, 1.35 times for dk and dv.
"""

import sys

import torch
from torch import Tensor

from runtime import zigzag
from runtime.attention import AttentionPlace, attend
from runtime.bench import launch
from runtime.bench.inputs import dtype_of
from runtime.bench.launch import Ranks
from runtime.kernel_choice import usable_kernels

TOKENS, HEAD_DIM = 2048, 128
HEADS = ((8, 8), (8, 2), (8, 1))
DOCUMENTS = (0, 1, 300, 777, 1024, 1500)
METHODS = ("ring", "allgather", "ulysses")
NAMES = ("out", "lse", "dq", "dk", "dv")
LIMITS = {"out": 1.2, "dq": 1.2, "dk": 1.35, "dv": 1.35}
FLOAT32_LIMIT = 1e-5


def measure(ranks: Ranks) -> None:
    """One line a kernel, method, heads and mask; every rank calls it."""
    worst: list[str] = []
    for heads, kv_heads in HEADS:
        for documents in (None, DOCUMENTS):
            tensors = _draw(ranks, heads, kv_heads)
            right = _truth(tensors, documents)
            shape = {"heads": heads, "kv_heads": kv_heads, "head_dim": HEAD_DIM}
            for kernel in usable_kernels(ranks.device, tensors[0].dtype, **shape):
                alone = _errors(ranks, AttentionPlace(kernel=kernel), tensors, right, documents)
                _tell(ranks, kernel, "one kernel", heads, kv_heads, documents, alone, alone)
                for method in METHODS:
                    found = _errors(ranks, _place(ranks, kernel, method), tensors, right, documents)
                    _tell(ranks, kernel, method, heads, kv_heads, documents, found, alone)
                    worst += _too_far(f"{kernel} {method} {heads}:{kv_heads}", found, alone, tensors[0].dtype)
    if worst:
        raise launch.RankError("further off than allowed: " + "; ".join(worst))


def _draw(ranks: Ranks, heads: int, kv_heads: int) -> list[Tensor]:
    generator = torch.Generator(device=ranks.device).manual_seed(11)
    options = {"device": ranks.device, "generator": generator}
    shapes = [(1, TOKENS, count, HEAD_DIM) for count in (heads, kv_heads, kv_heads, heads)]
    return [torch.randn(shape, **options).to(dtype_of(ranks.device)) for shape in shapes]


def _truth(tensors: list[Tensor], documents: tuple[int, ...] | None) -> list[Tensor]:
    q, k, v = (tensor.double().requires_grad_() for tensor in tensors[:3])
    times = q.shape[2] // k.shape[2]
    index = torch.arange(TOKENS, device=q.device)
    document = sum(((index >= start).long() for start in documents or (0,)), torch.zeros_like(index))
    seen = (index[:, None] >= index) & (document[:, None] == document)
    scores = torch.einsum("bshd,bthd->bhst", q, k.repeat_interleave(times, dim=2)) * HEAD_DIM**-0.5
    scores = scores.masked_fill(~seen, float("-inf"))
    out = torch.einsum("bhst,bthd->bshd", scores.softmax(-1), v.repeat_interleave(times, dim=2))
    grads = torch.autograd.grad(out, (q, k, v), tensors[3].double())
    return [out.detach(), scores.logsumexp(-1).detach(), *grads]


def _place(ranks: Ranks, kernel: str, method: str) -> AttentionPlace:
    name = ranks.group.group_name
    groups = {"heads_group": name} if method == "ulysses" else {"kv_group": name}
    return AttentionPlace(kernel=kernel, method=method, **groups)


def _errors(
    ranks: Ranks,
    place: AttentionPlace,
    tensors: list[Tensor],
    right: list[Tensor],
    documents: tuple[int, ...] | None,
) -> dict[str, float]:
    parts = 1 if place.method == "none" else ranks.size
    rank = 0 if place.method == "none" else ranks.rank
    q, k, v, dout = (zigzag.shard(tensor, rank=rank, cp=parts, dim=1).clone() for tensor in tensors)
    leaves = [tensor.requires_grad_() for tensor in (q, k, v)]
    out, lse = attend(q, k, v, None if documents is None else torch.tensor([documents]), place)
    got = [out.detach(), lse, *torch.autograd.grad(out, leaves, dout)]
    sums: list[tuple[float, float]] = []
    for value, whole, dim in zip(got, right, (1, 2, 1, 1, 1), strict=True):
        true = zigzag.shard(whole, rank=rank, cp=parts, dim=dim)
        sums.append((((value.double() - true) ** 2).sum().item(), (true**2).sum().item()))
    of_ranks = ranks.gather(sums)
    return {
        name: (sum(each[i][0] for each in of_ranks) / sum(each[i][1] for each in of_ranks)) ** 0.5
        for i, name in enumerate(NAMES)
    }


def _tell(
    ranks: Ranks,
    kernel: str,
    method: str,
    heads: int,
    kv_heads: int,
    documents: tuple[int, ...] | None,
    found: dict[str, float],
    alone: dict[str, float],
) -> None:
    if ranks.rank != 0:
        return
    cells = "  ".join(f"{name} {found[name]:.2e} ({found[name] / alone[name]:.2f})" for name in NAMES)
    mask = "causal" if documents is None else "packed"
    print(f"{kernel:13} {method:10} {heads}:{kv_heads} {mask}  {cells}", flush=True)


def _too_far(what: str, found: dict[str, float], alone: dict[str, float], dtype: torch.dtype) -> list[str]:
    if dtype == torch.float32:
        return [f"{what} {name} {error:.1e}" for name, error in found.items() if error > FLOAT32_LIMIT]
    times = {name: found[name] / alone[name] for name in LIMITS}
    return [f"{what} {name} {ratio:.2f} x" for name, ratio in times.items() if ratio > LIMITS[name]]


def main() -> int:
    """Start the ranks; exit status 1 where one fails or is too far off."""
    try:
        launch.run(measure)
    except launch.RankError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
