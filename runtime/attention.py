"""The attention kernels of one device: each gives out and log-sum-exp, and a backward that takes both from outside.

Those two properties make a kernel usable in a ring: partial outputs merge by
their log-sum-exps, and the backward of each block is called with the merged
ones. All take grouped K/V heads as they are (no repetition). Shapes: B batch,
S queries, T keys, H query heads, G key/value heads, D head size; arguments and
results are laid out BSHD.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

aten = torch.ops.aten


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """One implementation of attention over a block."""

    name: str
    forward: Callable[[Tensor, Tensor, Tensor, bool], tuple[Tensor, Tensor]]
    """(q_BSHD, k_BTGD, v_BTGD, causal) -> out_BSHD, lse_BHS in float32. Causal needs S == T."""
    backward: Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, bool], tuple[Tensor, Tensor, Tensor]]
    """(dout_BSHD, q, k, v, out_BSHD, lse_BHS, causal) -> dq_BSHD, dk_BTGD, dv_BTGD, for final out and lse."""


def _heads_first(*tensors: Tensor) -> list[Tensor]:
    # [B, S, H, D] -> [B, H, S, D], a view
    return [tensor.transpose(1, 2) for tensor in tensors]


def _cudnn_forward(q_BSHD: Tensor, k_BTGD: Tensor, v_BTGD: Tensor, causal: bool) -> tuple[Tensor, Tensor]:
    q, k, v = _heads_first(q_BSHD, k_BTGD, v_BTGD)
    out, lse_BHS1, *_ = aten._scaled_dot_product_cudnn_attention(q, k, v, None, True, 0.0, causal, False)
    return out.transpose(1, 2), lse_BHS1.squeeze(-1)


def _cudnn_backward(
    dout_BSHD: Tensor, q_BSHD: Tensor, k_BTGD: Tensor, v_BTGD: Tensor, out_BSHD: Tensor, lse_BHS: Tensor, causal: bool
) -> tuple[Tensor, Tensor, Tensor]:
    dout, q, k, v, out = _heads_first(dout_BSHD, q_BSHD, k_BTGD, v_BTGD, out_BSHD)
    # Without dropout the kernel reads neither seed nor offset, but the operator wants tensors.
    unused = torch.zeros((), dtype=torch.int64, device=q.device)
    lse_BHS1 = lse_BHS.unsqueeze(-1).contiguous()
    grads = aten._scaled_dot_product_cudnn_attention_backward(
        dout, q, k, v, out, lse_BHS1, unused, unused, None, None, None, q.shape[2], k.shape[2], 0.0, causal
    )
    dq, dk, dv = _heads_first(*grads[:3])
    return dq, dk, dv


def _flash_forward(q_BSHD: Tensor, k_BTGD: Tensor, v_BTGD: Tensor, causal: bool) -> tuple[Tensor, Tensor]:
    q, k, v = _heads_first(q_BSHD, k_BTGD, v_BTGD)
    out, lse_BHS, *_ = aten._scaled_dot_product_flash_attention(q, k, v, 0.0, causal, False)
    return out.transpose(1, 2), lse_BHS


def _flash_backward(
    dout_BSHD: Tensor, q_BSHD: Tensor, k_BTGD: Tensor, v_BTGD: Tensor, out_BSHD: Tensor, lse_BHS: Tensor, causal: bool
) -> tuple[Tensor, Tensor, Tensor]:
    dout, q, k, v, out = _heads_first(dout_BSHD, q_BSHD, k_BTGD, v_BTGD, out_BSHD)
    # Without dropout the kernel reads neither seed nor offset, but the operator wants tensors.
    unused = torch.zeros((), dtype=torch.int64, device=q.device)
    grads = aten._scaled_dot_product_flash_attention_backward(
        dout, q, k, v, out, lse_BHS.contiguous(), None, None, q.shape[2], k.shape[2], 0.0, causal, unused, unused
    )
    dq, dk, dv = _heads_first(*grads[:3])
    return dq, dk, dv


def _cpu_forward(q_BSHD: Tensor, k_BTGD: Tensor, v_BTGD: Tensor, causal: bool) -> tuple[Tensor, Tensor]:
    q, k, v = _heads_first(q_BSHD, k_BTGD, v_BTGD)
    out, lse_BHS = aten._scaled_dot_product_flash_attention_for_cpu(q, k, v, 0.0, causal)
    return out.transpose(1, 2), lse_BHS


def _cpu_backward(
    dout_BSHD: Tensor, q_BSHD: Tensor, k_BTGD: Tensor, v_BTGD: Tensor, out_BSHD: Tensor, lse_BHS: Tensor, causal: bool
) -> tuple[Tensor, Tensor, Tensor]:
    dout, q, k, v, out = _heads_first(dout_BSHD, q_BSHD, k_BTGD, v_BTGD, out_BSHD)
    grads = aten._scaled_dot_product_flash_attention_for_cpu_backward(dout, q, k, v, out, lse_BHS, 0.0, causal)
    dq, dk, dv = _heads_first(*grads[:3])
    return dq, dk, dv


CUDNN = Kernel(name="cudnn", forward=_cudnn_forward, backward=_cudnn_backward)
FLASH = Kernel(name="flash", forward=_flash_forward, backward=_flash_backward)
CPU = Kernel(name="cpu", forward=_cpu_forward, backward=_cpu_backward)
KERNELS = {kernel.name: kernel for kernel in (CUDNN, FLASH, CPU)}
CUDA_PREFERENCE = (CUDNN, FLASH)
"""Best first. On H200 torch's flash (FlashAttention-2) reaches about 0.57 of cuDNN's rate."""


GPU_DTYPES = (torch.bfloat16, torch.float16)


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The kernel that a run uses, and why a better one was passed over."""

    kernel: Kernel
    passed_over: tuple[str, ...] = ()
    """One line for each faster kernel that this machine cannot run."""


def choose_kernel(device: torch.device, dtype: torch.dtype, *, heads: int, kv_heads: int, head_dim: int) -> Choice:
    """The fastest kernel that runs forward and backward here, tried on one small block with grouped heads.

    Raises RuntimeError with every kernel's reason where none runs, and for float32 on a GPU: cuDNN takes it and
    gives NaN. Raises torch.OutOfMemoryError where the block finds no memory.
    """
    if device.type == "cpu":
        return Choice(kernel=CPU)
    if dtype not in GPU_DTYPES:
        raise RuntimeError(f"no attention kernel of a GPU computes in {dtype}; use bf16: true")
    reasons: list[str] = []
    for kernel in CUDA_PREFERENCE:
        try:
            _try_block(kernel, device, dtype, heads, kv_heads, head_dim)
        except torch.OutOfMemoryError:  # a full GPU says nothing of the kernel
            raise
        except RuntimeError as error:
            reasons.append(f"{kernel.name} does not run here: {str(error).splitlines()[0]}")
        else:
            return Choice(kernel=kernel, passed_over=tuple(reasons))
    raise RuntimeError(f"no attention kernel runs {dtype} heads of {head_dim} on {device}: " + "; ".join(reasons))


def _try_block(
    kernel: Kernel, device: torch.device, dtype: torch.dtype, heads: int, kv_heads: int, head_dim: int
) -> None:
    q = torch.ones(1, 256, heads, head_dim, device=device, dtype=dtype)
    kv = torch.ones(1, 256, kv_heads, head_dim, device=device, dtype=dtype)
    out, lse = kernel.forward(q, kv, kv, True)
    kernel.backward(out, q, kv, kv, out, lse, True)
    torch.cuda.synchronize(device)
