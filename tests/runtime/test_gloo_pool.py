import os
import time

import pytest
import torch
import torch.distributed as dist
from gloo_pool import GlooPool, RankError


def sum_of_ranks(rank: int, world: int, factor: int) -> tuple[int, float, int]:
    value = torch.tensor(float(rank * factor))
    dist.all_reduce(value)
    return rank, value.item(), os.getpid()


def one_rank_fails(rank: int, world: int) -> None:
    if rank == 1:
        raise ValueError("rank 1 has its own opinion")
    dist.barrier()


def nobody_answers(rank: int, world: int) -> None:
    time.sleep(60)


def test_each_rank_runs_the_function_in_one_group_and_the_processes_stay(gloo_pool: GlooPool) -> None:
    first = gloo_pool.run(4, sum_of_ranks, 10)
    assert [(rank, total) for rank, total, _ in first] == [(rank, 60.0) for rank in range(4)]
    second = gloo_pool.run(2, sum_of_ranks, 1)
    assert second == [(0, 1.0, first[0][2]), (1, 1.0, first[1][2])]


def test_an_error_of_one_rank_is_told_and_the_next_job_finds_a_new_pool(gloo_pool: GlooPool) -> None:
    with pytest.raises(RankError, match="rank 1 has its own opinion"):
        gloo_pool.run(2, one_rank_fails)
    assert gloo_pool.run(2, sum_of_ranks, 1)[1][1] == 1.0


def test_ranks_that_do_not_answer_are_ended_after_the_time_out(gloo_pool: GlooPool) -> None:
    with pytest.raises(RankError, match=r"ranks \[0, 1\] did not answer within 1 s"):
        gloo_pool.run(2, nobody_answers, timeout_s=1.0)
    assert gloo_pool.run(2, sum_of_ranks, 1)[0][1] == 1.0
