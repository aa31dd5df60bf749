"""The protocol on threads: one a rank, memory that all of them write, a driver that does at once what it is told."""

import math
import random
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist
from fake_gpus import Driver, Group, Ranks
from torch import Tensor

from runtime import copy_engine
from runtime.copy_engine import CopyEngine

CPU = torch.device("cpu")


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Any]]:
    """Runs a function as every rank of a group, each a thread; the results in rank order."""
    return Ranks(monkeypatch).run


Peers = Callable[[int, int, int], tuple[list[int], list[int]]]
"""(rank, ranks, exchange) -> ranks to send to, ranks to receive from."""


def ring(rank: int, ranks: int, exchange: int) -> tuple[list[int], list[int]]:
    return [(rank - 1) % ranks], [(rank + 1) % ranks]


def all_to_all(rank: int, ranks: int, exchange: int) -> tuple[list[int], list[int]]:
    others = [peer for peer in range(ranks) if peer != rank]
    return others, others


def going_home(rank: int, ranks: int, exchange: int) -> tuple[list[int], list[int]]:
    """Gradients of a ring: one source at a time, another one at each exchange."""
    step = 1 + exchange % (ranks - 1)
    return [(rank + step) % ranks], [(rank - step) % ranks]


def both_neighbours(rank: int, ranks: int, exchange: int) -> tuple[list[int], list[int]]:
    """More sources than one and fewer than all others, in a group of four."""
    neighbours = sorted({(rank - 1) % ranks, (rank + 1) % ranks})
    return neighbours, neighbours


PATTERNS = [ring, all_to_all, going_home]


def content(sender: int, receiver: int, exchange: int, shapes: Sequence[Sequence[int]]) -> tuple[Tensor, ...]:
    """The parts of one message, other numbers for each sender, receiver, exchange and place in it."""
    first = float(sender * 1_000_000 + receiver * 100_000 + exchange * 100)
    return tuple(
        torch.arange(math.prod(shape), dtype=torch.float64).view(torch.Size(shape)) + first + 10 * index
        for index, shape in enumerate(shapes)
    )


def check(arrived: Mapping[int, Sequence[Tensor]], rank: int, exchange: int, when: str) -> None:
    for source, parts in arrived.items():
        expected = content(source, rank, exchange, [part.shape for part in parts])
        for part, right in zip(parts, expected, strict=True):
            assert torch.equal(part, right), f"rank {rank}, exchange {exchange} from {source}, {when}"


def converse(
    group: Group,
    peers: Peers,
    slots: int,
    exchanges: int,
    seed: int,
    shapes_of: Callable[[int], Sequence[Sequence[int]]] = lambda exchange: ((2, 3), (3,)),
) -> int:
    """Exchange after exchange with random delays; what came is read when it comes and again as late as is allowed."""
    rank, ranks = group.rank, group.host.ranks
    engine = CopyEngine(group, CPU, slots=slots)  # pyright: ignore[reportArgumentType]
    chance = random.Random(seed * 10 + rank)
    stream: Any = SimpleNamespace(cuda_stream=rank)
    good: dict[int, dict[int, tuple[Tensor, ...]]] = {}
    for exchange in range(exchanges):
        # The last moment at which what came `slots` exchanges ago is good: this one has not begun.
        for earlier, arrived in good.items():
            check(arrived, rank, earlier, f"before {exchange} began")
        good.pop(exchange - slots, None)
        shapes = shapes_of(exchange)
        to, of = peers(rank, ranks, exchange)
        room_bytes = sum(8 * math.prod(shape) for shape in shapes)
        places = engine.places(dict.fromkeys(of, shapes), torch.empty(0, dtype=torch.float64), room_bytes)
        begun: list[int] = []
        outgoing = {peer: content(rank, peer, exchange, shapes) for peer in to}
        engine.exchange(outgoing, places, stream, lambda begun=begun: begun.append(1))
        assert begun == [1], "the sending begins once"
        good[exchange] = places
        check(places, rank, exchange, "on arrival")
        if chance.random() < 0.2:
            time.sleep(chance.random() * 2e-3)
    return len(group.host.made[rank])


@pytest.mark.parametrize("peers", PATTERNS)
@pytest.mark.parametrize("ranks", [2, 3, 4])
@pytest.mark.parametrize("slots", [1, 2])
def test_each_rank_reads_what_was_sent_until_it_has_begun_slots_exchanges_more(threads, peers, ranks, slots) -> None:
    assert threads(ranks, converse, peers, slots, 200, 1) == [1] * ranks, "room is made once"


def test_two_sources_among_four_ranks_do_not_share_a_place(threads) -> None:
    threads(4, converse, both_neighbours, 2, 50, 1)


class Deaf(Driver):
    """Sends without hearing that the place is free."""

    def wait_for_flag(self, stream: int, address: int, value: int) -> None:
        kind = address // copy_engine.FLAG_BYTES % 2
        if kind == copy_engine.FULL:
            super().wait_for_flag(stream, address, value)


class Hasty(Driver):
    """Reads without hearing that the message is there."""

    def wait_for_flag(self, stream: int, address: int, value: int) -> None:
        kind = address // copy_engine.FLAG_BYTES % 2
        if kind == copy_engine.FREE:
            super().wait_for_flag(stream, address, value)


@pytest.mark.parametrize("driver", [Deaf, Hasty])
def test_without_either_flag_what_is_read_is_wrong(threads, driver) -> None:
    with pytest.raises(AssertionError, match=r"rank \d, exchange \d+ from"):
        threads(3, converse, ring, 1, 2000, 1, driver=driver())


def growing(exchange: int) -> Sequence[Sequence[int]]:
    """Parts of 32 numbers and one, 256 and 8 bytes, that grow at exchanges 10 and 20 and shrink in between."""
    tokens = {10: 64, 20: 128}.get(exchange, 32)
    return (tokens,), (1,)


@pytest.mark.parametrize("peers", [ring, all_to_all])
def test_room_grows_with_the_messages_on_all_ranks_at_once_and_what_came_before_stays_good(threads, peers) -> None:
    assert threads(3, converse, peers, 2, 40, 1, growing) == [3] * 3


def test_more_sources_than_before_make_room_anew(threads) -> None:
    def first_ring_then_all(rank: int, ranks: int, exchange: int) -> tuple[list[int], list[int]]:
        return (ring if exchange < 5 else all_to_all)(rank, ranks, exchange)

    assert threads(4, converse, first_ring_then_all, 2, 20, 1) == [2] * 4


def sizes(group: Group, slots: int, sources: int, room_bytes: int) -> tuple[int, list[int], bool]:
    engine = CopyEngine(group, CPU, slots=slots)  # pyright: ignore[reportArgumentType]
    assert engine.held_bytes == 0, "nothing is held before anything is sent"
    incoming = dict.fromkeys([rank for rank in range(4) if rank != group.rank][:sources], ((3,), (2, 2)))
    like = torch.empty(0, dtype=torch.bfloat16)
    places = [engine.places(incoming, like, room_bytes) for _ in range(slots + 1)]
    own = group.host.made[group.rank][0]
    source = min(incoming)
    at = [place[source][0].data_ptr() - own.data_ptr() for place in places]
    assert engine.held_bytes == own.numel()
    return own.numel(), at, places[0] == places[slots]


def test_memory_holds_the_flags_and_a_place_of_each_source_in_each_slot(threads) -> None:
    # 4 ranks have 2 flags of 4 bytes each, rounded up to 256; 300 bytes become 512.
    for size, at, again in threads(4, sizes, 2, 1, 300):
        assert size == 256 + 2 * 512
        assert at == [256 + 512, 256, 256 + 512], "the slots take turns"
        assert again, "a view is made once"
    assert {size for size, _, _ in threads(4, sizes, 2, 3, 300)} == {256 + 2 * 3 * 512}
    assert {size for size, _, _ in threads(4, sizes, 1, 3, 14)} == {256 + 3 * 256}


def test_parts_lie_one_after_the_other_in_the_dtype_and_shapes_of_the_message(threads) -> None:
    def parts(group: Group) -> list[tuple[torch.dtype, tuple[int, ...], int]]:
        engine = CopyEngine(group, CPU, slots=1)  # pyright: ignore[reportArgumentType]
        like = torch.empty(0, dtype=torch.bfloat16)
        places = engine.places({1 - group.rank: ((3,), (2, 2))}, like, 14)[1 - group.rank]
        return [(part.dtype, tuple(part.shape), part.data_ptr() - places[0].data_ptr()) for part in places]

    assert threads(2, parts) == [[(torch.bfloat16, (3,), 0), (torch.bfloat16, (2, 2), 6)]] * 2


# Obstacles, found by real ranks: what stands in differs from rank to rank


class Works(Driver):
    """A driver that does what it is told, for a rank by itself."""


class DoesNothing(Driver):
    def write_flag(self, stream: int, address: int, value: int) -> None:
        pass

    def wait_for_flag(self, stream: int, address: int, value: int) -> None:
        pass


class Missing(Driver):
    def write_flag(self, stream: int, address: int, value: int) -> None:
        raise OSError("libcuda.so.1: cannot open shared object file")


class Speechless(Driver):
    def write_flag(self, stream: int, address: int, value: int) -> None:
        raise RuntimeError


class Maps:
    def __init__(self, *_: object) -> None:
        pass


class MapsNothing:
    def __init__(self, *_: object) -> None:
        raise RuntimeError("CUDA driver error: operation not permitted\nException raised from ..")


class MapsNothingWithoutAWord:
    def __init__(self, *_: object) -> None:
        raise RuntimeError


def ask(rank: int, world: int, driver: str, shared: str, variable: str, host: str, odd_rank: int) -> str | None:
    """The obstacle as this rank hears it; the odd rank has what the arguments name, the others lack nothing."""
    odd = rank == odd_rank
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "current_stream", lambda _: SimpleNamespace(cuda_stream=0))
        patch.setattr(copy_engine, "driver", globals()[driver]() if odd else Works())
        patch.setattr(copy_engine, "_Shared", globals()[shared] if odd else Maps)
        patch.setattr(socket, "gethostname", lambda: host if odd else "node")
        patch.delenv(copy_engine.VARIABLE, raising=False)
        if odd and variable:
            patch.setenv(copy_engine.VARIABLE, variable)
        return copy_engine.obstacle(dist.group.WORLD, CPU)


@pytest.mark.parametrize(
    ("lack", "reason"),
    [
        ({}, None),
        ({"variable": "engines"}, None),
        ({"variable": "sends"}, "CPADVISOR_TRANSPORT is sends"),
        ({"host": "another"}, "the ranks are on several hosts"),
        ({"driver": "Missing"}, "libcuda.so.1: cannot open shared object file"),
        ({"driver": "DoesNothing"}, "the driver's stream memory operations do not work here"),
        ({"driver": "Speechless"}, "RuntimeError"),
        ({"shared": "MapsNothing"}, "CUDA driver error: operation not permitted"),
        ({"shared": "MapsNothingWithoutAWord"}, "RuntimeError"),
        ({"driver": "Missing", "shared": "MapsNothing"}, "libcuda.so.1: cannot open shared object file"),
    ],
    ids=str,
)
@pytest.mark.parametrize("odd_rank", [0, 1])
def test_what_one_rank_lacks_all_of_them_hear_in_the_same_words(gloo_pool, lack, reason, odd_rank) -> None:
    found = {"driver": "Works", "shared": "Maps", "variable": "", "host": "node"} | lack
    assert gloo_pool.run(2, ask, *found.values(), odd_rank, timeout_s=30) == [reason] * 2


def grown_after_a_failure(group: Group) -> tuple[int, int]:
    engine = CopyEngine(group, CPU, slots=1)  # pyright: ignore[reportArgumentType]
    incoming, like = {1 - group.rank: ((4,),)}, torch.empty(0)
    engine.places(incoming, like, 16)
    made = copy_engine._Shared
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(copy_engine, "_Shared", no_memory)
        with pytest.raises(RuntimeError, match="out of memory"):
            engine.places(incoming, like, 1024)
        assert engine.held_bytes == 0
        patch.setattr(copy_engine, "_Shared", made)
        engine.places(incoming, like, 16)
    return engine.held_bytes, group.rank


def no_memory(*_: object) -> None:
    raise RuntimeError("CUDA driver error: out of memory")


def test_an_engine_that_found_no_memory_to_grow_holds_none_and_can_be_used_again(threads) -> None:
    (first, _), (second, _) = threads(2, grown_after_a_failure)
    assert first == second > 0
