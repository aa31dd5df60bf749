import pytest

from cpadvisor.watch.wording import (
    first_of_kind,
    is_about_shared_memory,
    kind_of,
    port_in,
    signal_in,
    step_in,
    unwritten_path,
)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB", "out_of_memory"),
        ("torch.cuda.OutOfMemoryError: CUDA out of memory", "out_of_memory"),
        ("RuntimeError: CUDA error: out of memory", "out_of_memory"),
        ("ncclUnhandledCudaError: Cuda failure 2 'out of memory'", "out_of_memory"),
        ("RuntimeError: CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", "out_of_memory"),
        ("OSError: [Errno 28] No space left on device: '/x'", "disk_full"),
        ("OSError: [Errno 122] Disk quota exceeded", "disk_full"),
        ("code: -98, name: EADDRINUSE, message: address already in use", "port_taken"),
        ("OSError: [Errno 98] Address already in use", "port_taken"),
        ("ModuleNotFoundError: No module named 'torch'", "no_torch"),
        ("ModuleNotFoundError: No module named 'torch.distributed'", "no_torch"),
        ("ModuleNotFoundError: No module named 'torchvision'", None),
        ("MemoryError: Unable to allocate 3.00 GiB for an array", "host_memory"),
        ("OSError: [Errno 12] Cannot allocate memory", "host_memory"),
        ("the loss of step 3 is not a number", "not_a_number"),
        ("loss is inf and gradient norm nan at step 3", "not_a_number"),
        ("the loss is what it should be", None),
        ("ValueError: bad token", None),
        ("", None),
    ],
)
def test_what_torch_the_system_and_the_trainer_say_is_told_apart(text: str, kind: str | None) -> None:
    assert kind_of(text) == kind


def test_the_first_line_of_a_kind_is_found_among_others() -> None:
    assert first_of_kind(("a", "EADDRINUSE 1", "EADDRINUSE 2"), "port_taken") == "EADDRINUSE 1"
    assert first_of_kind(("a", "b"), "port_taken") is None


@pytest.mark.parametrize(
    ("line", "port"),
    [
        # torch 2.13, a C++ store that could not listen: the number behind the source file is no port.
        (
            "[W1123 19:00:00.1 socket.cpp:200] The server socket has failed to listen on any local network address. "
            "port: 29500, useIpv6: false, code: -98, name: EADDRINUSE, message: address already in use",
            29500,
        ),
        ("OSError: [Errno 98] Address already in use: ('127.0.0.1', 29511)", 29511),
        ("The server socket has failed to bind to 0.0.0.0:29512 (errno: 98 - Address already in use).", 29512),
        ("The server socket has failed to bind to [::]:29513 (errno: 98 - Address already in use).", 29513),
        ("Address already in use", None),
    ],
)
def test_the_port_of_a_taken_address_is_read_off_the_line(line: str, port: int | None) -> None:
    assert port_in(line) == port


def test_a_step_and_a_signal_are_read_off_what_was_said() -> None:
    assert step_in("loss is nan at step 12; lower learning_rate") == 12
    assert step_in("no such thing") is None
    told = "torch.distributed.elastic.multiprocessing.api.SignalException: Process 41 got signal: 1"
    assert signal_in(("x", told)) == 1
    assert signal_in(("x",)) is None


def test_shared_memory_is_known_by_its_paths() -> None:
    assert is_about_shared_memory("Error while creating shared memory segment /dev/shm/nccl-x")
    assert is_about_shared_memory("unable to write to file </torch_123_456>: No space left on device (28)")
    assert not is_about_shared_memory("cannot write /scratch/torch-runs/events: No space left on device")


@pytest.mark.parametrize(
    ("line", "path"),
    [
        ("cannot write /mnt/out/model.safetensors: No space left on device", "/mnt/out/model.safetensors"),
        ("cannot write the model to /mnt/my out (5 bytes are free there): No space", "/mnt/my out"),
        ("OSError: [Errno 28] No space left on device: '/mnt/out/x'", "/mnt/out/x"),
        ("OSError: [Errno 28] No space left on device", None),
        ('  File "/usr/lib/python3.11/shutil.py", line 256, in copyfile', None),
    ],
)
def test_the_path_that_could_not_be_written_is_read(line: str, path: str | None) -> None:
    assert unwritten_path(["step 3", line]) == path
