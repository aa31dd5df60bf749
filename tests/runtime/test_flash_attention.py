import importlib
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import fake_flash_attn as fakes
import pytest
import torch
from plain_attention import assert_close, causal_mask, inputs, packed_mask, truth

from runtime import flash_attention
from runtime.flash_attention import FLASH_ATTN_2, FLASH_ATTN_3, FLASH_ATTN_4
from runtime.kernels import Cuts, Kernel

Functions = dict[str, Callable[..., Any]]

VERSION_2: Functions = {
    "_flash_attn_forward": fakes.forward_2,
    "_flash_attn_backward": fakes.backward_2,
    "_flash_attn_varlen_forward": fakes.varlen_forward_2,
    "_flash_attn_varlen_backward": fakes.varlen_backward_2,
}
VERSION_3: Functions = {"_flash_attn_forward": fakes.forward_3, "_flash_attn_backward": fakes.backward_3}
EARLY_3: Functions = {"_flash_attn_forward": fakes.early_forward_3, "_flash_attn_backward": fakes.early_backward_3}
VERSION_4: Functions = {"_flash_attn_fwd": fakes.forward_4, "_flash_attn_bwd": fakes.backward_4}
EARLY_4: Functions = {"_flash_attn_fwd": fakes.early_forward_4, "_flash_attn_bwd": fakes.early_backward_4}

PACKAGES = [
    pytest.param(FLASH_ATTN_2, flash_attention.FLASH_ATTN_2_MODULE, VERSION_2, id="2.8"),
    pytest.param(FLASH_ATTN_3, flash_attention.FLASH_ATTN_3_MODULE, VERSION_3, id="3"),
    pytest.param(FLASH_ATTN_3, flash_attention.FLASH_ATTN_3_MODULE, EARLY_3, id="early 3"),
    pytest.param(FLASH_ATTN_4, flash_attention.FLASH_ATTN_4_MODULE, VERSION_4, id="4"),
    pytest.param(FLASH_ATTN_4, flash_attention.FLASH_ATTN_4_MODULE, EARLY_4, id="early 4"),
]
every_package = pytest.mark.parametrize(("kernel", "module", "functions"), PACKAGES)

CUTS = (0, 3, 4, 11, 16)


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """What an adapter found is kept for good; each test has packages of its own."""
    flash_attention._function.cache_clear()
    yield
    flash_attention._function.cache_clear()


def install(monkeypatch: pytest.MonkeyPatch, module: str, functions: Functions) -> None:
    """Let a module of these functions be importable under its dotted name."""
    names = module.split(".")
    for depth in range(1, len(names) + 1):
        package = ModuleType(".".join(names[:depth]))
        package.__path__ = []
        monkeypatch.setitem(sys.modules, package.__name__, package)
    for name, function in functions.items():
        setattr(sys.modules[module], name, function)


def passes(kernel: Kernel, tensors: tuple[torch.Tensor, ...], causal: bool, cuts: Cuts = ()):
    q, k, v, dout = tensors
    out, lse = kernel.forward(q, k, v, causal, cuts)
    assert lse.dtype == torch.float32
    return out, lse, *kernel.backward(dout, q, k, v, out, lse, causal, cuts)


@every_package
def test_a_causal_block_is_right_forward_and_backward(monkeypatch, kernel, module, functions) -> None:
    install(monkeypatch, module, functions)
    tensors = inputs(16)
    assert_close(passes(kernel, tensors, True), truth(*tensors, causal_mask(16)))


@every_package
@pytest.mark.parametrize(("queries", "keys"), [(16, 16), (8, 16), (16, 8)])
def test_a_full_block_is_right_forward_and_backward(monkeypatch, kernel, module, functions, queries, keys) -> None:
    install(monkeypatch, module, functions)
    tensors = inputs(queries, keys)
    assert_close(passes(kernel, tensors, False), truth(*tensors, None))


@every_package
def test_packed_documents_are_right_forward_and_backward(monkeypatch, kernel, module, functions) -> None:
    install(monkeypatch, module, functions)
    tensors = inputs(16, batch=1)
    assert_close(passes(kernel, tensors, True, CUTS), truth(*tensors, packed_mask(CUTS)))


@every_package
def test_backward_takes_out_and_lse_from_outside_and_in_slices(monkeypatch, kernel, module, functions) -> None:
    install(monkeypatch, module, functions)
    q, k, v, dout = inputs(16, 24)
    out, lse, *_ = truth(q, k, v, dout, None)
    late = slice(8, 16)
    dq = torch.zeros_like(q[:, late])
    for keys in (slice(0, 8), slice(8, 24)):
        dq += kernel.backward(
            dout[:, late], q[:, late], k[:, keys], v[:, keys], out.float()[:, late], lse.float()[:, :, late], False
        )[0]
    _, _, expected, _, _ = truth(q[:, late], k, v, dout[:, late], None)
    assert_close((dq,), (expected,))


def test_a_function_is_looked_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, flash_attention.FLASH_ATTN_2_MODULE, VERSION_2)
    imported: list[str] = []
    find = importlib.import_module
    monkeypatch.setattr(importlib, "import_module", lambda name: imported.append(name) or find(name))
    for _ in range(3):
        passes(FLASH_ATTN_2, inputs(16), True)
    assert imported == [flash_attention.FLASH_ATTN_2_MODULE] * 2, "forward and backward, each once"


def test_a_package_without_the_function_says_so_when_it_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, flash_attention.FLASH_ATTN_2_MODULE, {})
    q, k, v, _ = inputs(16)
    with pytest.raises(AttributeError, match="_flash_attn_forward"):
        FLASH_ATTN_2.forward(q, k, v, True)
