"""What differs between the trainers that a plan can be for: legal axes, memory terms, kernels.

One frozen record an engine. `cpadvisor` is the bundled trainer; the two axolotl
records follow its wheels 0.20.0 and 0.21.0 (transformers 5.17.0 and 5.20.1,
accelerate 1.15.0, axolotl-ringmaster 0.2.7).
"""

from dataclasses import dataclass

from cpadvisor.errors import UsageError

FA2_FLOPS_PER_S = 330e12
"""Flash-attention 2 issues Ampere's matrix instructions, so it stays near this on newer products:
325 to 327 TFLOP/s forward and backward at 16K to 64K on one H200, where the best kernel reaches 620."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """One trainer as the planner sees it. Bytes are a parameter's or a logit's."""

    name: str
    runs_on_cpu: bool
    """In float32, with gloo."""
    tensor_parallel: bool
    replicas: bool
    tp_with_cp: bool
    """Whether tp and cp above 1 start together."""
    tp_with_replicas: bool
    tp_with_tied_embeddings: bool
    pads_sequence: bool
    """Pads a length that does not split; otherwise zigzag needs 2 x cp equal chunks."""
    always_fsdp: bool
    """Wraps even a group of one in FSDP, so that the compute-precision copy is a layer's, not the model's."""
    cp_methods: tuple[str, ...]
    """Methods of context parallelism that its config can ask for. Empty where its own selector decides: all-to-all
    over heads as far as they divide, all-gather over the rest."""
    merges_gathered: bool
    """Attends to gathered K and V chunk by chunk, with merges, as torch's own ring does; otherwise in one piece."""
    recompute_policies: tuple[str, ...]
    """Fastest first."""
    reduce_bytes: int
    """Width of a gradient on the wire of the reduce-scatter."""
    accumulated_gradient_bytes: int
    """Width of the unsharded gradients that a rank keeps between micro-batches where their reduction is deferred;
    0 where the engine reduces in each."""
    bytes_per_logit: int
    loss_chunk_logits: int | None
    """Logits that exist at a time; None for those of the whole local sequence."""
    loss_gradient_bytes: int
    """Width of what the loss itself holds of the head's gradient, beside the gradient."""
    norm_copies: int
    """Copies of the hidden state that a layer's two norms and residuals leave for the backward pass."""
    sequence_parallel: bool
    """Whether TP also splits norms and residuals along the sequence."""
    attention_cap_flops_per_s: float | None
    """Ceiling of the attention kernel that the engine's config asks for; None takes the GPU's best."""
    attention_share: tuple[float, float]
    """Forward and backward rate of the engine's kernel over the best one, on products where one beats FA2."""
    pass_factor: float
    """Passes over memory beside the count in compute.py, for code that no compiler has fused."""


CPADVISOR = Engine(
    name="cpadvisor",
    runs_on_cpu=True,
    tensor_parallel=False,
    replicas=False,
    tp_with_cp=True,
    tp_with_replicas=True,
    tp_with_tied_embeddings=True,
    pads_sequence=False,
    always_fsdp=True,
    cp_methods=("ring", "allgather", "ulysses", "usp"),
    merges_gathered=False,
    recompute_policies=("none", "attention_saved", "full"),
    reduce_bytes=4,
    accumulated_gradient_bytes=0,
    bytes_per_logit=12,  # bf16 logits 2, float32 copy 4, its exponential's reduction 4, bf16 gradient 2
    loss_chunk_logits=2**27,  # runtime/loss.py
    loss_gradient_bytes=4,  # summed over chunks in float32
    norm_copies=4,
    sequence_parallel=True,
    attention_cap_flops_per_s=None,
    # cuDNN at 32,768 tokens, 32:8 heads of 128 on H200: 613 and 531 TFLOP/s beside the table's 640 and 600.
    attention_share=(0.96, 0.885),
    # Fitted on Llama-3.2-1B at 32,768 tokens and 3B at 16,384 on one H200 (1.157 s, 1.167 s a step); Qwen3-0.6B at
    # 32,768 tokens, not fitted, took 1.361 s.
    pass_factor=2.9,
)

AXOLOTL_021 = Engine(
    name="axolotl-0.21",
    runs_on_cpu=False,
    tensor_parallel=True,
    replicas=True,
    # transformers >= 5.18 sets dp_shard to world // tp itself; with cp or replicas from the environment the mesh
    # then exceeds the world (transformers 5.20.1 trainer.py:777-790, axolotl loaders/model.py:1268-1280).
    tp_with_cp=False,
    tp_with_replicas=False,
    tp_with_tied_embeddings=False,  # axolotl loaders/utils.py:139-148
    pads_sequence=True,  # ringmaster/shard.py:34
    always_fsdp=False,
    cp_methods=(),
    merges_gathered=True,
    recompute_policies=("none", "full"),
    reduce_bytes=2,  # accelerate FSDP2 with bf16: true sets reduce_dtype to bf16
    accumulated_gradient_bytes=2,  # accelerate no_sync keeps them whole, in the reduce dtype
    bytes_per_logit=6,  # compiled chunked_cross_entropy: bf16 logits, their gradient's chunks and its whole; 14 without
    loss_chunk_logits=None,
    loss_gradient_bytes=0,
    norm_copies=8,  # Hugging Face's RMSNorm works on a float32 copy
    sequence_parallel=False,
    attention_cap_flops_per_s=FA2_FLOPS_PER_S,
    attention_share=(1.0, 1.0),
    pass_factor=1.0,
)

AXOLOTL_020 = Engine(
    name="axolotl-0.20",
    runs_on_cpu=False,
    tensor_parallel=True,
    replicas=True,
    tp_with_cp=True,  # transformers 5.17.0 passes tp_size alone
    tp_with_replicas=True,
    tp_with_tied_embeddings=False,
    pads_sequence=True,
    always_fsdp=False,
    cp_methods=(),
    merges_gathered=True,
    recompute_policies=("none", "full"),
    reduce_bytes=2,
    accumulated_gradient_bytes=2,
    bytes_per_logit=6,
    loss_chunk_logits=None,
    loss_gradient_bytes=0,
    norm_copies=8,
    sequence_parallel=False,
    attention_cap_flops_per_s=FA2_FLOPS_PER_S,
    attention_share=(1.0, 1.0),
    pass_factor=1.0,
)

_ENGINES = {engine.name: engine for engine in (CPADVISOR, AXOLOTL_021, AXOLOTL_020)}

SYNC_EACH_BATCH = "accelerator_config: {gradient_accumulation_kwargs: {sync_each_batch: true}}"
"""The line of an axolotl config that reduces gradients after each micro-batch and so keeps them sharded."""


def find_engine(name: str) -> Engine:
    """The record of an engine by its name. Raises UsageError that lists the names."""
    if name not in _ENGINES:
        raise UsageError(f"engine {name!r} is unknown; use one of {', '.join(_ENGINES)}")
    return _ENGINES[name]
