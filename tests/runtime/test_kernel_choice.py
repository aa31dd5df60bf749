import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from runtime import kernel_choice
from runtime.flash_attention import FLASH_ATTN_2_MODULE, FLASH_ATTN_4_MODULE
from runtime.kernel_choice import choose_kernel, usable_kernels
from runtime.kernels import CPU, Kernel

GPU = torch.device("cuda", 0)
AMPERE, HOPPER, BLACKWELL = (8, 0), (9, 0), (10, 0)
SHAPE = {"heads": 4, "kv_heads": 2, "head_dim": 64}
PIP_4 = "pip install 'flash-attn-4[cu13]'"


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Lets there be a GPU, packages on it, and what the trial of each kernel finds: an error to raise, or how wrong."""

    def make(capability: tuple[int, int], *, installed: set[str], found: dict[str, object] | None = None) -> None:
        def trial(kernel: Kernel, *_: object) -> float:
            result = (found or {}).get(kernel.name, 0.004)
            if isinstance(result, Exception):
                raise result
            assert isinstance(result, float)
            return result

        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
        monkeypatch.setattr(kernel_choice, "_is_installed", lambda module: module in installed)
        monkeypatch.setattr(kernel_choice, "_try_block", trial)

    return make


ALL = {candidate.module for candidate in kernel_choice.CANDIDATES if candidate.module}


@pytest.mark.parametrize(
    ("capability", "names"),
    [
        (AMPERE, ["cudnn", "flash_attn_2", "flash"]),
        (HOPPER, ["flash_attn_4", "flash_attn_3", "cudnn", "flash_attn_2", "flash"]),
        (BLACKWELL, ["flash_attn_4", "cudnn", "flash_attn_2", "flash"]),
    ],
)
def test_the_best_comes_first_and_what_was_not_made_for_a_gpu_is_left_out(gpu, capability, names) -> None:
    gpu(capability, installed=ALL)
    assert usable_kernels(GPU, torch.bfloat16, **SHAPE) == names
    choice = choose_kernel(GPU, torch.bfloat16, **SHAPE)
    assert (choice.kernel.name, choice.passed_over) == (names[0], ())


def test_a_package_that_one_command_installs_is_told_with_its_cost_and_others_are_not(gpu) -> None:
    gpu(HOPPER, installed=set())
    choice = choose_kernel(GPU, torch.bfloat16, **SHAPE)
    assert choice.kernel.name == "cudnn"
    # 620 over 549 TFLOPS is 1.129. flash-attn 3 has to be built: it is no loss that it is missing.
    assert choice.passed_over == (
        f"flash_attn_4 is not installed ({PIP_4}): attention takes cudnn, about 1.13 times slower on long sequences",
    )


def test_a_kernel_that_raises_gives_way_with_the_first_line_of_its_reason(gpu) -> None:
    gpu(AMPERE, installed=set(), found={"cudnn": RuntimeError("no such symbol\nmore")})
    choice = choose_kernel(GPU, torch.bfloat16, **SHAPE)
    assert choice.kernel.name == "flash"
    # 549 over 325 TFLOPS is 1.689.
    assert choice.passed_over == (
        "cudnn does not run here: no such symbol: attention takes flash, about 1.69 times slower on long sequences",
    )


class CompilerError(Exception):
    """An error that only its own package knows."""


@pytest.mark.parametrize("error", [CompilerError("bad tile"), KeyError("bad tile"), OSError("bad tile")])
def test_whatever_a_package_raises_its_kernel_gives_way(gpu, error: Exception) -> None:
    gpu(HOPPER, installed=ALL, found={"flash_attn_4": error})
    choice = choose_kernel(GPU, torch.bfloat16, **SHAPE)
    assert choice.kernel.name == "flash_attn_3"
    assert "flash_attn_4 does not run here: " in choice.passed_over[0] and "bad tile" in choice.passed_over[0]


def test_an_error_without_words_is_told_by_its_kind(gpu) -> None:
    gpu(AMPERE, installed=set(), found={"cudnn": AssertionError()})
    assert (
        choose_kernel(GPU, torch.bfloat16, **SHAPE)
        .passed_over[0]
        .startswith("cudnn does not run here: AssertionError: attention takes flash")
    )


@pytest.mark.parametrize(("wrong", "told"), [(0.02, "2.0e-02"), (1.0, "1.0e+00"), (float("nan"), "nan")])
def test_a_kernel_with_wrong_numbers_gives_way_and_says_by_how_much(gpu, wrong: float, told: str) -> None:
    gpu(AMPERE, installed=set(), found={"cudnn": wrong})
    choice = choose_kernel(GPU, torch.bfloat16, **SHAPE)
    assert choice.kernel.name == "flash"
    assert choice.passed_over[0].startswith(f"cudnn is wrong here by {told} relative: attention takes flash")
    assert usable_kernels(GPU, torch.bfloat16, **SHAPE) == ["flash"]


def test_a_gpu_without_memory_says_nothing_of_its_kernels(gpu) -> None:
    gpu(AMPERE, installed=set(), found={"cudnn": torch.OutOfMemoryError("CUDA out of memory. Tried 2.00 MiB.")})
    with pytest.raises(torch.OutOfMemoryError):
        choose_kernel(GPU, torch.bfloat16, **SHAPE)


def test_where_no_kernel_is_of_use_every_reason_is_given(gpu) -> None:
    gpu(
        BLACKWELL, installed={FLASH_ATTN_2_MODULE}, found={"cudnn": 0.5, "flash_attn_2": 0.25, "flash": ValueError("x")}
    )
    with pytest.raises(RuntimeError) as raised:
        choose_kernel(GPU, torch.float16, **SHAPE)
    assert str(raised.value) == (
        "no attention kernel runs torch.float16 heads of 64 on cuda:0: flash_attn_4 is not installed; "
        "flash_attn_3 was not made for this GPU; cudnn is wrong here by 5.0e-01 relative; "
        "flash_attn_2 is wrong here by 2.5e-01 relative; flash does not run here: x"
    )


def test_float32_on_a_gpu_is_refused_with_the_key_that_mends_it() -> None:
    with pytest.raises(RuntimeError, match=r"no attention kernel of a GPU computes in torch\.float32; use bf16: true"):
        choose_kernel(GPU, torch.float32, **SHAPE)


def test_a_cpu_takes_its_own_kernel_in_any_dtype() -> None:
    cpu = torch.device("cpu")
    assert choose_kernel(cpu, torch.float32, **SHAPE).kernel is CPU
    assert usable_kernels(cpu, torch.float32, **SHAPE) == ["cpu"]


def test_a_package_that_is_there_and_does_not_load_is_installed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "flash_attn").mkdir()
    (tmp_path / "flash_attn" / "__init__.py").write_text("raise ImportError('undefined symbol: _ZN3c104cuda')")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "flash_attn", raising=False)
    # Its parent is imported to find it, so both versions under this name are told why.
    assert kernel_choice._is_installed(FLASH_ATTN_2_MODULE)
    assert kernel_choice._is_installed(FLASH_ATTN_4_MODULE)


def test_a_package_of_another_version_alone_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    only_2 = ModuleType("flash_attn")
    only_2.__path__ = []
    monkeypatch.setitem(sys.modules, "flash_attn", only_2)
    assert not kernel_choice._is_installed(FLASH_ATTN_4_MODULE)
    assert kernel_choice._is_installed("json.decoder")


def with_own_results(dout, q, k, v, out, lse, causal):
    return CPU.block_backward(dout, q, k, v, *CPU.block_forward(q, k, v, causal), causal)


def square_only(q, k, v, causal):
    out, lse = CPU.block_forward(q, k, v, causal)
    return (out, lse) if q.shape[1] == k.shape[1] else (torch.zeros_like(out), lse)


def spoiled(**changes: Callable[..., Any]) -> Kernel:
    return dataclasses.replace(CPU, **changes)


def with_gradient(index: int, spoil: Callable[[Tensor], Tensor]) -> Callable[..., Any]:
    def backward(*given: Any) -> tuple[Tensor, ...]:
        grads = list(CPU.block_backward(*given))
        grads[index] = spoil(grads[index])
        return tuple(grads)

    return backward


def with_lse_moved(q: Tensor, k: Tensor, v: Tensor, causal: bool) -> tuple[Tensor, Tensor]:
    out, lse = CPU.block_forward(q, k, v, causal)
    return out, lse + 0.5


def without_mask(q: Tensor, k: Tensor, v: Tensor, causal: bool) -> tuple[Tensor, Tensor]:
    return CPU.block_forward(q, k, v, False)


def always_masked(q: Tensor, k: Tensor, v: Tensor, causal: bool) -> tuple[Tensor, Tensor]:
    return CPU.block_forward(q, k, v, True)


def trial(kernel: Kernel, dtype: torch.dtype) -> float:
    return kernel_choice._try_block(kernel, torch.device("cpu"), dtype, 4, 2, 16)


@pytest.mark.parametrize(("dtype", "most"), [(torch.float32, 1e-5), (torch.bfloat16, 1e-2)])
def test_the_trial_finds_a_right_kernel_right(dtype: torch.dtype, most: float) -> None:
    assert trial(CPU, dtype) < most


SPOILED = {
    "dq of a tenth too much": spoiled(block_backward=with_gradient(0, lambda grad: grad * 1.1)),
    "dk of zero": spoiled(block_backward=with_gradient(1, torch.zeros_like)),
    "dv of the wrong sign": spoiled(block_backward=with_gradient(2, torch.neg)),
    "a late row of dv not a number": spoiled(
        block_backward=with_gradient(2, lambda grad: grad.index_fill(1, torch.tensor([grad.shape[1] - 1]), torch.nan))
    ),
    "a log-sum-exp moved by a half": spoiled(block_forward=with_lse_moved),
    "a backward with an output and log-sum-exp of its own": spoiled(block_backward=with_own_results),
    "zeros where keys are fewer than queries": spoiled(block_forward=square_only),
    "no causal mask": spoiled(block_forward=without_mask),
    "a causal mask on full blocks": spoiled(block_forward=always_masked),
}


@pytest.mark.parametrize("kernel", SPOILED.values(), ids=SPOILED)
def test_the_trial_notices_a_spoiled_kernel(kernel: Kernel) -> None:
    assert not trial(kernel, torch.bfloat16) < kernel_choice.TOLERANCE


@pytest.mark.parametrize("loaded", [91900, 91901, 92000, 100000])
def test_a_cudnn_as_new_as_the_one_torch_was_built_with_is_fine(loaded: int) -> None:
    assert kernel_choice._cudnn_warning((9, 19, 0), loaded, "/usr/lib/libcudnn.so.9") is None


def test_an_older_cudnn_is_told_with_both_versions_its_path_and_the_mend() -> None:
    # 549 over 325 TFLOPS is 1.69.
    assert kernel_choice._cudnn_warning((9, 19, 0), 90100, "/usr/lib/libcudnn.so.9") == (
        "cuDNN 9.1.0 (/usr/lib/libcudnn.so.9) shadows the 9.19.0 that torch was built with: attention may fall back "
        "to a kernel about 1.7 times slower; take its folder out of LD_LIBRARY_PATH"
    )
    assert (kernel_choice._cudnn_warning((9, 19, 2), 91901, None) or "").startswith("cuDNN 9.19.1 shadows the 9.19.2")


MAPS = """\
7f1c00000000-7f1c00200000 r-xp 00000000 08:01 131 /usr/lib/x86_64-linux-gnu/libc.so.6
7f1c10000000-7f1c10200000 r--p 00000000 08:01 977 /opt/cuda/lib64/libcudnn_graph.so.9.1.0
7f1c20000000-7f1c20200000 r--p 00000000 08:01 978 /opt/cuda/lib64/libcudnn.so.9.1.0
7f1c20200000-7f1c20400000 r-xp 00200000 08:01 978 /opt/cuda/lib64/libcudnn.so.9.1.0
7fff00000000-7fff00021000 rw-p 00000000 00:00 0 [stack]
"""


def test_the_loaded_cudnn_is_found_among_the_mapped_files() -> None:
    assert kernel_choice._cudnn_path(MAPS) == "/opt/cuda/lib64/libcudnn.so.9.1.0"
    assert kernel_choice._cudnn_path("") is None


def test_the_warning_is_of_the_cudnn_that_this_process_has_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    class OfTorch:
        getCompileVersion = staticmethod(lambda: (9, 19, 0))  # noqa: N815

    monkeypatch.setattr(torch.backends.cudnn, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 90100)
    monkeypatch.setattr(torch._C, "_cudnn", OfTorch, raising=False)
    monkeypatch.setattr(kernel_choice, "_maps", lambda: MAPS)
    assert (kernel_choice.shadowed_cudnn() or "").startswith("cuDNN 9.1.0 (/opt/cuda/lib64/libcudnn.so.9.1.0) shadows")
    monkeypatch.setattr(torch.backends.cudnn, "is_available", lambda: False)
    assert kernel_choice.shadowed_cudnn() is None
