import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch.distributed.device_mesh import DeviceMesh
from torch.nn.attention import SDPBackend

from runtime import zigzag
from runtime.bench import torch_peer
from runtime.bench.launch import Ranks


def test_a_cpu_has_one_peer_that_says_why_it_does_not_run():
    ranks = Ranks(rank=0, size=2, device=torch.device("cpu"), group=None, control=None)
    (peer,) = torch_peer.peers(ranks, heads=4, kv_heads=2)
    assert peer.skipped == "torch's context_parallel does not run on a CPU"


def inside_the_context(rank, world):
    from torch.distributed.tensor.experimental import context_parallel
    from torch.distributed.tensor.experimental._attention import _cp_options

    mesh = DeviceMesh.from_group(dist.group.WORLD, "cpu", mesh_dim_names=("cp",))
    outside = F.scaled_dot_product_attention
    seen = []
    for rotation in torch_peer.ROTATIONS:
        with torch_peer._context_parallel(mesh, rotation, SDPBackend.FLASH_ATTENTION):
            assert F.scaled_dot_product_attention is not outside
            assert torch.is_grad_enabled()
            seen.append(_cp_options.rotate_method.name)
        assert F.scaled_dot_product_attention is outside
    whole = torch.arange(8.0 * world)[None]
    buffer = whole.clone()
    with context_parallel(mesh, buffers=[buffer], buffer_seq_dims=[1], no_restore_buffers={buffer}):
        same_order = torch.equal(buffer, zigzag.shard(whole, rank=rank, cp=world, dim=1))
    return seen, same_order


def test_torchs_context_opens_with_either_rotation_and_cuts_a_sequence_as_we_do(gloo_pool):
    assert gloo_pool.run(2, inside_the_context) == [(["ALL_GATHER", "ALL_TO_ALL"], True)] * 2


def test_grouped_heads_come_first_and_repeated_ones_stand_in():
    grouped = torch_peer._peer(None, "allgather", "cudnn", repeats=4)
    assert grouped.notes == {"kv_heads": "enable_gqa"}
    assert grouped.fallback.notes == {"kv_heads": "repeated"}
    assert grouped.fallback.name == grouped.name == "peer torch allgather cudnn"
    q, kv = torch.randn(1, 8, 16, 4), torch.randn(1, 2, 16, 4)
    torch.testing.assert_close(grouped.attend(q, kv, kv), grouped.fallback.attend(q, kv, kv))
    assert torch_peer._peer(None, "alltoall", "flash", repeats=1).fallback is None
