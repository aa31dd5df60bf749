import pytest
import torch
import torch.nn.functional as F

from runtime.attention import AttentionPlace, attend
from runtime.bench import variants

CPU = torch.device("cpu")


def test_a_kernel_alone_gives_out_and_gradients_of_torch_itself():
    alone, ours = variants.own({"cpu": None}, ("ring",), "")
    q, k, v = (torch.randn(1, 16, heads, 8, requires_grad=True) for heads in (4, 2, 2))
    dout = torch.randn(1, 16, 4, 8)
    heads_first = [tensor.transpose(1, 2) for tensor in (q, k, v)]
    truth = F.scaled_dot_product_attention(*heads_first, is_causal=True, enable_gqa=True).transpose(1, 2)
    expected = [truth, *torch.autograd.grad(truth, (q, k, v), dout)]
    for variant in (alone, ours):
        out = variant.attend(q, k, v)
        for found, right in zip([out, *torch.autograd.grad(out, (q, k, v), dout)], expected, strict=True):
            torch.testing.assert_close(found, right)


def test_every_method_meets_every_kernel_and_each_kernel_stands_alone_once():
    found = variants.own({"cudnn": None, "flash": "no"}, ("ring", "ulysses"), "group")
    assert [variant.name for variant in found] == [
        "ideal one rank cudnn",
        "ideal one rank flash",
        "ours ring cudnn",
        "ours ring flash",
        "ours ulysses cudnn",
        "ours ulysses flash",
    ]
    assert [variant.skipped for variant in found] == [None, "no", None, "no", None, "no"]


def test_a_device_has_kernels_of_its_own_kind():
    assert variants.kernel_names("cpu") == ("cpu",)
    assert "cpu" not in variants.kernel_names("cuda")
    assert "cudnn" in variants.kernel_names("cuda")


def test_a_kernel_that_does_not_run_here_says_why_in_a_line():
    options = {"heads": 4, "kv_heads": 2}
    assert variants.reason_not("cpu", CPU, torch.float32, **options) is None
    if not torch.cuda.is_available():
        reason = variants.reason_not("cudnn", CPU, torch.float32, **options)
        assert reason is not None and reason.startswith("does not run: ") and "\n" not in reason


def test_a_method_that_the_trainer_lacks_is_no_variant():
    with pytest.raises(AssertionError, match="spiral"):
        attend(*[torch.zeros(1, 2, 1, 8)] * 3, None, AttentionPlace(method="spiral", kernel="cpu"))
