import os
import socket
from pathlib import Path

import pytest

from cpadvisor.launch.environment import free_port, recorded, run_environment, threads

RUN = Path("/runs/r")


def environment(base: dict[str, str], *, devices: tuple[str, ...] | None, world: int = 2) -> dict[str, str]:
    return run_environment(
        base, run_dir=RUN, python="/venv/bin/python", world=world, devices=devices, code=Path("/runs/r/code")
    )


def test_cpu_processes_see_no_gpu_and_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(16)))
    env = environment({"CUDA_VISIBLE_DEVICES": "0,1"}, devices=None)
    assert env["CUDA_VISIBLE_DEVICES"] == ""
    assert env["OMP_NUM_THREADS"] == "8"
    assert "NCCL_RAS_ADDR" not in env


def test_gpus_are_named_in_the_order_of_their_ranks() -> None:
    env = environment({}, devices=("0", "3", "2", "1"), world=4)
    assert env["CUDA_VISIBLE_DEVICES"] == "0,3,2,1"
    assert env["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    assert env["NCCL_NVLS_ENABLE"] == "0"
    assert env["NCCL_DEBUG"] == "INFO"
    host, port = env["NCCL_RAS_ADDR"].split(":")
    assert host == "localhost" and 1024 <= int(port) < 65536


def test_what_the_user_set_stays() -> None:
    own = {"NCCL_NVLS_ENABLE": "1", "NCCL_DEBUG": "WARN", "OMP_NUM_THREADS": "3", "NCCL_RAS_ADDR": "localhost:9"}
    env = environment(own, devices=("0", "1"))
    assert {name: env[name] for name in own} == own


def test_the_allocator_of_a_gpu_gets_segments_that_grow_unless_the_user_chose() -> None:
    assert environment({}, devices=("0",))["PYTORCH_CUDA_ALLOC_CONF"] == "expandable_segments:True"
    assert "PYTORCH_CUDA_ALLOC_CONF" not in environment({}, devices=None)
    own = environment({"PYTORCH_ALLOC_CONF": "max_split_size_mb:512"}, devices=("0",))
    assert "PYTORCH_CUDA_ALLOC_CONF" not in own


def test_the_trainer_comes_before_the_users_own_folders() -> None:
    env = environment({"PYTHONPATH": "/home/me/flash", "PATH": "/usr/bin"}, devices=None)
    assert env["PYTHONPATH"] == "/runs/r/code:/home/me/flash"
    assert env["PATH"] == "/venv/bin:/usr/bin"
    assert env["PYTHONSAFEPATH"] == "1"
    assert environment({}, devices=None)["PYTHONPATH"] == "/runs/r/code"


@pytest.mark.parametrize(
    ("cores", "world", "gpu", "expected"), [(16, 2, False, 8), (2, 4, False, 1), (192, 8, True, 8), (16, 8, True, 2)]
)
def test_a_rank_takes_its_share_of_the_cores(
    monkeypatch: pytest.MonkeyPatch, cores: int, world: int, gpu: bool, expected: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(cores)))
    assert threads(world, gpu=gpu) == expected


def test_a_free_port_can_be_listened_on() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", free_port()))


def test_only_a_resume_tells_the_trainer_to_go_on() -> None:
    assert "CPADVISOR_RESUME" not in environment({"CPADVISOR_RESUME": "1"}, devices=None)
    resumed = run_environment({}, run_dir=RUN, python="python", world=2, devices=None, code=None, resume=True)
    assert resumed["CPADVISOR_RESUME"] == "1"


def test_only_variables_that_bear_on_the_training_are_recorded() -> None:
    env = {"NCCL_DEBUG": "INFO", "HF_TOKEN": "hf_x", "WANDB_API_KEY": "k", "CUDA_VISIBLE_DEVICES": "0", "HOME": "/root"}
    assert recorded(env) == {"CUDA_VISIBLE_DEVICES": "0", "NCCL_DEBUG": "INFO"}
