import random
import threading
import time
from typing import Any

import pytest
import torch
import torch.distributed as dist
from fake_gpus import GROUPS, Ranks, Stream, StreamDriver
from torch import Tensor

from runtime import comm, traffic
from runtime.copy_engine import CopyEngine

CPU = torch.device("cpu")


def after(rank: int, world: int) -> int:
    return (rank + 1) % world


def numbered(rank: int, *shape: int) -> Tensor:
    """A tensor whose numbers tell its rank: rank 2 holds 200, 201, .."""
    return torch.arange(torch.Size(shape).numel(), dtype=torch.float32).view(shape) + 100 * rank


def pass_on(lane: comm.Lane, *parts: Tensor) -> comm.Message:
    """Parts to the next rank, as many of the same shapes from the one before."""
    before = (lane.rank - 1) % lane.size
    shapes = {before: tuple(part.shape for part in parts)}
    return lane.start({after(lane.rank, lane.size): parts}, shapes, room_bytes=1 << 10)


def one_hop(rank: int, world: int) -> tuple[list[Tensor], traffic.Traffic, float | None]:
    group = dist.group.WORLD
    traffic.take(group.group_name)
    message = pass_on(comm.lane(group, "keys and values", CPU), numbered(rank, 2, 3), numbered(rank, 5))
    received = [part.clone() for part in message.wait_for_one()]
    sent = traffic.take(group.group_name)
    exposed_s = sent.exposed_s()
    assert exposed_s is not None and exposed_s >= 0.0
    return received, traffic.Traffic(messages=sent.messages, sent_bytes=sent.sent_bytes), sent.wire_s()


@pytest.mark.parametrize("world", [2, 3])
def test_each_rank_receives_what_the_one_before_sent_and_counts_what_it_sends(gloo_pool, world) -> None:
    for rank, (received, sent, wire_s) in enumerate(gloo_pool.run(world, one_hop)):
        before = (rank - 1) % world
        assert [part.tolist() for part in received] == [numbered(before, 2, 3).tolist(), numbered(before, 5).tolist()]
        assert sent == traffic.Traffic(messages=1, sent_bytes=4 * (6 + 5))
        assert wire_s is None, "no clock looks at the wire on a CPU"


def several_peers(rank: int, world: int) -> tuple[dict[int, list[float]], int, int]:
    group = dist.group.WORLD
    traffic.take(group.group_name)
    lane = comm.lane(group, "heads", CPU)
    others = [peer for peer in range(world) if peer != rank]
    # Rank r sends r x 10 + peer to each peer, in as many numbers as the peer's rank and one.
    parts = {peer: (torch.full((peer + 1,), float(10 * rank + peer)),) for peer in others}
    arrived = lane.start(parts, dict.fromkeys(others, ((rank + 1,),)), room_bytes=64).wait()
    sent = traffic.take(group.group_name)
    return {source: part.tolist() for source, (part,) in arrived.items()}, sent.messages, sent.sent_bytes


@pytest.mark.parametrize("world", [2, 4])
def test_one_exchange_brings_the_parts_of_several_peers_each_under_its_own_rank(gloo_pool, world) -> None:
    for rank, (arrived, messages, sent_bytes) in enumerate(gloo_pool.run(world, several_peers)):
        others = [peer for peer in range(world) if peer != rank]
        assert arrived == {source: [10.0 * source + rank] * (rank + 1) for source in others}
        assert (messages, sent_bytes) == (1, 4 * sum(peer + 1 for peer in others))


def not_contiguous(rank: int, world: int) -> list[list[float]]:
    whole = numbered(rank, 2, 4, 3)
    parts = whole[:, 1:3], whole.transpose(0, 2)
    message = pass_on(comm.lane(dist.group.WORLD, "slices", CPU), *parts)
    return [part.flatten().tolist() for part in message.wait_for_one()]


def test_slices_and_transposed_parts_arrive_as_they_look(gloo_pool) -> None:
    for rank, received in enumerate(gloo_pool.run(2, not_contiguous)):
        whole = numbered(1 - rank, 2, 4, 3)
        assert received == [whole[:, 1:3].flatten().tolist(), whole.transpose(0, 2).flatten().tolist()]


def several_under_way(rank: int, world: int) -> list[float]:
    keys, gradients = (comm.lane(dist.group.WORLD, kind, CPU) for kind in ("keys and values", "gradients"))
    messages = [pass_on(lane, torch.tensor([float(10 * rank + index)])) for index, lane in enumerate((keys, gradients))]
    later = pass_on(keys, torch.tensor([float(10 * rank + 2)]))
    return [message.wait_for_one()[0].item() for message in (messages[0], messages[1], later)]


def test_messages_of_two_lanes_and_the_next_of_one_come_in_the_order_in_which_they_were_begun(gloo_pool) -> None:
    assert gloo_pool.run(2, several_under_way) == [[10.0, 11.0, 12.0], [0.0, 1.0, 2.0]]


def lanes(rank: int, world: int) -> tuple[bool, bool, bool]:
    group, other = dist.group.WORLD, dist.new_group(list(range(world)))
    first = comm.lane(group, "keys and values", CPU)
    return (
        comm.lane(group, "keys and values", CPU) is first,
        comm.lane(group, "gradients", CPU) is first,
        comm.lane(other, "keys and values", CPU) is first,
    )


def test_a_group_has_one_lane_of_each_kind(gloo_pool) -> None:
    assert gloo_pool.run(2, lanes) == [(True, False, False)] * 2


_lanes_of_jobs: list[comm.Lane] = []


def a_lane_of_the_world(rank: int, world: int) -> tuple[str, int, bool, float]:
    lane = comm.lane(dist.group.WORLD, "of several jobs", CPU)
    _lanes_of_jobs.append(lane)
    received = pass_on(lane, torch.tensor([float(rank)])).wait_for_one()[0].item()
    return lane.group.group_name, len(_lanes_of_jobs), len(set(map(id, _lanes_of_jobs))) > 1, received


def test_a_new_group_of_an_old_name_has_new_lanes_that_work(gloo_pool) -> None:
    first = gloo_pool.run(2, a_lane_of_the_world)
    second = gloo_pool.run(2, a_lane_of_the_world)
    assert [name for name, *_ in first] == [name for name, *_ in second], "the default group's name comes again"
    assert [result[1:] for result in second] == [(2, True, 1.0), (2, True, 0.0)]


def kept(rank: int, world: int, own: int, came: int) -> list[list[float]]:
    group = dist.group.WORLD
    if rank == 1:
        comm.keep_own(group.group_name)
    tokens = own if rank == 1 else came
    coming = came if rank == 1 else own
    part = torch.arange(tokens, dtype=torch.float32).view(1, tokens, 1) + 100 * rank
    message = comm.lane(group, "kept", CPU).start(
        {1 - rank: (part, -part)}, {1 - rank: ((1, coming, 1),) * 2}, room_bytes=1 << 10
    )
    return [received.flatten().tolist() for received in message.wait_for_one()]


@pytest.mark.parametrize(
    ("own", "came", "expected"),
    [
        (4, 4, [100.0, 101.0, 102.0, 103.0]),
        (4, 2, [100.0, 101.0]),
        (2, 4, [100.0, 101.0, 100.0, 101.0]),
    ],
)
def test_a_rank_that_keeps_its_own_gets_it_cut_or_doubled_to_what_came(gloo_pool, own, came, expected) -> None:
    try:
        rank_0, rank_1 = gloo_pool.run(2, kept, own, came)
    finally:
        gloo_pool.close()  # the fault lives in the process
    assert rank_1 == [expected, [-number for number in expected]]
    assert rank_0 == [[100.0 + index for index in range(own)], [-100.0 - index for index in range(own)]]


def counted(rank: int, world: int) -> list[int]:
    world_group, pair = dist.group.WORLD, dist.new_group(list(range(world)))
    lane = comm.lane(world_group, "keys and values", CPU)
    counts = [comm.begun([world_group, pair])]

    def after_it(_: Any) -> None:
        counts.append(comm.begun([world_group, pair]))

    after_it(pass_on(lane, torch.zeros(1)).wait())
    after_it(dist.all_reduce(torch.zeros(1), group=pair))
    after_it([pass_on(lane, torch.zeros(1)).wait() for _ in range(2)])
    return [count - counts[0] for count in counts]


def test_begun_counts_messages_and_collectives_alike_on_all_ranks(gloo_pool) -> None:
    first, second = gloo_pool.run(2, counted)
    assert first == second
    # Sends and receives of gloo may count in its group too: a message is at least one, the all-reduce exactly one.
    assert first[1] >= 1 and first[2] == first[1] + 1 and first[3] == first[2] + 2 * first[1]


def carried(rank: int, world: int) -> tuple[str, str | None]:
    return comm.carrier(dist.group.WORLD, CPU), comm.obstacle(dist.group.WORLD, CPU)


def test_between_cpu_processes_gloo_carries_and_nothing_is_in_the_way(gloo_pool) -> None:
    assert gloo_pool.run(2, carried) == [("gloo", None)] * 2


# Lanes of GPUs, on threads


_of_rank = threading.local()


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> Ranks:
    """Ranks that are hosts of streams; nothing is timed."""
    monkeypatch.setattr(comm, "dist", GROUPS)
    monkeypatch.setattr(comm, "_current_stream", lambda device: _of_rank.stream)
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(traffic, "count", lambda *_, on_gpu: None)
    return Ranks(monkeypatch)


def gpu_lane(group: Any, slots: int) -> comm.GpuLane:
    _of_rank.stream = Stream()
    return comm.GpuLane(group, CopyEngine(group, CPU, slots=slots), CPU)


def waited(message: comm.Message) -> dict[int, tuple[Tensor, ...]]:
    """What came. The message lives on until the stream is past its wait, as memory of a GPU does that is let go."""
    arrived = message.wait()
    _of_rank.stream.enqueue(lambda: message)
    return arrived


def round_the_ring(group: Any, laps: int) -> None:
    """Each rank's numbers travel round and round; attention is late, and reads what is passed on at the same time."""
    lane, chance = gpu_lane(group, 2), random.Random(group.rank)
    compute, size = _of_rank.stream, group.host.ranks
    before, after = (group.rank - 1) % size, (group.rank + 1) % size
    for lap in range(laps):
        own = torch.zeros(7)

        def project(own: Tensor = own, lap: int = lap) -> None:
            time.sleep(chance.random() * 1e-3)
            own.copy_(numbered(lap, 7) + group.rank)

        compute.enqueue(project)
        message = lane.start({before: (own,)}, {after: ((7,),)}, room_bytes=28)
        for step in range(1, size):
            (part,) = waited(message)[after]
            if step < size - 1:
                message = lane.start({before: (part,)}, {after: ((7,),)}, room_bytes=28)

            def attend(part: Tensor = part, lap: int = lap, step: int = step) -> None:
                right = numbered(lap, 7) + (group.rank + step) % size
                assert torch.equal(part, right), f"rank {group.rank}, lap {lap}, step {step}: {part}, not {right}"
                time.sleep(chance.random() * 1e-3)
                assert torch.equal(part, right), f"rank {group.rank}, lap {lap}, step {step}: overwritten while read"

            compute.enqueue(attend)
    compute.synchronize()


@pytest.mark.parametrize("ranks", [2, 3, 4])
def test_on_streams_a_ring_reads_what_was_sent_however_far_its_hosts_run_ahead(gpus: Ranks, ranks: int) -> None:
    gpus.run(ranks, round_the_ring, 60, driver=StreamDriver())


def all_to_all(group: Any, exchanges: int) -> None:
    """One slot: what came is read before the next exchange begins, on the stream and not on the host."""
    lane, chance = gpu_lane(group, 1), random.Random(group.rank)
    compute, size = _of_rank.stream, group.host.ranks
    others = [peer for peer in range(size) if peer != group.rank]
    for exchange in range(exchanges):
        parts = {peer: (torch.zeros(5),) for peer in others}

        def fill(parts: dict[int, tuple[Tensor]] = parts, exchange: int = exchange) -> None:
            time.sleep(chance.random() * 1e-3)
            for peer, (part,) in parts.items():
                part.copy_(numbered(exchange, 5) + group.rank + 10 * peer)

        compute.enqueue(fill)
        message = lane.start(parts, dict.fromkeys(others, ((5,),)), room_bytes=20)

        arrived = waited(message)

        def read(arrived: dict[int, tuple[Tensor, ...]] = arrived, exchange: int = exchange) -> None:
            for moment in ("on arrival", "while it is read"):
                for source, (part,) in arrived.items():
                    right = numbered(exchange, 5) + source + 10 * group.rank
                    assert torch.equal(part, right), f"rank {group.rank}, exchange {exchange} from {source}, {moment}"
                time.sleep(chance.random() * 1e-3)

        compute.enqueue(read)
    compute.synchronize()


@pytest.mark.parametrize("ranks", [2, 4])
def test_on_streams_one_slot_is_enough_where_each_exchange_is_read_before_the_next(gpus: Ranks, ranks: int) -> None:
    gpus.run(ranks, all_to_all, 100, driver=StreamDriver())


def read_by_one_stream_sent_by_another(group: Any) -> list[list[float]]:
    lane, peer = gpu_lane(group, 1), 1 - group.rank
    reader, sender, seen = Stream(), Stream(), []

    def exchange(value: float) -> comm.Message:
        return lane.start({peer: (torch.full((4,), value),)}, {peer: ((4,),)}, room_bytes=16)

    def read_late(part: Tensor) -> None:
        time.sleep(0.2)
        seen.append(part.tolist())

    _of_rank.stream = reader
    (part,) = waited(exchange(1.0))[peer]
    reader.enqueue(lambda: read_late(part))
    _of_rank.stream = sender
    waited(exchange(2.0))
    sender.synchronize()
    reader.synchronize()
    return seen


def test_on_streams_a_place_stays_while_another_stream_than_the_sender_s_reads_it(gpus: Ranks) -> None:
    assert gpus.run(2, read_by_one_stream_sent_by_another, driver=StreamDriver()) == [[[1.0] * 4]] * 2


def forget_and_send(rank: int, world: int) -> list[float]:
    group = dist.new_group(list(range(world)))
    assert isinstance(group, dist.ProcessGroup)
    first, other = comm.lane(group, "keys and values", CPU), comm.lane(dist.group.WORLD, "keys and values", CPU)
    comm.forget(group)
    again = comm.lane(group, "keys and values", CPU)
    assert again is not first and comm.lane(dist.group.WORLD, "keys and values", CPU) is other
    (came,) = pass_on(again, torch.full((1,), float(rank))).wait().values()
    return came[0].tolist()


def test_a_group_that_was_forgotten_begins_anew_and_others_go_on(gloo_pool) -> None:
    assert gloo_pool.run(2, forget_and_send) == [[1.0], [0.0]]
