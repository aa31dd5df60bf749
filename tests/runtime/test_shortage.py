import pytest
import torch

from runtime import shortage
from runtime.progress import Progress
from runtime.shortage import figures, is_shortage, reason, terms

# As torch 2.11 words it.
MESSAGE = (
    "CUDA out of memory. Tried to allocate 7.83 GiB. GPU 0 has a total capacity of 139.80 GiB of which 3.12 GiB is "
    "free. Including non-PyTorch memory, this process has 136.67 GiB memory in use. Of the allocated memory 120.50 GiB "
    "is allocated by PyTorch, and 512.00 MiB is reserved by PyTorch but unallocated. If reserved but unallocated "
    "memory is large try setting PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True to avoid fragmentation."
)
GIB = 2**30


def test_running_out_of_memory_names_the_allocation() -> None:
    assert reason(torch.OutOfMemoryError(MESSAGE)) == (
        "out of GPU memory: Tried to allocate 7.83 GiB. "
        "GPU 0 has a total capacity of 139.80 GiB of which 3.12 GiB is free"
    )
    assert reason(RuntimeError("CUDA error: out of memory\nCompile with …")) == (
        "out of GPU memory: CUDA error: out of memory"
    )
    assert reason(torch.OutOfMemoryError("")) == "out of GPU memory: "


def test_the_message_gives_its_sizes_in_bytes() -> None:
    assert figures(MESSAGE) == {
        "requested_bytes": round(7.83 * GIB),
        "limit_bytes": round(139.80 * GIB),
        "free_bytes": round(3.12 * GIB),
        "allocated_bytes": round(120.50 * GIB),
        "unused_bytes": 512 * 2**20,
    }
    assert figures("Tried to allocate 512 bytes. and 1.50 KiB is reserved by PyTorch but unallocated") == {
        "requested_bytes": 512,
        "unused_bytes": 1536,
    }
    assert figures("CUDA error: out of memory") == {}


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("whatever"),
        RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("NCCL error …\nLast error:\nCuda failure 2 'out of memory'"),
    ],
)
def test_what_says_that_a_gpu_is_full_is_a_shortage(error: RuntimeError) -> None:
    assert is_shortage(error)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("Connection closed by peer"),
        RuntimeError("CUDA error: an illegal memory access was encountered"),
        MemoryError("out of memory"),
        ValueError("CUDA error: out of memory"),
    ],
)
def test_anything_else_is_none(error: Exception) -> None:
    assert not is_shortage(error)


def test_allocated_bytes_are_parameters_gradients_moments_and_the_rest() -> None:
    matrix = torch.nn.Parameter(torch.zeros(10, 10))
    vector = torch.nn.Parameter(torch.zeros(10, dtype=torch.bfloat16))
    optimizer = torch.optim.AdamW([{"params": [matrix]}, {"params": [vector]}], foreach=True)
    assert terms(1000, optimizer) == {"parameters": 420, "gradients": 0, "optimizer": 0, "activations": 580}
    matrix.grad = torch.zeros_like(matrix)
    assert terms(1000, optimizer)["gradients"] == 400
    optimizer.step()
    # Two float32 moments of 100 elements and a float32 counter.
    assert terms(2000, optimizer) == {"parameters": 420, "gradients": 400, "optimizer": 804, "activations": 376}


def test_before_there_is_an_optimizer_parameters_are_all_that_is_held() -> None:
    assert terms(1000, None) == {"parameters": 1000, "gradients": 0, "optimizer": 0, "activations": 0}


def test_the_event_says_what_was_asked_and_who_held_the_rest() -> None:
    progress = Progress()
    progress.enter("backward", step=5)
    told = shortage.measured(
        torch.OutOfMemoryError(MESSAGE),
        progress,
        device=torch.device("cpu"),
        optimizer=torch.optim.SGD([torch.ones(1)]),
    )
    assert (told["step"], told["phase"], told["requested_bytes"]) == (5, "backward", round(7.83 * GIB))
    assert told["reserved_bytes"] == round(120.50 * GIB) + 512 * 2**20
    # 139.80 - 3.12 - 121.00: contexts and other processes.
    assert told["other_bytes"] == pytest.approx(15.68 * GIB, abs=100)
    assert sum(told["terms_bytes"].values()) == told["allocated_bytes"] == round(120.50 * GIB)


def test_what_the_message_lacks_is_asked_of_the_allocator_or_left_open() -> None:
    error = RuntimeError("CUDA error: out of memory")
    told = shortage.measured(error, Progress(), device=torch.device("cpu"), optimizer=None)
    assert (told["requested_bytes"], told["free_bytes"], told["limit_bytes"], told["other_bytes"]) == (None,) * 4
    assert told["allocated_bytes"] == told["reserved_bytes"] > 2**20
