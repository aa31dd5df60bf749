"""What blocks add up to: the output of the local queries in forward, the gradients of all in backward.

The loops of the methods (ring, allgather) bring keys and say which blocks meet;
here the kernels run and their results are summed in float32. Shapes: B batch,
S local queries, T keys, H query heads, G key/value heads, D head size.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from runtime import blocks
from runtime.blocks import Block, Place
from runtime.kernels import Cuts, Kernel
from runtime.merge import merge_


class Output:
    """Running output and log-sum-exp of the local queries; begins with their own share's keys."""

    def __init__(self, q_BSHD: Tensor, k_BSGD: Tensor, v_BSGD: Tensor, place: Place, kernel: Kernel) -> None:
        self._q, self._kernel = q_BSHD, kernel
        out, lse = kernel.forward(q_BSHD, k_BSGD, v_BSGD, True, blocks.cuts(place))
        # Merged once, an output is rounded once: only a second merge needs it wider than the kernel gave it.
        self._out = (out.float() if place.blocks_overlap else out).contiguous()
        self._lse_BHS = lse.contiguous()
        self.add(blocks.own(place), k_BSGD, v_BSGD)

    def add(self, met: Iterable[Block], k_BTGD: Tensor, v_BTGD: Tensor) -> None:
        """Fold in the blocks of some queries and these keys."""
        for block in met:
            queries, keys = block.queries, block.keys
            part = self._kernel.forward(self._q[:, queries], k_BTGD[:, keys], v_BTGD[:, keys], False)
            merge_(self._out[:, queries], self._lse_BHS[:, :, queries], *part)

    def result(self) -> tuple[Tensor, Tensor]:
        """out [B, S, H, D] in q's dtype, log-sum-exp [B, H, S] in float32."""
        return self._out.to(self._q.dtype), self._lse_BHS


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What the backward of any block needs of its queries: their final output and log-sum-exp among it."""

    dout: Tensor
    """[B, S, H, D], as q and out are."""
    q: Tensor
    out: Tensor
    lse: Tensor
    """[B, H, S], float32."""

    def backward(
        self, queries: slice, k_BTGD: Tensor, v_BTGD: Tensor, kernel: Kernel, *, causal: bool, cuts: Cuts = ()
    ) -> tuple[Tensor, Tensor, Tensor]:
        """dq, dk, dv of a block."""
        dout, q, out = (tensor[:, queries] for tensor in (self.dout, self.q, self.out))
        return kernel.backward(dout, q, k_BTGD, v_BTGD, out, self.lse[:, :, queries], causal, cuts)


class Gradients:
    """Running gradients of the local q, k, v; begins with the share against itself."""

    def __init__(self, given: Given, k_BSGD: Tensor, v_BSGD: Tensor, place: Place, kernel: Kernel) -> None:
        self._given, self._kernel = given, kernel
        self._dtypes = given.q.dtype, k_BSGD.dtype, v_BSGD.dtype
        self._disjoint = place.documents is None
        grads = given.backward(slice(None), k_BSGD, v_BSGD, kernel, causal=True, cuts=blocks.cuts(place))
        # Two addends need no wider sum: torch adds them in float32 and rounds once.
        self.dq, self.dk, self.dv = (grad.float() if place.blocks_overlap else grad for grad in grads)
        self._add(blocks.own(place), k_BSGD, v_BSGD, self.dk, self.dv)

    def of(self, met: Iterable[Block], k_BTGD: Tensor, v_BTGD: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients of another rank's keys and values, in their dtype; the part of dq is added."""
        met = tuple(met)
        if len(met) == 1 and met[0].keys == slice(0, k_BTGD.shape[1]):
            dq, dk, dv = self._given.backward(met[0].queries, k_BTGD, v_BTGD, self._kernel, causal=False)
            self.dq[:, met[0].queries] += dq
            return dk, dv
        wide = k_BTGD.dtype if self._disjoint else torch.float32
        dk, dv = (torch.zeros_like(tensor, dtype=wide) for tensor in (k_BTGD, v_BTGD))
        self._add(met, k_BTGD, v_BTGD, dk, dv)
        return dk.to(k_BTGD.dtype), dv.to(v_BTGD.dtype)

    def add_home(self, dk: Tensor, dv: Tensor) -> None:
        """Gradients of the own keys and values that another rank computed: of all, or of the early chunk."""
        self.dk[:, : dk.shape[1]] += dk
        self.dv[:, : dv.shape[1]] += dv

    def result(self) -> tuple[Tensor, Tensor, Tensor]:
        """dq, dk, dv in the dtypes of q, k, v."""
        dq, dk, dv = (grad.to(dtype) for grad, dtype in zip((self.dq, self.dk, self.dv), self._dtypes, strict=True))
        return dq, dk, dv

    def _add(self, met: Iterable[Block], k: Tensor, v: Tensor, dk: Tensor, dv: Tensor) -> None:
        for block in met:
            queries, keys = block.queries, block.keys
            parts = self._given.backward(queries, k[:, keys], v[:, keys], self._kernel, causal=False)
            self.dq[:, queries] += parts[0]
            dk[:, keys] += parts[1]
            dv[:, keys] += parts[2]
