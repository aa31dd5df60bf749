"""Which attention kernel a run uses: the fastest one whose numbers are right on this GPU, tried on a small block."""

import importlib.util
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from runtime.flash_attention import (
    FLASH_ATTN_2,
    FLASH_ATTN_2_MODULE,
    FLASH_ATTN_3,
    FLASH_ATTN_3_MODULE,
    FLASH_ATTN_4,
    FLASH_ATTN_4_MODULE,
)
from runtime.kernels import CPU, CUDNN, FLASH, Kernel
from runtime.merge import merge_

HOPPER = (9, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A kernel that a GPU may use."""

    kernel: Kernel
    tflops: float
    """Forward and backward, causal, 32,768 tokens, 32:8 heads of 128, one H200, torch 2.11, cuDNN 9.19."""
    module: str | None = None
    """The package that it is part of; None is torch itself."""
    newest: tuple[int, int] | None = None
    oldest: tuple[int, int] = (8, 0)
    """Compute capabilities between which it runs."""
    install: str | None = None
    """How to get it, where that is one command."""


CANDIDATES = (
    Candidate(
        kernel=FLASH_ATTN_4,
        tflops=620.0,
        module=FLASH_ATTN_4_MODULE,
        oldest=HOPPER,
        install="pip install 'flash-attn-4[cu13]'",
    ),
    # Not measured here; within a few per cent of version 4 on Hopper, as its authors have it.
    Candidate(kernel=FLASH_ATTN_3, tflops=600.0, module=FLASH_ATTN_3_MODULE, oldest=HOPPER, newest=HOPPER),
    Candidate(kernel=CUDNN, tflops=549.0),
    Candidate(kernel=FLASH_ATTN_2, tflops=325.0, module=FLASH_ATTN_2_MODULE),
    Candidate(kernel=FLASH, tflops=325.0),
)
"""Best first."""

KERNELS = {kernel.name: kernel for kernel in (*(candidate.kernel for candidate in CANDIDATES), CPU)}

GPU_DTYPES = (torch.bfloat16, torch.float16)
TOLERANCE = 2e-2
"""Relative error of a block in bf16; kernels have 2e-3 to 5e-3, a wrong one 1."""
TRIED_TOKENS = 512
"""Half of them are still two blocks of keys: flash-attn 4 compiles another kernel for one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The kernel that a run uses, and why better ones were passed over."""

    kernel: Kernel
    passed_over: tuple[str, ...] = ()
    """One line for each faster kernel that could run on this GPU and does not, with what that costs."""


def choose_kernel(device: torch.device, dtype: torch.dtype, *, heads: int, kv_heads: int, head_dim: int) -> Choice:
    """The fastest kernel that is right here, forward and backward, causal and not.

    Raises RuntimeError with every kernel's reason where none is, and for float32 on a GPU: cuDNN takes it and
    gives NaN. Raises torch.OutOfMemoryError where the block finds no memory.
    """
    if device.type == "cpu":
        return Choice(kernel=CPU)
    if dtype not in GPU_DTYPES:
        raise RuntimeError(f"no attention kernel of a GPU computes in {dtype}; use bf16: true")
    passed: list[tuple[Candidate, str]] = []
    for candidate in CANDIDATES:
        why_not = _why_not(candidate, device, dtype, heads=heads, kv_heads=kv_heads, head_dim=head_dim)
        if why_not is None:
            return Choice(kernel=candidate.kernel, passed_over=tuple(_told(passed, candidate)))
        passed.append((candidate, why_not))
    reasons = "; ".join(f"{candidate.kernel.name} {why}" for candidate, why in passed)
    raise RuntimeError(f"no attention kernel runs {dtype} heads of {head_dim} on {device}: {reasons}")


def usable_kernels(device: torch.device, dtype: torch.dtype, *, heads: int, kv_heads: int, head_dim: int) -> list[str]:
    """Names of all kernels that are right here, best first."""
    if device.type == "cpu":
        return [CPU.name]
    shape = {"heads": heads, "kv_heads": kv_heads, "head_dim": head_dim}
    return [c.kernel.name for c in CANDIDATES if _why_not(c, device, dtype, **shape) is None]


def _told(passed: list[tuple[Candidate, str]], chosen: Candidate) -> Iterator[str]:
    """Lines for the faster kernels that were passed over; what a GPU was not made for is no loss."""
    for candidate, why_not in passed:
        if why_not == NOT_MADE_FOR_THIS_GPU or (why_not == NOT_INSTALLED and candidate.install is None):
            continue
        mend = f" ({candidate.install})" if why_not == NOT_INSTALLED else ""
        times = candidate.tflops / chosen.tflops
        yield (
            f"{candidate.kernel.name} {why_not}{mend}: attention takes {chosen.kernel.name}, about {times:.2f} times "
            "slower on long sequences"
        )


NOT_INSTALLED = "is not installed"
NOT_MADE_FOR_THIS_GPU = "was not made for this GPU"


def _why_not(
    candidate: Candidate, device: torch.device, dtype: torch.dtype, *, heads: int, kv_heads: int, head_dim: int
) -> str | None:
    """Why a kernel is of no use here, as the end of a sentence; None where it is."""
    capability = torch.cuda.get_device_capability(device)
    if capability < candidate.oldest or (candidate.newest is not None and capability > candidate.newest):
        return NOT_MADE_FOR_THIS_GPU
    if candidate.module is not None and not _is_installed(candidate.module):
        return NOT_INSTALLED
    try:
        error = _try_block(candidate.kernel, device, dtype, heads, kv_heads, head_dim)
    except torch.OutOfMemoryError:  # a full GPU says nothing of the kernel
        raise
    except Exception as problem:  # other people's code and compilers, with errors of their own
        return f"does not run here: {(str(problem).splitlines() or [type(problem).__name__])[0]}"
    return f"is wrong here by {error:.1e} relative" if not error < TOLERANCE else None


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False
    except (ImportError, OSError):  # it is there and does not load, against another torch or CUDA; the trial says why
        return True


def _try_block(
    kernel: Kernel, device: torch.device, dtype: torch.dtype, heads: int, kv_heads: int, head_dim: int
) -> float:
    """The worst relative error of a causal block's and of two merged blocks' results, beside plain float32 arithmetic.

    The kernels of packed documents are not tried: no config packs yet.
    """
    generator = torch.Generator(device).manual_seed(0)
    sizes = (heads, kv_heads, kv_heads, heads)
    shapes = [(1, TRIED_TOKENS, size, head_dim) for size in sizes]
    q, k, v, dout = (torch.randn(shape, generator=generator, device=device).to(dtype) for shape in shapes)
    errors: list[Tensor] = []
    for causal, compute in ((True, _in_one_block), (False, _in_two_blocks)):
        got, right = compute(kernel, q, k, v, dout), _plain(q, k, v, dout, causal)
        errors += [_relative(value, truth) for value, truth in zip(got, right, strict=True)]
    return torch.stack(errors).max().item()  # NaN if any is


def _in_one_block(kernel: Kernel, q: Tensor, k: Tensor, v: Tensor, dout: Tensor) -> tuple[Tensor, ...]:
    """A causal block."""
    out, lse = kernel.forward(q, k, v, True)
    return out, lse, *kernel.backward(dout, q, k, v, out, lse, True)


def _in_two_blocks(kernel: Kernel, q: Tensor, k: Tensor, v: Tensor, dout: Tensor) -> tuple[Tensor, ...]:
    """All queries against either half of the keys, merged: what a ring asks of a kernel."""
    parts = list(zip(k.chunk(2, dim=1), v.chunk(2, dim=1), strict=True))
    (first_out, first_lse), other = (kernel.forward(q, *part, False) for part in parts)
    running, lse = first_out.float().contiguous(), first_lse.contiguous()
    merge_(running, lse, *other)
    out = running.to(q.dtype)
    grads = [kernel.backward(dout, q, *part, out, lse, False) for part in parts]
    dq = grads[0][0].float() + grads[1][0].float()
    dk, dv = (torch.cat([each[index] for each in grads], dim=1) for index in (1, 2))
    return out, lse, dq, dk, dv


def _plain(q: Tensor, k: Tensor, v: Tensor, dout: Tensor, causal: bool) -> tuple[Tensor, ...]:
    """Attention by its definition in float32: out, log-sum-exp, dq, dk, dv."""
    q, k, v = (tensor.float().requires_grad_() for tensor in (q, k, v))
    times = q.shape[2] // k.shape[2]
    k_all, v_all = (tensor.repeat_interleave(times, dim=2) for tensor in (k, v))
    with torch.enable_grad():
        scores = torch.einsum("bshd,bthd->bhst", q, k_all) * q.shape[-1] ** -0.5
        if causal:
            scores = scores.masked_fill(torch.ones_like(scores, dtype=torch.bool).triu(1), float("-inf"))
        out = torch.einsum("bhst,bthd->bshd", scores.softmax(-1), v_all)
    return out.detach(), scores.logsumexp(-1).detach(), *torch.autograd.grad(out, (q, k, v), dout.float())


def _relative(value: Tensor, truth: Tensor) -> Tensor:
    return (value.float() - truth).norm() / truth.norm()


def shadowed_cudnn() -> str | None:
    """The warning where another cuDNN was loaded than the one that torch was built with; None where all is well.

    An older system library found first (LD_LIBRARY_PATH) makes torch fall back to slower kernels without a word:
    606 seconds a step in place of 373 for Qwen3-8B at 1M tokens on 8 H100 (transformers issue 48324).
    """
    if not torch.backends.cudnn.is_available():
        return None
    built = getattr(getattr(torch._C, "_cudnn", None), "getCompileVersion", lambda: None)()
    loaded = torch.backends.cudnn.version()
    return None if built is None or loaded is None else _cudnn_warning(built, loaded, _cudnn_path(_maps()))


def _cudnn_warning(built: tuple[int, int, int], loaded: int, path: str | None) -> str | None:
    major, minor, patch = built
    if loaded >= major * 10_000 + minor * 100 + patch:
        return None
    where = f" ({path})" if path else ""
    return (
        f"cuDNN {loaded // 10_000}.{loaded // 100 % 100}.{loaded % 100}{where} shadows the "
        f"{major}.{minor}.{patch} that torch was built with: attention may fall back to a kernel about "
        f"{CUDNN_OVER_FLASH:.1f} times slower; take its folder out of LD_LIBRARY_PATH"
    )


_TFLOPS = {candidate.kernel.name: candidate.tflops for candidate in CANDIDATES}
CUDNN_OVER_FLASH = _TFLOPS[CUDNN.name] / _TFLOPS[FLASH.name]


def _cudnn_path(maps: str) -> str | None:
    """The cuDNN among the files that a process has mapped."""
    found = re.search(r"/\S*libcudnn\.so\S*", maps)
    return found.group() if found else None


def _maps() -> str:
    """The files that this process has mapped, as Linux lists them."""
    path = Path("/proc/self/maps")
    return path.read_text() if path.exists() else ""
