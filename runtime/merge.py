"""Partial attention results become one: weights from their log-sum-exps, computed in float32, in place."""

import torch
import torch.nn.functional as F
from torch import Tensor


def merge_(out_BSHD: Tensor, lse_BHS: Tensor, block_out_BSHD: Tensor, block_lse_BHS: Tensor) -> None:
    """Fold a block's normalised output into the running one, in place.

    out gets sigmoid(block_lse - lse) of the block and the rest of itself; lse becomes log(e^lse + e^block_lse) =
    lse - logsigmoid(lse - block_lse), which never overflows. Computed in float32, rounded to out's dtype at the end.
    """
    if out_BSHD.is_cuda:
        from runtime import merge_on_gpu

        merge_on_gpu.merge_(out_BSHD, lse_BHS, block_out_BSHD, block_lse_BHS)
        return
    # [B, H, S] -> [B, S, H, 1]
    weight = torch.sigmoid(block_lse_BHS - lse_BHS).transpose(1, 2).unsqueeze(-1)
    running = out_BSHD.float()
    out_BSHD.copy_(running - weight * (running - block_out_BSHD))
    lse_BHS.sub_(F.logsigmoid(lse_BHS - block_lse_BHS))
