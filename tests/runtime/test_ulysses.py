import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from runtime import zigzag
from runtime.heads import exchanges
from runtime.ulysses import HeadExchange

CPU = torch.device("cpu")
BATCH, HEAD_DIM = 2, 3
HEADS = [(heads, kv_heads) for heads in (1, 2, 4, 6, 8, 12) for kv_heads in (1, 2, 3, 4, 6, 8) if heads % kv_heads == 0]


def allowed(world: int) -> list[tuple[int, int]]:
    return [(heads, kv_heads) for heads, kv_heads in HEADS if exchanges(heads, kv_heads, world)]


def numbered(tokens: int, heads: int, last: int = HEAD_DIM) -> Tensor:
    """[B, S, H, D] of a whole sequence, every number a different one."""
    shape = (BATCH, tokens, heads, last)
    return torch.arange(torch.Size(shape).numel(), dtype=torch.float32).view(shape)


def test_the_rule_allows_heads_that_divide_and_kv_heads_that_divide_or_repeat_evenly() -> None:
    assert allowed(2) == [
        *[(2, 1), (2, 2), (4, 1), (4, 2), (4, 4), (6, 1), (6, 2), (6, 6)],
        *[(8, 1), (8, 2), (8, 4), (8, 8), (12, 1), (12, 2), (12, 4), (12, 6)],
    ]
    assert allowed(4) == [(4, 1), (4, 2), (4, 4), (8, 1), (8, 2), (8, 4), (8, 8), (12, 1), (12, 2), (12, 4)]


def gathered_shares(rank: int, world: int, tokens: int) -> list[tuple[Tensor, Tensor]]:
    exchange = HeadExchange(dist.group.WORLD, CPU)
    results = []
    for heads, kv_heads in allowed(world):
        wholes = numbered(tokens, heads), numbered(tokens, kv_heads)
        q, k = exchange.gather(*(zigzag.shard(whole, rank=rank, cp=world, dim=1) for whole in wholes))
        results.append((q, k))
    return results


@pytest.mark.parametrize("world", [2, 4])
def test_each_rank_gathers_all_tokens_in_order_for_its_heads_and_the_kv_head_that_they_use(gloo_pool, world) -> None:
    tokens = 4 * world
    for rank, results in enumerate(gloo_pool.run(world, gathered_shares, tokens)):
        for (heads, kv_heads), (q, k) in zip(allowed(world), results, strict=True):
            own = range(rank * heads // world, (rank + 1) * heads // world)
            assert torch.equal(q, numbered(tokens, heads)[:, :, list(own)]), f"{heads}:{kv_heads} heads"
            # Query head h uses K/V head h / (heads / kv_heads).
            used = sorted({head // (heads // kv_heads) for head in own})
            assert torch.equal(k, numbered(tokens, kv_heads)[:, :, used]), f"{heads}:{kv_heads} heads"


def there_and_back(rank: int, world: int, tokens: int) -> list[list[Tensor]]:
    exchange = HeadExchange(dist.group.WORLD, CPU)
    results = []
    for heads, kv_heads in allowed(world):
        q, k, lse = (
            zigzag.shard(whole, rank=rank, cp=world, dim=1)
            for whole in (numbered(tokens, heads), numbered(tokens, kv_heads), numbered(tokens, heads, last=1))
        )
        q_part, k_part, lse_part = exchange.gather(q, k, lse)
        results.append(exchange.scatter((q_part, heads), (k_part, kv_heads), (lse_part, heads)))
    return results


@pytest.mark.parametrize("world", [2, 4])
def test_gather_then_scatter_is_the_identity_and_a_kv_head_comes_back_once_for_each_rank_that_had_it(
    gloo_pool, world
) -> None:
    tokens = 4 * world
    for rank, results in enumerate(gloo_pool.run(world, there_and_back, tokens)):
        for (heads, kv_heads), (q, k, lse) in zip(allowed(world), results, strict=True):
            mine = [
                zigzag.shard(whole, rank=rank, cp=world, dim=1)
                for whole in (numbered(tokens, heads), numbered(tokens, kv_heads), numbered(tokens, heads, last=1))
            ]
            assert torch.equal(q, mine[0]), f"{heads}:{kv_heads} heads"
            assert torch.equal(k, max(world // kv_heads, 1) * mine[1]), f"{heads}:{kv_heads} heads"
            assert torch.equal(lse, mine[2]), f"{heads}:{kv_heads} heads"


def summed(rank: int, world: int, kv_heads: int) -> Tensor:
    exchange = HeadExchange(dist.group.WORLD, CPU)
    # The first of the ranks that share a head has 256, the others 1: in bfloat16 256 + 1 is 256 again.
    first = rank % (world // kv_heads) == 0
    gradient = torch.full((1, 2 * world, 1, 2), 256.0 if first else 1.0, dtype=torch.bfloat16)
    (home,) = exchange.scatter((gradient, kv_heads))
    return home


@pytest.mark.parametrize(
    ("world", "kv_heads", "total"),
    [
        (4, 1, 260.0),  # 259 lies between 258 and 260, and goes to the even significand
        (4, 2, 256.0),  # 257 lies between 256 and 258
        (2, 1, 256.0),
    ],
)
def test_gradients_of_a_shared_kv_head_are_summed_in_float32_and_rounded_once(
    gloo_pool, world, kv_heads, total
) -> None:
    for home in gloo_pool.run(world, summed, kv_heads):
        assert home.dtype == torch.bfloat16 and tuple(home.shape) == (1, 2, kv_heads, 2)
        assert set(home.flatten().tolist()) == {total}


def pairs_of_a_ring(rank: int, world: int, tokens: int) -> Tensor:
    """Four ranks as a ring of two pairs, each pair of adjacent ranks exchanging heads: what a rank gathers."""
    pairs = [dist.new_group([first, first + 1]) for first in range(0, world, 2)]
    share = zigzag.shard(numbered(tokens, 2), rank=rank, cp=world, dim=1)
    (gathered,) = HeadExchange(pairs[rank // 2], CPU).gather(share)
    return gathered


def test_shares_of_adjacent_ranks_join_to_the_zigzag_share_of_the_ring_of_pairs(gloo_pool) -> None:
    for rank, gathered in enumerate(gloo_pool.run(4, pairs_of_a_ring, 16)):
        expected = zigzag.shard(numbered(16, 2), rank=rank // 2, cp=2, dim=1)
        assert torch.equal(gathered, expected[:, :, [rank % 2]])
    # Chunks of 2 tokens: ranks 0 and 1 hold 0, 7 and 1, 6, together 0-3 and 12-15.
    assert zigzag.positions(0, 2, 16).tolist() == [0, 1, 2, 3, 12, 13, 14, 15]
