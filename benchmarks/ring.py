"""Ring attention on two CPU processes beside one process that does the whole sequence."""

import tempfile
import time

from benchmarks.row import Row

TOKENS, HEADS, KV_HEADS, HEAD_DIM = 8192, 8, 4, 64
REPEATS = 5


def rows() -> list[Row]:
    """Seconds of forward and backward of 8,192 tokens: two ranks / one rank; the ideal ratio is 0.5."""
    try:
        import torch.multiprocessing as mp
    except ImportError:
        return [Row(name="ring of 2 / 1 process", skipped="torch is not installed")]
    with mp.get_context("spawn").Manager() as manager:
        results = manager.dict()
        for world in (1, 2):
            with tempfile.TemporaryDirectory() as folder:
                mp.spawn(_measure, args=(world, f"{folder}/store", results), nprocs=world, join=True)
        one, two = results[1], results[2]
    ratios = sorted(b / a for a, b in zip(one, two, strict=True))
    middle = len(ratios) // 2
    return [
        Row(
            name=f"ring attention of 2 CPU ranks / 1, {TOKENS:,} tokens forward + backward",
            ours=sorted(two)[middle],
            other=sorted(one)[middle],
            ratio=ratios[middle],
            ratio_low=ratios[0],
            ratio_high=ratios[-1],
            note="one thread a rank; the ideal is 0.50",
        )
    ]


def _measure(rank: int, world: int, store: str, results: dict[int, list[float]]) -> None:
    import torch
    import torch.distributed as dist

    from runtime.ring import ring_attention

    torch.set_num_threads(1)
    group_name = ""
    if world > 1:
        dist.init_process_group("gloo", store=dist.FileStore(store, world), rank=rank, world_size=world)
        group_name = dist.group.WORLD.group_name
    local = TOKENS // world
    q = torch.randn(1, local, HEADS, HEAD_DIM, requires_grad=True)
    k, v = (torch.randn(1, local, KV_HEADS, HEAD_DIM, requires_grad=True) for _ in range(2))
    seconds = []
    for _ in range(REPEATS + 1):
        start = time.perf_counter()
        out, _ = ring_attention(q, k, v, group_name, "cpu")
        out.sum().backward()
        seconds.append(time.perf_counter() - start)
    if rank == 0:
        results[world] = seconds[1:]
    if world > 1:
        dist.destroy_process_group()
