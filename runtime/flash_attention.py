"""The attention kernels of the flash-attn packages, each of use where its package is installed and its GPU fits.

Their inner functions are called, since they alone take a log-sum-exp from outside
in backward. Those change between releases: what a call hands over is matched by
name with what the function takes, and runtime.kernel_choice checks the numbers of
a kernel before it is used (those of its dense blocks). Shapes as in runtime.kernels.
"""

import importlib
import inspect
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor

from runtime.kernels import Cuts, Kernel, cumulative, longest

FLASH_ATTN_4_MODULE = "flash_attn.cute.interface"
FLASH_ATTN_3_MODULE = "flash_attn_interface"
FLASH_ATTN_2_MODULE = "flash_attn.flash_attn_interface"

_PLAIN: dict[str, object] = {
    "dropout_p": 0.0,
    "window_size_left": -1,
    "window_size_right": -1,
    "window_size": (-1, -1),
    "softcap": 0.0,
    "alibi_slopes": None,
    "return_softmax": False,
    "deterministic": False,
}
"""What the functions of versions 2 and 3 want to be told: that nothing out of the ordinary is asked for."""


class _Function:
    """A function of a package, called with what this release of it takes."""

    def __init__(self, module: str, name: str) -> None:
        self._plain: Callable[..., Any] = getattr(importlib.import_module(module), name)
        # torch.library.custom_op hides the signature behind (*args, **kwargs); it keeps the function that it was given.
        parameters = inspect.signature(getattr(self._plain, "_init_fn", self._plain)).parameters
        self._names = frozenset(parameters)
        self._defaults = {name: None for name, p in parameters.items() if p.default is inspect.Parameter.empty}

    def __call__(self, **values: object) -> Any:
        if values.keys() <= self._names and self._defaults.keys() <= values.keys():
            return self._plain(**values)
        known = {name: value for name, value in values.items() if name in self._names}
        return self._plain(**self._defaults | known)


_function = cache(_Function)


def _documents(cuts: Cuts, key_cuts: Cuts, device: torch.device) -> dict[str, object]:
    if not cuts:
        return {}
    of_keys = key_cuts or cuts
    return {
        "cu_seqlens_q": cumulative(cuts, device),
        "cu_seqlens_k": cumulative(of_keys, device),
        "max_seqlen_q": longest(cuts),
        "max_seqlen_k": longest(of_keys),
    }


def _forward_4(
    q: Tensor, k: Tensor, v: Tensor, causal: bool, cuts: Cuts = (), key_cuts: Cuts = ()
) -> tuple[Tensor, Tensor]:
    forward = _function(FLASH_ATTN_4_MODULE, "_flash_attn_fwd")
    out, lse, *_ = forward(q=q, k=k, v=v, causal=causal, return_lse=True, **_documents(cuts, key_cuts, q.device))
    return out, lse


def _backward_4(
    dout: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    lse: Tensor,
    causal: bool,
    cuts: Cuts = (),
    key_cuts: Cuts = (),
) -> tuple[Tensor, Tensor, Tensor]:
    tensors = {"q": q, "k": k, "v": v, "out": out, "dout": dout, "lse": lse.contiguous()}
    backward = _function(FLASH_ATTN_4_MODULE, "_flash_attn_bwd")
    dq, dk, dv, *_ = backward(**tensors, causal=causal, **_documents(cuts, key_cuts, q.device))
    return dq, dk, dv


def _forward_2_or_3(
    module: str, name: str, q: Tensor, k: Tensor, v: Tensor, causal: bool, cuts: Cuts = (), key_cuts: Cuts = ()
) -> tuple[Tensor, Tensor]:
    options = {**_PLAIN, "softmax_scale": q.shape[-1] ** -0.5, "causal": causal, **_documents(cuts, key_cuts, q.device)}
    out, lse, *_ = _function(module, name)(q=q, k=k, v=v, **options)
    return out, lse


def _backward_2_or_3(
    module: str,
    name: str,
    dout: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    lse: Tensor,
    causal: bool,
    cuts: Cuts = (),
    key_cuts: Cuts = (),
) -> tuple[Tensor, Tensor, Tensor]:
    dq, dk, dv = (torch.empty_like(tensor).contiguous() for tensor in (q, k, v))
    options = {**_PLAIN, "softmax_scale": q.shape[-1] ** -0.5, "causal": causal, "is_causal": causal}
    tensors = {"dout": dout, "q": q, "k": k, "v": v, "out": out, "softmax_lse": lse.contiguous()}
    _function(module, name)(**tensors, dq=dq, dk=dk, dv=dv, **options, **_documents(cuts, key_cuts, q.device))
    return dq, dk, dv


def _packed_forward(
    forward: Callable[..., Any], q: Tensor, k: Tensor, v: Tensor, cuts: Cuts, key_cuts: Cuts = ()
) -> Any:
    return forward(q, k, v, True, cuts, key_cuts)


def _packed_backward(
    backward: Callable[..., Any],
    dout: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    lse: Tensor,
    cuts: Cuts,
    key_cuts: Cuts = (),
) -> Any:
    return backward(dout, q, k, v, out, lse, True, cuts, key_cuts)


def _kernel(name: str, forwards: tuple[Callable[..., Any], ...], backwards: tuple[Callable[..., Any], ...]) -> Kernel:
    """A kernel from (dense, packed) functions of either pass."""
    return Kernel(
        name=name,
        block_forward=forwards[0],
        block_backward=backwards[0],
        packed_forward=partial(_packed_forward, forwards[1]),
        packed_backward=partial(_packed_backward, backwards[1]),
    )


def _functions_2_or_3(module: str, *names: str) -> tuple[Callable[..., Any], ...]:
    whose = _backward_2_or_3 if "backward" in names[0] else _forward_2_or_3
    return tuple(partial(whose, module, name) for name in names)


FLASH_ATTN_4 = _kernel("flash_attn_4", (_forward_4, _forward_4), (_backward_4, _backward_4))
FLASH_ATTN_3 = _kernel(
    "flash_attn_3",
    _functions_2_or_3(FLASH_ATTN_3_MODULE, "_flash_attn_forward", "_flash_attn_forward"),
    _functions_2_or_3(FLASH_ATTN_3_MODULE, "_flash_attn_backward", "_flash_attn_backward"),
)
FLASH_ATTN_2 = _kernel(
    "flash_attn_2",
    _functions_2_or_3(FLASH_ATTN_2_MODULE, "_flash_attn_forward", "_flash_attn_varlen_forward"),
    _functions_2_or_3(FLASH_ATTN_2_MODULE, "_flash_attn_backward", "_flash_attn_varlen_backward"),
)
