"""Attention of a rank's queries in one kernel: each span of them against its document's keys, from the first on.

Once K and V of the whole sequence lie here, a kernel of packed documents computes
all that a rank has to: its early chunk is one document of queries, its late chunk
another, each with all keys up to its end (or, with packed documents, from the
beginning of its own). Keys that two spans share are laid out twice. No partial
results are merged, and a pass is one call, whatever the number of ranks. Shapes: B
batch, S local queries, T keys of the whole sequence, N and M queries and keys one
after the other.
"""

from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor

from runtime import blocks
from runtime.blocks import Place
from runtime.kernels import Kernel
from runtime.partial import Given


class Spans:
    """The spans of a rank, for every sequence of a batch."""

    def __init__(self, place: Place, k_BTGD: Tensor, v_BTGD: Tensor, kernel: Kernel) -> None:
        assert kernel.packed_forward is not None and kernel.packed_backward is not None, f"{kernel.name} packs nothing"
        self._forward, self._backward = kernel.packed_forward, kernel.packed_backward
        met = list(blocks.spans(place))
        self._keys = [(row, block.keys) for row in range(k_BTGD.shape[0]) for block in met]
        self._cuts = _cuts([block.queries for block in met] * k_BTGD.shape[0])
        self._key_cuts = _cuts([keys for _, keys in self._keys])
        self._shape = k_BTGD.shape
        self._k_MGD, self._v_MGD = (self._laid_out(tensor) for tensor in (k_BTGD, v_BTGD))

    def forward(self, q_BSHD: Tensor) -> tuple[Tensor, Tensor]:
        """out [B, S, H, D] and log-sum-exp [B, H, S]."""
        out_NHD, lse_HN = self._forward(q_BSHD.flatten(0, 1), self._k_MGD, self._v_MGD, self._cuts, self._key_cuts)
        # [H, B S] -> [B, H, S]
        lse_BHS = lse_HN.unflatten(1, q_BSHD.shape[:2]).transpose(0, 1).contiguous()
        return out_NHD.view(q_BSHD.shape), lse_BHS

    def backward(self, given: Given) -> tuple[Tensor, Tensor, Tensor]:
        """dq [B, S, H, D]; dk and dv of the whole sequence, [B, T, G, D], summed in float32."""
        dout, q, out = (tensor.flatten(0, 1) for tensor in (given.dout, given.q, given.out))
        lse_HN = given.lse.transpose(0, 1).flatten(1, 2)
        dq, dk_MGD, dv_MGD = self._backward(dout, q, self._k_MGD, self._v_MGD, out, lse_HN, self._cuts, self._key_cuts)
        return dq.view(given.q.shape), self._summed(dk_MGD), self._summed(dv_MGD)

    def _laid_out(self, keys_BTGD: Tensor) -> Tensor:
        return torch.cat([keys_BTGD[row, keys] for row, keys in self._keys])

    def _summed(self, grads_MGD: Tensor) -> Tensor:
        whole = torch.zeros(self._shape, dtype=torch.float32, device=grads_MGD.device)
        lengths = [keys.stop - keys.start for _, keys in self._keys]
        for (row, keys), grads in zip(self._keys, grads_MGD.split(lengths), strict=True):
            whole[row, keys] += grads
        return whole


def _cuts(spans: Sequence[slice]) -> tuple[int, ...]:
    """Where spans of these lengths end when they lie one after the other, 0 first."""
    return tuple(accumulate((span.stop - span.start for span in spans), initial=0))
