import torch
import torch.distributed as dist

from runtime import zigzag
from runtime.bench.inputs import draw
from runtime.bench.launch import Ranks
from runtime.bench.shape import Shape
from runtime.bench.variants import Variant

SHAPE = Shape(tokens=32, heads=4, kv_heads=2, ranks=2, head_dim=8)


def drawn(rank, world):
    group = dist.group.WORLD
    inputs = draw(SHAPE, Ranks(rank=rank, size=world, device=torch.device("cpu"), group=group, control=group))
    variant = {"role": "ours", "method": "ring", "kernel": "cpu", "attend": None}
    assert inputs.of(Variant(**variant)) is inputs.share
    assert inputs.of(Variant(**variant, heads_first=True)) is inputs.share_heads_first
    assert inputs.of(Variant(**{**variant, "role": "ideal"})) is inputs.whole
    assert all(tensor.requires_grad for tensor in inputs.share_heads_first.qkv)
    kinds = (inputs.whole, inputs.share, inputs.share_heads_first)
    return [[tensor.detach() for tensor in (*kind.qkv, kind.dout)] for kind in kinds]


def test_every_rank_draws_the_same_whole_and_its_own_share_of_it(gloo_pool):
    (whole, *first), (again, *second) = gloo_pool.run(2, drawn)
    for index, tensor in enumerate(whole):
        assert torch.equal(tensor, again[index])
        assert tensor.std() > 0.5, "random, not zeros"
        shares, heads_first = zip(first, second, strict=True)
        assert torch.equal(zigzag.unshard([share[index] for share in shares], dim=1), tensor)
        assert torch.equal(zigzag.unshard([share[index] for share in heads_first], dim=2), tensor.transpose(1, 2))
        assert heads_first[0][index].is_contiguous()
