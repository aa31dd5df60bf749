import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cpadvisor.errors import LaunchError, MissingError
from cpadvisor.launch import gpus
from cpadvisor.launch.gpus import choose_gpus, refuse_crowd, refuse_running
from cpadvisor.node import Gpu, Holder, Node
from cpadvisor.processes import identify
from cpadvisor.rundir import boot_id, create_run
from cpadvisor.runrecord import RunRecord, write_record

NODE = Node(
    name="node",
    source="nvml",
    gpus=tuple(Gpu(index=index) for index in range(4)),
    links=tuple(tuple(None if i == j else "NV18" for j in range(4)) for i in range(4)),
)
HELD = replace(NODE, holders=(Holder(gpu=1, pid=4211, user="alice", command="vllm serve", used_bytes=61 * 2**30),))


def test_without_a_plan_the_first_gpus_are_taken() -> None:
    choice = choose_gpus(NODE, world=2, wants_gpu=True, order=None)
    assert choice is not None and choice.devices == ("0", "1")


def test_the_order_of_the_plan_is_the_order_of_the_ranks() -> None:
    choice = choose_gpus(NODE, world=4, wants_gpu=None, order=(0, 3, 2, 1))
    assert choice is not None and choice.indices == (0, 3, 2, 1)


def test_only_gpus_that_the_user_may_see_are_taken() -> None:
    seen = NODE.subset((2, 3))
    choice = choose_gpus(seen, world=2, wants_gpu=True, order=None)
    assert choice is not None and choice.indices == (2, 3)
    with pytest.raises(LaunchError, match=r"rank_order names GPU 0, and only 2, 3 may be used; .* use \[2, 3\]"):
        choose_gpus(seen, world=2, wants_gpu=True, order=(0, 2))


def test_more_processes_than_gpus_names_both() -> None:
    with pytest.raises(LaunchError, match=r"multiply to 8 processes, and 4 GPUs may be used \(0, 1, 2, 3\)"):
        choose_gpus(NODE, world=8, wants_gpu=True, order=None)


@pytest.mark.parametrize("order", [(0, 1, 2), (0, 0), ([0], [1]), ("0", "1")])
def test_an_order_that_does_not_name_one_gpu_a_process_is_refused(order: Any) -> None:
    with pytest.raises(LaunchError, match=r"does not name one GPU for each of the 2 processes; use \[0, 1\]"):
        choose_gpus(NODE, world=2, wants_gpu=True, order=order)


def test_a_held_gpu_is_refused_with_its_holder_unless_forced() -> None:
    with pytest.raises(LaunchError, match=r"GPU 1: process 4211 \(alice, vllm serve\) holds 61.0 GiB") as caught:
        choose_gpus(HELD, world=2, wants_gpu=True, order=None)
    assert "--force" in str(caught.value)
    forced = choose_gpus(HELD, world=2, wants_gpu=True, order=None, force=True)
    assert forced is not None and forced.indices == (0, 1)


def test_a_held_gpu_that_the_run_does_not_take_is_no_reason() -> None:
    choice = choose_gpus(HELD, world=2, wants_gpu=True, order=(2, 3))
    assert choice is not None and choice.indices == (2, 3)


def test_a_display_server_is_not_in_the_way() -> None:
    small = replace(NODE, holders=(Holder(gpu=0, pid=1, user="root", command="Xorg", used_bytes=2**30),))
    assert choose_gpus(small, world=1, wants_gpu=True, order=None) is not None


def test_float32_runs_on_cpu_processes_even_beside_gpus() -> None:
    assert choose_gpus(NODE, world=16, wants_gpu=False, order=(0, 1)) is None


def test_memory_held_by_processes_of_other_containers_is_seen_too() -> None:
    gpus = (replace(NODE.gpus[0], used_bytes=5 * 2**30), *NODE.gpus[1:])
    with pytest.raises(LaunchError, match=r"GPU 0: 5.0 GiB in use by processes that cannot be seen from here"):
        choose_gpus(replace(NODE, gpus=gpus), world=1, wants_gpu=True, order=None)


def test_without_gpus_the_machine_decides_for_cpu_processes() -> None:
    assert choose_gpus(None, world=2, wants_gpu=None, order=None) is None


def test_bf16_without_gpus_says_which_mend_there_is() -> None:
    with pytest.raises(MissingError, match=r"this machine shows none; write `bf16: false` .*`--node cpu`"):
        choose_gpus(None, world=2, wants_gpu=True, order=None)


def living_run(root: Path, *, boot: str | None) -> str:
    """A run on GPUs 0 and 1 whose torchrun is this very process."""
    directory = create_run(root, model="tiny", layout="1x1x1x2")
    agent = identify(os.getpid())
    write_record(directory, RunRecord(run=directory.name, world=2, gpus=(0, 1), agent=agent, boot_id=boot))
    return directory.name


def test_a_gpu_of_a_living_run_is_refused_before_it_holds_any_memory(tmp_path: Path) -> None:
    name = living_run(tmp_path, boot=boot_id())
    with pytest.raises(
        LaunchError, match=f"run {name} is launching on GPU 1; .*`cpadvisor stop {tmp_path / name}`.*--force"
    ):
        refuse_running(tmp_path, (1, 2))
    refuse_running(tmp_path, (2, 3))


def test_a_run_whose_processes_are_gone_is_in_nobodys_way_and_its_events_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    me = identify(os.getpid())
    assert me is not None
    directory = create_run(tmp_path, model="tiny", layout="1x1x1x2")
    gone = replace(me, start_ticks=1)
    write_record(directory, RunRecord(run=directory.name, world=2, gpus=(0, 1), agent=gone, boot_id=boot_id()))
    monkeypatch.setattr(gpus, "Monitor", None)
    refuse_running(tmp_path, (0, 1))


def test_a_run_of_an_earlier_boot_is_in_nobodys_way(tmp_path: Path) -> None:
    living_run(tmp_path, boot="another boot")
    refuse_running(tmp_path, (0, 1))


def test_a_record_that_cannot_be_read_is_in_nobodys_way(tmp_path: Path) -> None:
    torn = create_run(tmp_path, model="tiny", layout="1x1x1x2")
    (torn / "run.json").write_text("{")
    refuse_running(tmp_path, (0, 1))


def test_more_cpu_processes_than_the_host_can_carry_are_refused() -> None:
    with pytest.raises(LaunchError, match="64 processes, and this host has 2 CPUs, enough for 8"):
        refuse_crowd(64, cpus=2)
    refuse_crowd(8, cpus=2)
