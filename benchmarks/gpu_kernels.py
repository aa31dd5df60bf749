"""Attention kernels of this GPU side by side: the one that the trainer chooses, and torch's flash."""

from benchmarks.row import Row

TOKENS, HEADS, KV_HEADS, HEAD_DIM = 32_768, 32, 8, 128
NAME = f"attention kernel chosen / torch flash, {TOKENS:,} tokens forward + backward"
REPEATS = 10


def rows() -> list[Row]:
    """Seconds of one causal forward and backward, bf16, heads 32:8 of 128; below 1 the chosen kernel is faster."""
    try:
        import torch
    except ImportError:
        return [Row(name=NAME, skipped="torch is not installed")]
    if not torch.cuda.is_available():
        return [Row(name=NAME, skipped="no CUDA device")]
    from runtime.kernel_choice import choose_kernel
    from runtime.kernels import FLASH

    device = torch.device("cuda", 0)
    shape = {"heads": HEADS, "kv_heads": KV_HEADS, "head_dim": HEAD_DIM}
    chosen = choose_kernel(device, torch.bfloat16, **shape).kernel
    samples = [(_seconds(chosen, device), _seconds(FLASH, device)) for _ in range(REPEATS + 1)][1:]
    ratios = sorted(a / b for a, b in samples)
    middle = REPEATS // 2
    # Causal half of 4 x S^2 x H x D forward, 2.5 times that backward.
    flops = 3.5 * 2 * TOKENS**2 * HEADS * HEAD_DIM
    return [
        Row(
            name=NAME,
            ours=sorted(a for a, _ in samples)[middle],
            other=sorted(b for _, b in samples)[middle],
            ratio=ratios[middle],
            ratio_low=ratios[0],
            ratio_high=ratios[-1],
            goal=1.0,
            note=f"{chosen.name}, {flops / sorted(a for a, _ in samples)[middle] / 1e12:.0f} TFLOP/s",
        )
    ]


def _seconds(kernel, device) -> float:
    import torch

    q, dout = (torch.randn(1, TOKENS, HEADS, HEAD_DIM, device=device, dtype=torch.bfloat16) for _ in range(2))
    k, v = (torch.randn(1, TOKENS, KV_HEADS, HEAD_DIM, device=device, dtype=torch.bfloat16) for _ in range(2))
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    out, lse = kernel.forward(q, k, v, True)
    kernel.backward(dout, q, k, v, out, lse, True)
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end) / 1e3
