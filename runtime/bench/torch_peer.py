"""The peer: torch's own context_parallel, with each of its kernels and both ways of moving K and V.

It replaces F.scaled_dot_product_attention while its context is open, forward and backward, and takes local shares of
queries and keys [B, H, S/P, D] in the order of runtime.zigzag. It asks for a buffer to shard, so it gets a small one.
Which rotation is in use is one global setting of torch.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh
from torch.nn.attention import SDPBackend, sdpa_kernel

from runtime.bench.launch import Ranks
from runtime.bench.variants import Variant

ROTATIONS = ("allgather", "alltoall")
KERNELS = {"cudnn": SDPBackend.CUDNN_ATTENTION, "flash": SDPBackend.FLASH_ATTENTION}
NO_CPU = "torch's context_parallel does not run on a CPU"


def peers(ranks: Ranks, *, heads: int, kv_heads: int) -> list[Variant]:
    """Every rotation with every kernel; on a CPU one variant that says why there is none."""
    if ranks.device.type == "cpu":
        return [Variant(role="peer", method="torch", kernel="–", attend=_attend_grouped, skipped=NO_CPU)]
    mesh = DeviceMesh.from_group(ranks.group, "cuda", mesh_dim_names=("cp",))
    return [_peer(mesh, rotation, kernel, repeats=heads // kv_heads) for kernel in KERNELS for rotation in ROTATIONS]


def _peer(mesh: DeviceMesh, rotation: str, kernel: str, *, repeats: int) -> Variant:
    """With grouped heads as they are, and repeated ones to stand in for them."""
    shared = {
        "role": "peer",
        "method": f"torch {rotation}",
        "kernel": kernel,
        "context": partial(_context_parallel, mesh, rotation, KERNELS[kernel]),
        "heads_first": True,
    }
    if repeats == 1:
        return Variant(**shared, attend=_attend, notes={"kv_heads": "as many as query heads"})
    repeated = Variant(**shared, attend=partial(_attend_repeated, repeats=repeats), notes={"kv_heads": "repeated"})
    return Variant(**shared, attend=_attend_grouped, notes={"kv_heads": "enable_gqa"}, fallback=repeated)


@contextmanager
def _context_parallel(mesh: DeviceMesh, rotation: str, kernel: SDPBackend) -> Iterator[None]:
    from torch.distributed.tensor.experimental import context_parallel
    from torch.distributed.tensor.experimental._attention import set_rotate_method

    set_rotate_method(rotation)
    buffer = torch.zeros(1, 2 * mesh.size(), device=mesh.device_type)
    sharded = context_parallel(mesh, buffers=[buffer], buffer_seq_dims=[1], no_restore_buffers={buffer})
    with sharded, sdpa_kernel(kernel):
        yield


# By attribute at every call, as torch puts its own function there.
def _attend(q_BHSD: Tensor, k_BGSD: Tensor, v_BGSD: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q_BHSD, k_BGSD, v_BGSD, is_causal=True)


def _attend_grouped(q_BHSD: Tensor, k_BGSD: Tensor, v_BGSD: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q_BHSD, k_BGSD, v_BGSD, is_causal=True, enable_gqa=True)


def _attend_repeated(q_BHSD: Tensor, k_BGSD: Tensor, v_BGSD: Tensor, *, repeats: int) -> Tensor:
    # [B, G, S, D] -> [B, H, S, D]
    k, v = (tensor.repeat_interleave(repeats, dim=1) for tensor in (k_BGSD, v_BGSD))
    return F.scaled_dot_product_attention(q_BHSD, k, v, is_causal=True)
