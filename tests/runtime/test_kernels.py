import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_attention import assert_close, causal_mask, inputs, packed_mask, truth
from torch import Tensor

from runtime import kernels
from runtime.kernels import CPU, CUDNN, FLASH, Kernel

CUTS = (0, 3, 4, 11, 16)


def passes(kernel: Kernel, q: Tensor, k: Tensor, v: Tensor, dout: Tensor, causal: bool, cuts: kernels.Cuts = ()):
    out, lse = kernel.forward(q, k, v, causal, cuts)
    return out, lse, *kernel.backward(dout, q, k, v, out, lse, causal, cuts)


def test_queries_of_zero_give_the_mean_of_the_keys_seen_and_the_logarithm_of_their_number() -> None:
    nothing = torch.zeros(1, 4, 1, 8)
    values = torch.tensor([1.0, 3.0, 8.0, 0.0]).view(1, 4, 1, 1).expand(1, 4, 1, 8).contiguous()
    out, lse = CPU.forward(nothing, nothing, values, True)
    assert out[0, :, 0, 0].tolist() == pytest.approx([1.0, 2.0, 4.0, 3.0])
    assert lse[0, 0].tolist() == pytest.approx([0.0, math.log(2), math.log(3), math.log(4)])


@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 4), (4, 2), (4, 1), (3, 1)])
def test_the_cpu_kernel_is_causal_attention_forward_and_backward(heads: int, kv_heads: int) -> None:
    tensors = inputs(16, heads=heads, kv_heads=kv_heads)
    assert_close(passes(CPU, *tensors, True), truth(*tensors, causal_mask(16)))


@pytest.mark.parametrize(("queries", "keys"), [(16, 16), (8, 16), (16, 8), (5, 7)])
def test_the_cpu_kernel_takes_full_blocks_of_unequal_sides(queries: int, keys: int) -> None:
    tensors = inputs(queries, keys)
    assert_close(passes(CPU, *tensors, False), truth(*tensors, None))


def test_backward_of_two_blocks_with_the_final_out_and_lse_adds_up_to_the_whole() -> None:
    q, k, v, dout = inputs(8, 16)
    out, lse, *expected = truth(q, k, v, dout, None)
    halves = [
        CPU.backward(dout, q, k[:, keys], v[:, keys], out.float(), lse.float(), False)
        for keys in (slice(0, 8), slice(8, 16))
    ]
    (dq_0, dk_0, dv_0), (dq_1, dk_1, dv_1) = halves
    assert_close((dq_0 + dq_1, torch.cat((dk_0, dk_1), 1), torch.cat((dv_0, dv_1), 1)), tuple(expected))


def test_slices_of_longer_tensors_are_taken_as_they_are() -> None:
    q, k, v, dout = inputs(16)
    late = slice(8, 16)
    out, lse = CPU.forward(q, k, v, False)
    got = CPU.backward(dout[:, late], q[:, late], k[:, late], v[:, late], out[:, late], lse[:, :, late], False)
    whole = (dout[:, late], q[:, late], k[:, late], v[:, late], out[:, late], lse[:, :, late])
    expected = CPU.backward(*(tensor.contiguous() for tensor in whole), False)
    assert all(torch.equal(value, right) for value, right in zip(got, expected, strict=True))


@settings(deadline=None)
@given(st.sets(st.integers(1, 15)), st.sampled_from([(4, 4), (4, 2), (2, 1)]))
def test_documents_one_after_the_other_equal_the_masked_whole(inner: set[int], heads: tuple[int, int]) -> None:
    cuts = (0, *sorted(inner), 16)
    tensors = inputs(16, batch=1, heads=heads[0], kv_heads=heads[1])
    assert_close(passes(CPU, *tensors, True, cuts), truth(*tensors, packed_mask(cuts)))


class Recorder:
    """A kernel that notes its calls and gives back the CPU kernel's results."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[int, ...], object]] = []
        self.kernel = Kernel(
            name="recorder",
            block_forward=self.block_forward,
            block_backward=self.block_backward,
            packed_forward=self.packed_forward,
            packed_backward=self.packed_backward,
        )

    def block_forward(self, q: Tensor, k: Tensor, v: Tensor, causal: bool):
        self.calls.append(("block forward", tuple(q.shape), causal))
        return CPU.block_forward(q, k, v, causal)

    def block_backward(self, dout: Tensor, *given: object):
        self.calls.append(("block backward", tuple(dout.shape), given[-1]))
        return CPU.block_backward(dout, *given)  # pyright: ignore[reportArgumentType]

    def packed_forward(self, q: Tensor, k: Tensor, v: Tensor, cuts: kernels.Cuts):
        self.calls.append(("packed forward", tuple(q.shape), cuts))
        out, lse = CPU.forward(q[None], k[None], v[None], True, cuts)
        return out[0], lse[0]

    def packed_backward(
        self, dout: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, cuts: kernels.Cuts
    ):
        self.calls.append(("packed backward", tuple(dout.shape), cuts))
        whole = (tensor[None] for tensor in (dout, q, k, v, out, lse))
        dq, dk, dv = CPU.backward(*whole, True, cuts)
        return dq[0], dk[0], dv[0]


def test_a_kernel_with_packed_functions_gets_all_cuts_in_one_call_of_each_pass() -> None:
    recorder, tensors = Recorder(), inputs(16, batch=1)
    got = passes(recorder.kernel, *tensors, True, CUTS)
    # Without the batch: 16 tokens, 4 query heads of 8.
    assert recorder.calls == [("packed forward", (16, 4, 8), CUTS), ("packed backward", (16, 4, 8), CUTS)]
    assert_close(got, truth(*tensors, packed_mask(CUTS)))


@pytest.mark.parametrize("cuts", [(), (0, 16)])
def test_a_block_of_one_document_is_a_plain_causal_call(cuts: kernels.Cuts) -> None:
    recorder, tensors = Recorder(), inputs(16, batch=1)
    got = passes(recorder.kernel, *tensors, True, cuts)
    assert recorder.calls == [("block forward", (1, 16, 4, 8), True), ("block backward", (1, 16, 4, 8), True)]
    assert_close(got, truth(*tensors, causal_mask(16)))


def test_cumulative_is_the_cuts_as_int32_and_the_same_tensor_each_time() -> None:
    cpu = torch.device("cpu")
    starts = kernels.cumulative(CUTS, cpu)
    assert starts.dtype == torch.int32 and starts.tolist() == [0, 3, 4, 11, 16]
    assert kernels.cumulative(CUTS, cpu) is starts


def test_the_longest_of_documents_of_3_1_7_and_5_tokens_has_7() -> None:
    assert kernels.longest(CUTS) == 7
    assert kernels.longest((0, 9)) == 9


def test_cudnn_leaves_documents_to_flash() -> None:
    assert CUDNN.for_documents is FLASH and FLASH.packed_forward is not None and FLASH.packed_backward is not None
