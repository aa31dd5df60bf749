import time

import pytest
import torch
import torch.distributed as dist

from runtime.bench import timing
from runtime.bench.inputs import draw
from runtime.bench.launch import RankError, Ranks
from runtime.bench.shape import Shape
from runtime.bench.variants import Variant

CPU = torch.device("cpu")
SHORTAGE = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


class Counting:
    """Attention of a kind that counts its forward and backward calls and takes 5 ms forward."""

    def __init__(self):
        self.calls = {"forward": 0, "backward": 0, "graphs": 0}

    def __call__(self, q, k, v):
        time.sleep(5e-3)
        self.calls["forward"] += 1
        out = q * 2 + (k + v).sum()
        if out.requires_grad:
            self.calls["graphs"] += 1
            out.register_hook(self.count)
        return out

    def count(self, grad):
        self.calls["backward"] += 1


def variant(attend, role="ours"):
    return Variant(role=role, method="ring", kernel="cpu", attend=attend)


def inputs(ranks=None):
    ranks = ranks or Ranks(rank=0, size=1, device=CPU, group=None, control=None)
    return draw(Shape(tokens=8, heads=2, kv_heads=2, ranks=ranks.size, head_dim=4), ranks).share


@pytest.mark.parametrize(
    ("one_pass", "calls"),
    [
        ("forward", {"forward": 4, "backward": 0, "graphs": 0}),
        ("backward", {"forward": 1, "backward": 4, "graphs": 1}),
        ("both", {"forward": 4, "backward": 4, "graphs": 4}),
    ],
)
def test_a_pass_is_timed_call_by_call_and_backward_walks_one_kept_graph(one_pass, calls):
    attend = Counting()
    seconds = timing.turn(one_pass, variant(attend), inputs(), CPU, repeats=3, lead_in=1)
    assert len(seconds) == 3
    assert attend.calls == calls
    assert all(second >= 5e-3 for second in seconds) == (one_pass != "backward")


def test_warming_up_calls_both_passes_and_forward_alone_and_a_cpu_counts_no_bytes():
    attend = Counting()
    assert timing.warm(variant(attend), inputs(), CPU, 3) is None
    assert attend.calls == {"forward": 4, "backward": 3, "graphs": 3}


def short_ranks(rank, world, short, role):
    group = dist.group.WORLD
    ranks = Ranks(rank=rank, size=world, device=CPU, group=group, control=group)

    def work():
        if rank in short:
            raise SHORTAGE
        return rank

    try:
        return timing.together(ranks, variant(None, role), work)
    except (timing.ShortageError, RankError) as error:
        return f"{type(error).__name__}: {error}"


def test_ranks_tell_each_other_what_they_found_and_that_no_gpu_had_memory(gloo_pool):
    assert gloo_pool.run(2, short_ranks, (), "ours") == [[0, 1], [0, 1]]
    assert gloo_pool.run(2, short_ranks, (0, 1), "ours") == ["ShortageError: "] * 2
    assert gloo_pool.run(2, short_ranks, (1,), "ideal") == ["ShortageError: "] * 2
    (said, again) = gloo_pool.run(2, short_ranks, (1,), "ours")
    assert said == again
    assert said == "RankError: ours ring cpu: out of GPU memory on ranks [1] alone, and the others wait for them"


def test_another_error_is_no_shortage(gloo_pool):
    ranks = Ranks(rank=0, size=1, device=CPU, group=None, control=None)
    with pytest.raises(RuntimeError, match="mat1"):
        timing.together(ranks, variant(None), lambda: torch.zeros(2, 3) @ torch.zeros(2, 3))
