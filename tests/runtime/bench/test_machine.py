from runtime.bench import machine


def test_the_driver_is_read_from_both_kinds_of_kernel_module(tmp_path):
    path = tmp_path / "version"
    path.write_text(
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.159.04  Release Build  (dvs)\nGCC 12.3.0\n"
    )
    assert machine.driver(path) == "580.159.04"
    path.write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.54  Tue Jun  6 2023\n")
    assert machine.driver(path) == "535.54"
    assert machine.driver(tmp_path / "none") is None


def test_versions_name_what_is_not_there_too():
    found = machine.versions()
    assert found["torch"] and found["python"]
    assert {"cuda", "cudnn", "nccl", "flash-attn", "flash-attn-4"} <= set(found)


def of_two_ranks(rank, world):
    import os

    import torch
    import torch.distributed as dist

    from runtime.bench.launch import Ranks

    os.environ["NCCL_ALGO"], os.environ["A_PASSWORD"] = "Ring", "secret"
    group = dist.group.WORLD
    return machine.describe(Ranks(rank=rank, size=world, device=torch.device("cpu"), group=group, control=group))


def test_the_environment_is_written_down_as_far_as_it_bears_on_speed(gloo_pool):
    try:
        first, second = gloo_pool.run(2, of_two_ranks)
    finally:
        gloo_pool.close()  # the variables live in the processes
    assert first == second
    assert len(first["gpus"]) == first["ranks"] == 2
    assert first["environment"]["NCCL_ALGO"] == "Ring"
    assert "secret" not in str(first)
