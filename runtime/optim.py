"""AdamW, its learning rate at each step, and the global norm of sharded gradients."""

import math
from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn

from runtime.settings import Optimization


def build(model: nn.Module, options: Optimization) -> torch.optim.AdamW:
    """AdamW over the shards; matrices and embeddings decay, norms and biases do not."""
    decayed = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    plain = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
    groups = [
        {"params": decayed, "weight_decay": options.weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        groups,
        lr=options.learning_rate,
        betas=(options.beta1, options.beta2),
        eps=options.epsilon,
        fused=options.fused,
        foreach=None if options.fused else True,
    )


def allocate_state(optimizer: torch.optim.Optimizer) -> None:
    """Give every parameter its moments, as the first step would, and change no parameter: a step of rate 0."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.zeros_like(parameter)
    set_learning_rate(optimizer, 0.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def warmup_steps(options: Optimization, steps: int) -> int:
    """Steps of rise: as given, or the ratio of all steps rounded up. Ratio 0.03 of 50: 2."""
    return options.warmup_steps if options.warmup_steps is not None else math.ceil(options.warmup_ratio * steps)


def learning_rate(step: int, *, steps: int, options: Optimization) -> float:
    """The rate of step 0, 1, ….

    Warm-up of w steps: peak x (step + 1) / w, so that the first step already
    learns. After it, with p the part of the rest that is over: cosine peak x
    (1 + cos(pi p)) / 2, linear peak x (1 - p), constant peak. Cosine without
    warm-up, step 25 of 50: half the peak.
    """
    warmup = warmup_steps(options, steps)
    if step < warmup:
        return options.learning_rate * (step + 1) / warmup
    progress = min((step - warmup) / max(steps - warmup, 1), 1.0)
    factor = {"cosine": (1 + math.cos(math.pi * progress)) / 2, "linear": 1 - progress, "constant": 1.0}
    return options.learning_rate * factor[options.schedule]


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """The same rate for every group."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def reduce_loss_and_norm(loss: Tensor, gradients: Sequence[Tensor], group: dist.ProcessGroup) -> tuple[Tensor, Tensor]:
    """Loss of the whole step and norm of the whole gradient, float32, by one all-reduce of two numbers.

    Each rank holds its share of both: its tokens' part of the mean loss, its rows of every gradient.
    """
    norm = torch.nn.utils.get_total_norm(gradients)
    both = torch.stack((loss.float(), norm.float().square()))
    dist.all_reduce(both, group=group)
    return both[0], both[1].sqrt()


def clip_(gradients: Sequence[Tensor], norm: Tensor, max_norm: float) -> None:
    """Scale gradients down so that their norm is at most `max_norm`; 0 leaves them. No host sync."""
    if max_norm > 0:
        factor = (max_norm / (norm + 1e-6)).clamp(max=1.0)
        torch._foreach_mul_(list(gradients), factor)  # pyright: ignore[reportPrivateImportUsage]
