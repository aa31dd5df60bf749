import pytest

from runtime.bench.shape import Shape, forward_flops


def test_the_forward_pass_of_8192_tokens_with_32_heads_of_128_is_550_gflop():
    assert forward_flops(tokens=8192, heads=32, head_dim=128) == 549_755_813_888


def test_backward_is_two_and_a_half_forward_passes_and_key_value_heads_change_nothing():
    grouped, full = (Shape(tokens=8192, heads=32, kv_heads=kv_heads, ranks=2) for kv_heads in (8, 32))
    assert grouped.flops("backward") == 2.5 * grouped.flops("forward")
    assert grouped.flops("both") == grouped.flops("forward") + grouped.flops("backward")
    assert grouped.flops("both") == full.flops("both")


def test_the_measured_ideal_of_two_gpus_is_604_tflops_a_gpu():
    shape = Shape(tokens=16384, heads=32, kv_heads=8, ranks=2)
    # 3.5 x 2 x 16,384^2 x 4,096 / 2 / 6.37 ms
    assert shape.flops_per_s("both", 6.37e-3) / 1e12 == pytest.approx(604, abs=0.5)
