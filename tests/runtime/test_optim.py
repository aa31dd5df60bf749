from dataclasses import replace
from math import cos, pi

import pytest
import torch
from torch import nn

from runtime import optim
from runtime.settings import Optimization

OPTIONS = Optimization(
    learning_rate=1e-3,
    schedule="cosine",
    warmup_steps=None,
    warmup_ratio=0.0,
    weight_decay=0.1,
    beta1=0.9,
    beta2=0.999,
    epsilon=1e-8,
    max_grad_norm=1.0,
    fused=False,
    max_steps=None,
    num_epochs=1.0,
)


def rates(schedule: str, steps: int, **changes: float | int) -> list[float]:
    options = replace(OPTIONS, schedule=schedule, **changes)  # pyright: ignore[reportArgumentType]
    return [optim.learning_rate(step, steps=steps, options=options) * 1e3 for step in range(steps)]


def test_cosine_falls_to_half_in_the_middle() -> None:
    assert rates("cosine", 50)[25] == pytest.approx(0.5)
    # (1 + cos(pi 1/4)) / 2 = 0.853553
    assert rates("cosine", 4) == pytest.approx([1.0, 0.853553, 0.5, (1 + cos(3 * pi / 4)) / 2], abs=1e-6)


def test_linear_and_constant_after_two_steps_of_warm_up() -> None:
    assert rates("linear", 6, warmup_steps=2) == pytest.approx([0.5, 1.0, 1.0, 0.75, 0.5, 0.25])
    assert rates("constant", 4, warmup_steps=2) == pytest.approx([0.5, 1.0, 1.0, 1.0])


def test_a_warm_up_ratio_is_rounded_up() -> None:
    # 0.03 of 50 steps is 1.5
    assert optim.warmup_steps(replace(OPTIONS, warmup_ratio=0.03), 50) == 2
    assert optim.warmup_steps(OPTIONS, 50) == 0


def test_warm_up_longer_than_the_run_never_reaches_the_peak() -> None:
    assert rates("cosine", 2, warmup_steps=4) == pytest.approx([0.25, 0.5])


def test_norms_and_biases_do_not_decay() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2))
    decayed, plain = optim.build(model, OPTIONS).param_groups
    assert [parameter.ndim for parameter in decayed["params"]] == [2]
    assert decayed["weight_decay"] == 0.1
    assert [parameter.ndim for parameter in plain["params"]] == [1, 1, 1]
    assert plain["weight_decay"] == 0.0


def test_clipping_scales_a_3_4_gradient_to_length_one_and_leaves_a_short_one() -> None:
    gradients = [torch.tensor([3.0]), torch.tensor([4.0])]
    optim.clip_(gradients, torch.tensor(5.0), 1.0)
    assert [gradient.item() for gradient in gradients] == pytest.approx([0.6, 0.8], rel=1e-5)
    optim.clip_(gradients, torch.tensor(1.0), 2.0)
    assert [gradient.item() for gradient in gradients] == pytest.approx([0.6, 0.8], rel=1e-5)
    optim.clip_(gradients, torch.tensor(1.0), 0.0)
    assert [gradient.item() for gradient in gradients] == pytest.approx([0.6, 0.8], rel=1e-5)
