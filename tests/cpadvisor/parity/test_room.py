"""What a GPU has to give at cp 1, by the planner's memory model."""

from collections.abc import Callable

import pytest

from cpadvisor.catalog import find_model, require_gpu
from cpadvisor.errors import MissingError
from cpadvisor.launch.jobfile import JobFile
from cpadvisor.node import Gpu, Node
from cpadvisor.parity.room import Room, room_here
from cpadvisor.probe import nvml

GIB = 2**30


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """NVML shows two GPUs of a product, or raises."""

    def show(product: str | None = "NVIDIA H200", *, error: Exception | None = None) -> None:
        def read_node(**_: object) -> Node:
            if error is not None:
                raise error
            gpus = tuple(
                Gpu(index=index, name=product, memory_bytes=140 * GIB, used_bytes=index * GIB) for index in (0, 1)
            )
            return Node(name="made", source="nvml", gpus=gpus, links=((None, "NV18"), ("NV18", None)))

        monkeypatch.setattr(nvml, "read_node", read_node)

    return show


def test_processes_of_a_cpu_need_no_room(make_job: Callable[..., JobFile], machine: Callable[..., None]):
    machine(error=AssertionError("NVML is not asked"))
    assert room_here(make_job()) == (None, None)


def test_the_room_is_what_the_fullest_gpu_has_left(make_job: Callable[..., JobFile], machine: Callable[..., None]):
    machine()
    job = make_job(
        "bf16: false -> bf16: true",
        "gradient_accumulation_steps: 1 -> gradient_accumulation_steps: 8",
        "dp_shard_size: 1 -> dp_shard_size: 2",
    )
    room, doubt = room_here(job)
    assert doubt is None and room is not None
    assert (room.gpu.key, room.limit_bytes, room.dp_shard) == ("h200", 139 * GIB, 2)
    assert (room.model.name, room.micro_batch, room.accumulation) == ("tiny", 1, 8)


def test_what_keeps_the_length_from_being_judged_is_told(
    make_job: Callable[..., JobFile], machine: Callable[..., None]
):
    job = make_job("bf16: false -> bf16: true")
    machine("NVIDIA Quantum 9000")
    room, doubt = room_here(job)
    assert room is None and doubt is not None
    assert doubt.startswith("whether the length fits at cp 1 is not known: GPU 'NVIDIA Quantum 9000'")
    machine(error=MissingError("the driver does not answer"))
    assert room_here(job) == (None, "whether the length fits at cp 1 is not known: the driver does not answer")
    machine(error=nvml.NoGpuError("no GPU"))
    assert room_here(job) == (None, None)


def test_states_of_an_8b_model_need_an_h200_and_half_of_them_an_h100():
    # 16 bytes x 8.03e9 parameters: 120 GiB whole, 60 GiB over two ranks of dp_shard.
    def room(gpu: str, *, dp_shard: int) -> Room:
        spec = require_gpu(gpu)
        return Room(model=find_model("llama-3.1-8b"), gpu=spec, limit_bytes=spec.memory_bytes, dp_shard=dp_shard)

    assert room("h200", dp_shard=1).longest("full", unit=4, most=131072) > 1024
    assert room("h100-80g", dp_shard=1).longest("full", unit=4, most=131072) == 0
    assert room("h100-80g", dp_shard=2).longest("full", unit=4, most=131072) > 1024


def test_the_longest_is_a_multiple_of_the_unit_and_no_longer_than_asked():
    spec = require_gpu("h100-80g")
    room = Room(model=find_model("llama-3.2-1b"), gpu=spec, limit_bytes=spec.memory_bytes, dp_shard=1)
    longest = room.longest("none", unit=16, most=1 << 20)
    assert longest % 16 == 0
    assert room.fits(longest, "none") and not room.fits(longest + 16, "none")
    assert room.longest("none", unit=16, most=1000) == 992
    assert room.peak_bytes(2 * longest, "none") > room.peak_bytes(longest, "none")
