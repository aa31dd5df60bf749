from cpadvisor.watch.door import Answer
from cpadvisor.watch.failure import Failure
from cpadvisor.watch.hang import Hang, find_hang, is_busy
from cpadvisor.watch.view import RankView

TORCH = "/venv/lib/python3.11/site-packages/torch/distributed/distributed_c10d.py"
REDUCING = ("/run/code/runtime/train.py:55 main", "/run/code/runtime/optim.py:80 reduce", f"{TORCH}:3012 all_reduce")
RECEIVING = ("/run/code/runtime/train.py:55 main", "/run/code/runtime/comm.py:54 wait")
SLEEPING = (
    "/run/code/runtime/train.py:55 main",
    "/run/code/runtime/data.py:33 read",
    "/run/code/runtime/io.py:9 fetch",
)


def found(answers: dict[int, Answer] | None, *ranks: RankView, silent_s: float = 95.0) -> Failure:
    """Of ranks at step 3 whose doors were asked; None where they have none."""
    views = ranks or tuple(RankView(rank=rank, pid=40 + rank, alive=True, step=3) for rank in range(2))
    asked = frozenset() if answers is None else frozenset(view.rank for view in views)
    return find_hang(
        Hang(
            name="r",
            again="cpadvisor launch --resume r",
            resumes="it goes on from its checkpoint of step 2",
            ranks=views,
            silent_s=silent_s,
            asked=asked,
            answers=answers or {},
        )
    )


def answer(
    stack: tuple[str, ...],
    step: int = 4,
    phase: str = "backward",
    since_s: float = 95.0,
    exchanges: int | None = None,
) -> Answer:
    return Answer(step=step, phase=phase, since_s=since_s, exchanges=exchanges, stack=stack)


def test_a_halted_rank_is_named_with_the_command_that_lets_it_go_on() -> None:
    failure = found(
        None,
        RankView(rank=0, pid=40, alive=True, step=3),
        RankView(rank=1, pid=41, alive=True, halted=True, step=3),
    )
    assert (failure.kind, failure.rank, failure.step) == ("hung", 1, 3)
    assert failure.headline == "rank 1 is halted, by SIGSTOP or a debugger; the others wait"
    assert failure.evidence == ("rank 1: process 41 is stopped (/proc/41/stat)",)
    assert failure.command == "kill -CONT 41"


def test_all_halted_ranks_are_named_at_once() -> None:
    ranks = tuple(RankView(rank=rank, pid=40 + rank, alive=True, halted=True) for rank in range(2))
    failure = found(None, *ranks)
    assert failure.headline.startswith("ranks 0, 1 are halted")
    assert failure.command == "kill -CONT 40 41"


def test_a_rank_that_does_not_answer_is_the_one_they_wait_for() -> None:
    failure = found({0: answer(REDUCING)})
    assert failure.headline == "no rank has given a sign of life for 1 min 35 s; rank 1 does not answer"
    assert failure.rank == 1
    assert failure.evidence == (
        "rank 1: step 3 does not answer",
        "rank 0: step 4 in backward for 1 min 35 s at distributed/distributed_c10d.py:3012 all_reduce",
    )


def test_the_rank_at_the_lowest_step_lags_and_shows_its_frames() -> None:
    failure = found({0: answer(REDUCING, step=5), 1: answer(SLEEPING, step=4, phase="data")})
    assert failure.headline.endswith("; rank 1 lags at step 4")
    assert (failure.rank, failure.step) == (1, 4)
    assert failure.evidence == (
        "rank 1: step 4 in data for 1 min 35 s",
        "  runtime/train.py:55 main",
        "  runtime/data.py:33 read",
        "  runtime/io.py:9 fetch",
        "rank 0: step 5 in backward for 1 min 35 s at distributed/distributed_c10d.py:3012 all_reduce",
    )


def test_at_one_step_the_rank_that_is_in_no_collective_is_waited_for() -> None:
    failure = found({0: answer(SLEEPING), 1: answer(RECEIVING)})
    assert failure.headline.endswith("; the others wait for rank 0")
    assert failure.rank == 0


READING = ("/run/code/runtime/train.py:55 main", "/run/code/runtime/loss.py:52 _chunk_loss")
"""Two H100 over NCCL: the host of a rank whose peer hung ran on to the loss, and waited there for its device."""


def test_on_gpus_the_rank_that_began_fewer_exchanges_lags_wherever_the_others_wait() -> None:
    failure = found({0: answer(READING, exchanges=1092), 1: answer(SLEEPING, exchanges=1075)})
    assert failure.headline.endswith("; rank 1 lags: it has begun 1,075 exchanges, the others 1,092")
    assert failure.rank == 1
    assert failure.evidence == (
        "rank 1: step 4 in backward for 1 min 35 s, 1,075 exchanges begun",
        "  runtime/train.py:55 main",
        "  runtime/data.py:33 read",
        "  runtime/io.py:9 fetch",
        "rank 0: step 4 in backward for 1 min 35 s, 1,092 exchanges begun, at runtime/loss.py:52 _chunk_loss",
    )


def test_several_that_began_fewer_lag_together() -> None:
    ranks = tuple(RankView(rank=rank, alive=True, step=3) for rank in range(4))
    begun = (90, 75, 92, 75)
    failure = found({rank: answer(READING, exchanges=count) for rank, count in enumerate(begun)}, *ranks)
    assert failure.headline.endswith("; ranks 1, 3 lag: they have begun 75 exchanges, the others 90 to 92")


def test_equal_counts_accuse_nobody_and_a_rank_that_tells_none_leaves_it_to_the_frames() -> None:
    equal = found({rank: answer(READING, exchanges=92) for rank in range(2)})
    assert equal.headline.endswith("; all wait for each other: look at the GPUs and the links between them")
    partly = found({0: answer(REDUCING, exchanges=92), 1: answer(SLEEPING)})
    assert partly.headline.endswith("; the others wait for rank 1")


def test_of_many_that_wait_the_one_in_another_place_is_odd() -> None:
    ranks = tuple(RankView(rank=rank, alive=True, step=3) for rank in range(4))
    failure = found({rank: answer(RECEIVING if rank == 2 else REDUCING) for rank in range(4)}, *ranks)
    assert failure.headline.endswith("; the others wait for rank 2")


def test_two_that_wait_in_different_places_accuse_nobody() -> None:
    failure = found({0: answer(REDUCING), 1: answer(RECEIVING)})
    assert failure.rank is None
    assert "all wait" in failure.headline


def test_all_in_one_place_points_at_gpus_and_links() -> None:
    failure = found({0: answer(REDUCING), 1: answer(REDUCING)})
    assert failure.headline.endswith("; all wait for each other: look at the GPUs and the links between them")
    assert (failure.rank, failure.step) == (None, 3)


def test_without_doors_the_events_tell_who_is_behind() -> None:
    behind = found(None, RankView(rank=0, alive=True, step=7), RankView(rank=1, alive=True, step=6))
    assert behind.headline.endswith("; rank 1 lags at step 6")
    assert found(None).headline.endswith("; nothing tells which one the others wait for")


def test_nobody_who_answers_accuses_nobody() -> None:
    assert found({}).headline.endswith("; no rank answers")


def test_a_hang_is_ended_and_then_gone_on_with() -> None:
    failure = found(None)
    assert failure.command == "cpadvisor stop r"
    assert failure.mend == (
        "end it, then start it again with `cpadvisor launch --resume r`: it goes on from its checkpoint of step 2"
    )


def test_evidence_stays_within_ten_lines() -> None:
    ranks = tuple(RankView(rank=rank, alive=True, step=3) for rank in range(16))
    assert len(found({rank: answer(REDUCING) for rank in range(12)}, *ranks).evidence) == 10


def test_ranks_that_build_or_write_are_busy_and_others_are_not() -> None:
    building, saving, moving = (answer((), phase=phase) for phase in ("build", "save", "forward"))
    assert is_busy({0: building, 1: saving})
    assert not is_busy({0: building, 1: moving})
    assert not is_busy({})
