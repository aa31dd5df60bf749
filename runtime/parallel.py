"""From a shape to a model spread over ranks: the one page with the order of the steps.

1. Build on the meta device: no memory.
2. Recomputation wraps the layers.
3. FSDP2 shards each layer and the rest over dp_shard x cp, outside recomputation,
   so that a layer is gathered once for its recomputation and its backward.
4. Each rank allocates its shards and fills them from seed or file, tensor by tensor.

Parameters are float32; on GPUs they are gathered as bfloat16 and gradients are
reduced in float32. The loss is a sum divided by the labels of the whole step, so
gradients of ranks add up and no factor is applied. Gradients are reduced in
every micro-batch and never lie whole on a rank.
"""

import torch
from torch import nn
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

from runtime import recompute, weights
from runtime.mesh import Mesh
from runtime.model import CausalLM
from runtime.model_shape import ModelShape


def build(
    shape: ModelShape,
    *,
    mesh: Mesh,
    kernel: str,
    policies: tuple[str, ...],
    source: weights.Source,
    bf16: bool,
    reshard_after_forward: bool = True,
) -> CausalLM:
    """The model of this rank, its weights in place."""
    with torch.device("meta"):
        model = CausalLM(shape, mesh.attention_place(kernel))
    recompute.apply(model, policies)
    # A single float32 process has nothing to gather, to cast or to reduce.
    if bf16 or mesh.sizes.world > 1:
        _shard(model, mesh, bf16=bf16, reshard_after_forward=reshard_after_forward)
    model.to_empty(device=mesh.device)
    model.tie()  # to_empty gives every module a tensor of its own
    weights.fill(model, source, rank=mesh.rank, world=mesh.sizes.world)
    return model


def _shard(model: CausalLM, mesh: Mesh, *, bf16: bool, reshard_after_forward: bool) -> None:
    policy = MixedPrecisionPolicy(
        param_dtype=torch.bfloat16 if bf16 else None,
        reduce_dtype=torch.float32,
        # Rotary cosines and sines enter the layers in float32 and stay so.
        cast_forward_inputs=False,
    )
    for layer in model.model.layers:
        fully_shard(layer, mesh=mesh.shard_mesh, mp_policy=policy, reshard_after_forward=reshard_after_forward)
    # Embedding, final norm and head: gathered once a pass, since backward begins with them.
    fully_shard(model, mesh=mesh.shard_mesh, mp_policy=policy)
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)
            # Gloo has no reduction with a factor; a plain sum is what is wanted anyway.
            module.set_force_sum_reduction_for_comms(True)


def local_gradients(model: nn.Module) -> list[torch.Tensor]:
    """This rank's shard of every gradient, in the order of the parameters."""
    gradients: list[torch.Tensor] = []
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, f"{name} has no gradient after backward"
        gradients.append(weights.local(parameter.grad))
    return gradients
