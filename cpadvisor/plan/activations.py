"""Bytes a token that one decoder layer keeps for its backward pass, and what is alive while that runs.

The tensors were counted with saved-tensor hooks on torch 2.13 for the Llama family; the
formula leaves out a norm's 4 bytes and shared rotary tables. A width c is 2 bytes in bf16
and 4 in float32.
"""

from cpadvisor.plan.attention_memory import backward_workspace, cp_buffers
from cpadvisor.plan.candidate import Candidate
from cpadvisor.plan.traffic import FLOAT32_BYTES


def layer_token_bytes(candidate: Candidate) -> float:
    """Everything that one layer saves for one token when nothing is recomputed.

    c x (norm copies x hidden + 2 q + 2 kv + 4 intermediate) + 4 heads, TP splitting all but norms and residuals
    (which it also splits under sequence parallelism, at the price of the gathered inputs of two products). Llama-3.1-8B
    in bf16: 168,064 with fused norms (counted: 168,072), 200,832 with Hugging Face's (counted: 201,352).
    """
    model, tp, width = candidate.model, candidate.layout.tp, candidate.compute_bytes
    hidden = width * candidate.engine.norm_copies * model.hidden_size
    attention = width * (2 * model.q_size + 2 * model.kv_size) + FLOAT32_BYTES * model.heads
    split = attention + mlp_token_bytes(candidate) * tp
    if not candidate.engine.sequence_parallel:
        return hidden + split / tp
    gathered = 2 * width * model.hidden_size * (1 - 1 / tp)
    return (hidden + split) / tp + gathered


def mlp_token_bytes(candidate: Candidate) -> float:
    """The part of a layer's set that SwiGLU saves: gate, up, silu(gate) and their product, split by TP."""
    return 4 * candidate.compute_bytes * candidate.model.intermediate_size / candidate.layout.tp


def saved_token_bytes(candidate: Candidate) -> float:
    """What stays of one layer for one token between forward and backward, by policy.

    `full` keeps the layer's input, c x hidden (8,192 for Llama-3.1-8B in bf16); `attention_saved` adds the attention's
    output and log-sum-exp (16,512); `none` keeps everything.
    """
    model, width = candidate.model, candidate.compute_bytes
    if candidate.recompute == "none":
        return layer_token_bytes(candidate)
    splits_input = candidate.layout.tp if candidate.engine.sequence_parallel else 1
    kept = width * model.hidden_size / splits_input
    if candidate.recompute == "attention_saved":
        kept += (width * model.q_size + FLOAT32_BYTES * model.heads) / candidate.layout.tp
    return kept


def recomputed_token_bytes(candidate: Candidate) -> float:
    """What one layer's recomputation adds for one token while its backward runs: the full set less what was kept."""
    return layer_token_bytes(candidate) - saved_token_bytes(candidate)


def mlp_gradient_token_bytes(candidate: Candidate) -> float:
    """Gradients in flight at the worst point of a layer's backward, which lies in SwiGLU.

    The gradient of the product and of its two factors are alive, the product itself is freed: two widths of
    intermediate beyond the saved set, and one hidden gradient of the residual stream.
    """
    model, width = candidate.model, candidate.compute_bytes
    return width * (2 * model.intermediate_size / candidate.layout.tp + model.hidden_size)


def attention_token_bytes(candidate: Candidate) -> float:
    """Workspace of the attention backward for one token: float32 dq, and the gradients of q, k, v and the output.

    Of the bundled trainer on GPUs it is known in more detail.
    """
    if candidate.engine.cp_methods and not candidate.gpu.is_cpu:
        return backward_workspace(candidate)
    model, width = candidate.model, candidate.compute_bytes
    wide = FLOAT32_BYTES * model.q_size + width * (2 * model.q_size + 2 * model.kv_size)
    return wide / candidate.layout.tp


def cp_buffer_bytes(candidate: Candidate) -> int:
    """What context parallelism itself holds on a rank while one layer's backward runs: the sum of `cp_buffers`.

    An engine that chooses for itself has a ring's K/V shards in flight and their float32 gradients, all-gather's K, V,
    dK and dV of the gathered length, and what heads send and receive.
    """
    if candidate.layout.cp == 1:
        return 0
    if candidate.engine.cp_methods:
        return int(candidate.local_tokens * sum(cp_buffers(candidate).values()))
    model, width, tokens = candidate.model, candidate.compute_bytes, candidate.local_tokens
    kv, q = model.kv_size / candidate.layout.tp, model.q_size / candidate.layout.tp
    if candidate.cp_method == "ring":
        return int(tokens * kv * (4 * width + 4 * FLOAT32_BYTES))
    rest = candidate.layout.cp // candidate.ulysses
    exchanged = tokens * 2 * width * (2 * q + 2 * kv) if candidate.ulysses > 1 else 0.0
    gathered = tokens * rest * 4 * width * kv if rest > 1 else 0.0
    return int(exchanged + gathered)
