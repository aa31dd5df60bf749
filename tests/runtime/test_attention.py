import pytest
import torch

from runtime import attention

GPU = torch.device("cuda", 0)


def test_a_kernel_that_does_not_run_gives_way_to_the_next_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def only_flash(kernel: attention.Kernel, *_: object) -> None:
        if kernel.name != "flash":
            raise RuntimeError("no such symbol\nmore")

    monkeypatch.setattr(attention, "_try_block", only_flash)
    choice = attention.choose_kernel(GPU, torch.bfloat16, heads=4, kv_heads=2, head_dim=64)
    assert choice.kernel.name == "flash"
    assert choice.passed_over == ("cudnn does not run here: no such symbol",)


def test_a_gpu_without_memory_says_nothing_of_its_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 MiB.")

    monkeypatch.setattr(attention, "_try_block", no_memory)
    with pytest.raises(torch.OutOfMemoryError):
        attention.choose_kernel(GPU, torch.bfloat16, heads=4, kv_heads=2, head_dim=64)
