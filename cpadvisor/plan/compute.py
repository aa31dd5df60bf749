"""How long a GPU computes: matrix products, attention by chunk, passes over memory, kernel launches. No communication.

Seconds of one decoder layer and one micro-batch on one rank, unless the name says otherwise.
"""

from dataclasses import dataclass

from cpadvisor.plan.activations import layer_token_bytes
from cpadvisor.plan.candidate import Candidate
from cpadvisor.plan.engines import FA2_FLOPS_PER_S
from cpadvisor.plan.traffic import BACKWARD_EXCHANGES

REFERENCE_INTENSITY = 125.0
"""Attention FLOP/s over memory bytes/s of an H200 (600e12 / 4.8e12), on which the two lengths below were measured."""
KERNEL_HALF_TOKENS = 700
"""Length at which an attention kernel reaches half its rate: 570 of 620 TFLOP/s at 8,192 (flash-attn 4, H200)."""
CHUNK_HALF_TOKENS = 1600
"""Chunk at which a ring reaches half the whole kernel's rate, merge and smaller kernels together: 0.66, 0.84, 0.92,
0.95 and 0.98 of ideal at chunks of 4K to 64K (a plain zigzag ring on 2 x H200)."""
RING_HALF_TOKENS = 800
"""The same of the bundled trainer's ring: 0.82, 0.98, 0.95, 0.96 and 0.99 of ideal at chunks of 4K to 64K (flash-attn
4 on 2 x H200, copy engines; at 4K the GPU alone, its host not counted)."""
GATHERED_MERGES = 2
"""Blocks that gathered K and V leave to merge, whatever the number of ranks; a ring has one for each other rank."""

HEAD_64_SHARES = (0.75, 0.785)
"""Rates of heads of 64 over those of 128, forward and backward: cuDNN on H200, 32,768 tokens, 461 of 613 and 417 of
531 TFLOP/s. Softmax costs the same for each score, and half the products hide it."""

FORWARD_PASSES = 3
BACKWARD_PASSES = 5
"""Times that a layer's saved set crosses memory in norms, rotary positions, SwiGLU and residuals, read and write,
without a compiler. An estimate: it leaves 17 microseconds a token of Llama-3.1-8B on H200, where 24 to 34 are missing
between the roofline and what a stack of Hugging Face models was measured at."""
LOSS_PASSES = 1.5
ADAM_BYTES_PER_PARAMETER = 36
"""Clipping reads gradients (4) and rescales them (4 + 4); fused AdamW reads p, g, m, v and writes p, m, v (28), less
what stays in cache. An estimate."""

FORWARD_LAUNCHES = 25
BACKWARD_LAUNCHES = 45
RING_STEP_LAUNCHES = 8
EXCHANGE_LAUNCHES = 8
LAUNCH_S = 6e-6
"""Kernels a layer and the host's time for each, eager. An estimate: it matters for small models and short sequences."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerSeconds:
    """One layer's compute by kind; `again` is what recomputation repeats of the forward pass."""

    matmul_forward: float
    attention_forward: float
    attention_backward: float
    memory_forward: float
    memory_backward: float
    again_matmul: float
    again_attention: float
    again_memory: float

    @property
    def matmul_backward(self) -> float:
        """Gradients of inputs and of weights: twice the forward product."""
        return 2 * self.matmul_forward

    @property
    def again(self) -> float:
        """All that is recomputed in one layer."""
        return self.again_matmul + self.again_attention + self.again_memory

    @property
    def forward(self) -> float:
        """The forward pass of one layer."""
        return self.matmul_forward + self.attention_forward + self.memory_forward

    @property
    def backward(self) -> float:
        """The backward pass of one layer, with what it recomputes."""
        return self.matmul_backward + self.attention_backward + self.memory_backward + self.again


def layer_seconds(candidate: Candidate) -> LayerSeconds:
    """Compute seconds of one layer: 2 FLOPs a parameter and token forward, attention at its rate, passes over HBM."""
    matmul = 2 * candidate.model.layer_parameters / candidate.layout.tp * candidate.local_tokens
    matmul_s = matmul / candidate.gpu.matmul_flops_per_s
    forward, backward = attention_seconds(candidate)
    passed = layer_token_bytes(candidate) * candidate.local_tokens / candidate.gpu.hbm_bytes_per_s
    moved = passed * (1.0 if candidate.gpu.is_cpu else candidate.engine.pass_factor)
    recomputes, attends_again = candidate.recompute != "none", candidate.recompute == "full"
    return LayerSeconds(
        matmul_forward=matmul_s,
        attention_forward=forward,
        attention_backward=backward,
        memory_forward=FORWARD_PASSES * moved,
        memory_backward=BACKWARD_PASSES * moved,
        again_matmul=matmul_s if recomputes else 0.0,
        again_attention=forward if attends_again else 0.0,
        again_memory=FORWARD_PASSES * moved if recomputes else 0.0,
    )


def attention_flops(candidate: Candidate) -> float:
    """Forward FLOPs of one layer's causal attention on a rank: 2 S^2 q / (cp x tp) a sequence, half of the square.

    Llama-3.1-8B, 32,768 tokens, cp 8: 1.1e12.
    """
    layout = candidate.layout
    area = candidate.sequence_len * candidate.sequence_share
    return 2.0 * area * candidate.model.q_size / layout.tp * candidate.micro_batch


def attention_rates(candidate: Candidate) -> tuple[float, float]:
    """FLOP/s of the engine's kernel on this GPU, forward and backward, on long whole sequences."""
    gpu, engine = candidate.gpu, candidate.engine
    narrow = HEAD_64_SHARES if candidate.model.head_dim <= 64 and not gpu.is_cpu else (1.0, 1.0)
    cap = engine.attention_cap_flops_per_s or float("inf")
    best = gpu.attention_forward_flops_per_s, gpu.attention_backward_flops_per_s
    # Only where something beats flash-attention 2 does it matter which of the better kernels runs.
    own = (
        min(rate, cap, max(rate * share, FA2_FLOPS_PER_S))
        for rate, share in zip(best, engine.attention_share, strict=True)
    )
    forward, backward = (rate * share for rate, share in zip(own, narrow, strict=True))
    return forward, backward


def attention_efficiency(candidate: Candidate) -> float:
    """Share of those rates that this length and, for a ring or gathered K/V, this chunk length reach."""
    intensity = candidate.gpu.attention_forward_flops_per_s / candidate.gpu.hbm_bytes_per_s / REFERENCE_INTENSITY
    share = candidate.sequence_len / (candidate.sequence_len + KERNEL_HALF_TOKENS * intensity)
    if candidate.layout.cp > candidate.ulysses:
        chunk = candidate.sequence_share * candidate.ulysses
        share *= chunk / (chunk + _chunk_half_tokens(candidate) * intensity)
    return share


def _chunk_half_tokens(candidate: Candidate) -> float:
    """Chunk at which half the whole kernel's rate is reached: less where gathered K and V leave fewer blocks to merge.

    Of the bundled ring's 800 tokens 700 are the kernel's own and the rest is taken for merging: 800 at cp 2, 729 at
    cp 8. An estimate but for the ring itself.
    """
    half = RING_HALF_TOKENS if candidate.engine.cp_methods else CHUNK_HALF_TOKENS
    if candidate.ring_ranks > 1 or candidate.engine.merges_gathered:
        return half
    others = candidate.layout.cp - 1
    merging = (half - KERNEL_HALF_TOKENS) * min(GATHERED_MERGES, others) / others
    return KERNEL_HALF_TOKENS + merging


def attention_seconds(candidate: Candidate) -> tuple[float, float]:
    """Forward and backward seconds of one layer's attention; backward has 2.5 times the FLOPs."""
    forward_rate, backward_rate = attention_rates(candidate)
    flops = attention_flops(candidate) / attention_efficiency(candidate)
    return flops / forward_rate, 2.5 * flops / backward_rate


def head_seconds(candidate: Candidate) -> float:
    """Output head, forward and backward, and the loss's passes over the logits, for one micro-batch."""
    model, tokens = candidate.model, candidate.local_tokens
    product = 6 * model.embedding_parameters / candidate.layout.tp * tokens / candidate.gpu.matmul_flops_per_s
    logits = candidate.engine.bytes_per_logit * candidate.compute_bytes / 2 * model.vocab_size * tokens
    return product + LOSS_PASSES * logits / candidate.gpu.hbm_bytes_per_s


def optimizer_seconds(candidate: Candidate) -> float:
    """Clipping and AdamW of a rank's shard, once a step. Llama-3.1-8B over 8 H100: 11 ms."""
    shard = candidate.model.parameters / (candidate.layout.tp * candidate.layout.shard_group)
    return ADAM_BYTES_PER_PARAMETER * shard / candidate.gpu.hbm_bytes_per_s


def launch_seconds(candidate: Candidate) -> float:
    """Host seconds to launch the kernels of one layer, both passes."""
    launches = FORWARD_LAUNCHES + BACKWARD_LAUNCHES
    if candidate.recompute != "none":
        launches += FORWARD_LAUNCHES
    if candidate.ring_ranks > 1:
        launches += 2 * candidate.ring_ranks * RING_STEP_LAUNCHES
    if candidate.engine.cp_methods and candidate.cp_method in ("allgather", "ulysses", "usp"):
        launches += (1 + BACKWARD_EXCHANGES) * EXCHANGE_LAUNCHES
    return launches * LAUNCH_S
