"""The ways to compute one row: the trainer's own by method and kernel, and each kernel alone on the whole sequence.

Shapes: B batch, S local sequence, H query heads, G key/value heads, D head size.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from runtime.attention import AttentionPlace, attend
from runtime.bench.shape import HEAD_DIM
from runtime.kernel_choice import KERNELS
from runtime.kernels import CPU, Kernel

METHODS = ("ring", "allgather", "ulysses")
"""The ways of the trainer to share a sequence that need no second axis."""
TRIED_TOKENS = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One way to compute a row."""

    role: str
    """`ideal` (one GPU alone, its time over the ranks), `peer` (torch's own) or `ours`."""
    method: str
    kernel: str
    attend: Callable[[Tensor, Tensor, Tensor], Tensor]
    """(q, k, v) -> out, all in the layout that `heads_first` tells."""
    context: Callable[[], AbstractContextManager[Any]] = nullcontext
    """Open around all of its calls."""
    heads_first: bool = False
    """Tensors are [B, H, S, D] in memory, not [B, S, H, D]."""
    notes: Mapping[str, str] = field(default_factory=dict)
    skipped: str | None = None
    """Why it cannot run here."""
    fallback: "Variant | None" = None
    """What stands in for it where it does not run or is wrong."""

    @property
    def name(self) -> str:
        """Unique within a row."""
        return f"{self.role} {self.method} {self.kernel}"

    @property
    def is_whole(self) -> bool:
        """Whether each rank computes the whole sequence alone and exchanges nothing."""
        return self.role == "ideal"


class _Alone(torch.autograd.Function):
    """A kernel on the whole sequence with nothing around it."""

    @staticmethod
    def forward(ctx: Any, q_BSHD: Tensor, k_BSGD: Tensor, v_BSGD: Tensor, kernel: Kernel) -> Tensor:
        out, lse = kernel.forward(q_BSHD, k_BSGD, v_BSGD, True)
        ctx.save_for_backward(q_BSHD, k_BSGD, v_BSGD, out, lse)
        ctx.kernel = kernel
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return *ctx.kernel.backward(grads[0], *ctx.saved_tensors, True), None


def _alone(q_BSHD: Tensor, k_BSGD: Tensor, v_BSGD: Tensor, kernel: Kernel) -> Tensor:
    return _Alone.apply(q_BSHD, k_BSGD, v_BSGD, kernel)  # pyright: ignore[reportReturnType]


def _ours(q_BSHD: Tensor, k_BSGD: Tensor, v_BSGD: Tensor, place: AttentionPlace) -> Tensor:
    return attend(q_BSHD, k_BSGD, v_BSGD, None, place)[0]


def kernel_names(device: str) -> tuple[str, ...]:
    """The trainer's kernels for a kind of device, `cuda` or `cpu`."""
    return tuple(name for name in KERNELS if (name == CPU.name) == (device == "cpu"))


def own(kernels: Mapping[str, str | None], methods: Sequence[str], group_name: str) -> list[Variant]:
    """Each kernel alone, then each method with each kernel; `kernels` gives the reason of one that does not run."""
    ideals = [
        Variant(
            role="ideal", method="one rank", kernel=name, attend=partial(_alone, kernel=KERNELS[name]), skipped=reason
        )
        for name, reason in kernels.items()
    ]
    places = [_place(method, name, group_name) for method in methods for name in kernels]
    ours = [
        Variant(
            role="ours",
            method=place.method,
            kernel=place.kernel,
            attend=partial(_ours, place=place),
            skipped=kernels[place.kernel],
        )
        for place in places
    ]
    return [*ideals, *ours]


def _place(method: str, kernel: str, group_name: str) -> AttentionPlace:
    if method == "ulysses":
        return AttentionPlace(method=method, kernel=kernel, heads_group=group_name)
    return AttentionPlace(method=method, kernel=kernel, kv_group=group_name)


def reason_not(name: str, device: torch.device, dtype: torch.dtype, *, heads: int, kv_heads: int) -> str | None:
    """Why a kernel does not run forward and backward here, tried on a small block; None where it does."""
    q, dout = (torch.randn(1, TRIED_TOKENS, heads, HEAD_DIM, device=device, dtype=dtype) for _ in range(2))
    k, v = (torch.randn(1, TRIED_TOKENS, kv_heads, HEAD_DIM, device=device, dtype=dtype) for _ in range(2))
    kernel = KERNELS[name]
    try:
        out, lse = kernel.forward(q, k, v, True)
        kernel.backward(dout, q, k, v, out, lse, True)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
    except Exception as error:  # a package that a kernel comes from fails in its own ways
        return f"does not run: {first_line(error)}"
    return None


def first_line(error: BaseException) -> str:
    """What an error says, without the pages below."""
    said = str(error).strip().splitlines()
    return f"{type(error).__name__}: {said[0]}" if said else type(error).__name__
