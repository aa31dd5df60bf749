"""What one call of the bundled trainer's attention holds at its worst instant, forward and backward, on a GPU.

That instant is the backward of a block: the sums of all gradients, this block's, and the kernel's workspace are alive
together. Terms were counted in the code and held against the allocator's peaks on 2 x H200 (torch 2.11, cuDNN 9.19,
flash-attn 4.0.0b36; tests/cpadvisor/plan/test_attention_memory.py); rings of more than two were not measured.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from cpadvisor.plan.candidate import Candidate
from cpadvisor.plan.traffic import FLOAT32_BYTES, spread_kv_size


@dataclass(frozen=True, slots=True, kw_only=True)
class Workspace:
    """What a kernel's backward needs beside its results."""

    rows: int
    """Float32 numbers a query and head."""
    key_copies: str
    """How gradients of grouped keys and values come about: `per query head`, in compute precision and summed
    afterwards, or `float32`, added up in place."""


CUDNN = Workspace(rows=2, key_copies="per query head")
FLASH_ATTN_4 = Workspace(rows=3, key_copies="float32")


def attention_call(candidate: Candidate, workspace: Workspace = CUDNN) -> Mapping[str, float]:
    """Bytes a local token above q, k, v and the output's gradient, on the rank that needs most, by name.

    32:8 heads of 128 in bf16, cuDNN: 53,632 alone; 72,064 in a ring of two, 16,384 of them for messages.
    """
    width, tp = candidate.compute_bytes, candidate.layout.tp
    q, kv, heads = candidate.model.q_size / tp, spread_kv_size(candidate), candidate.model.heads / tp
    shares = candidate.layout.cp // candidate.ulysses
    # More than two addends are summed in float32.
    sums = FLOAT32_BYTES if shares > 2 else width
    terms = {
        "output": width * q + FLOAT32_BYTES * heads,
        "gradients": sums * (q + 2 * kv),
        "kernel_queries": FLOAT32_BYTES * (q + workspace.rows * heads),
        "kernel_keys": _kernel_keys(candidate, workspace),
    }
    if shares > 1:
        keys = _foreign_keys(candidate, shares)
        terms["kernel_keys"] *= keys
        terms["block_gradients"] = width * (q + 2 * kv * keys)
    return {**terms, **cp_buffers(candidate)}


def cp_buffers(candidate: Candidate) -> Mapping[str, float]:
    """What sharing a sequence itself takes, in bytes a local token. A pair is of K and V, or of dK and dV: 2 x kv.

    Ring: two places for a pair to arrive in, two for gradients that come home. Gathered: pairs of the whole length,
    their gradients, and a place for the pairs of each other rank, both ways. Heads: dout, q, out, k, v and the
    log-sum-exp of the longer sequence, and a place for what the others send of them. Llama-3.1-8B in bf16: 16,384 for
    a ring, 24,576 for all-gather and 43,200 for heads on two ranks.
    """
    width = candidate.compute_bytes
    shares = candidate.layout.cp // candidate.ulysses
    pair = 2 * width * spread_kv_size(candidate)
    found: dict[str, float] = {}
    if candidate.cp_method == "allgather":
        found |= {"gathered": shares * pair, "gathered_gradients": shares * pair}
        found |= {"received": (shares - 1) * pair, "returning": (shares - 1) * pair}
    elif shares > 1:
        found |= {"received": 2 * pair, "returning": 2 * pair}
    if candidate.ulysses > 1:
        q, heads = candidate.model.q_size / candidate.layout.tp, candidate.model.heads / candidate.layout.tp
        exchanged = 3 * width * q + FLOAT32_BYTES * heads + pair
        others = 1 - 1 / candidate.ulysses
        found |= {"gathered_heads": exchanged, "received_heads": others * exchanged}
    return found


LASTING = frozenset({"received", "returning", "received_heads"})
"""Buffers that stay from the first exchange on: the places that messages come into."""


def lasting_buffers(candidate: Candidate) -> float:
    """Bytes a local token that sharing a sequence holds for the whole run, beside torch's allocator, on GPUs.

    Llama-3.1-8B in bf16, a ring: 16,384. CPU processes and engines that choose for themselves: 0.
    """
    if candidate.gpu.is_cpu or not candidate.engine.cp_methods:
        return 0.0
    return sum(size for name, size in cp_buffers(candidate).items() if name in LASTING)


def backward_workspace(candidate: Candidate) -> float:
    """What an attention backward adds to the layer's saved tensors, buffers of sharing aside: bytes a local token.

    The output is among the saved ones, its gradient is not. Llama-3.1-8B in bf16: 53,504 alone.
    """
    call, buffers = attention_call(candidate), cp_buffers(candidate)
    own = sum(size for name, size in call.items() if name not in buffers and name != "output")
    return own + candidate.compute_bytes * candidate.model.q_size / candidate.layout.tp


def _foreign_keys(candidate: Candidate, shares: int) -> float:
    """Keys of the largest block against other ranks' keys, in shares: their early half, or all that were gathered."""
    return (shares - 1) / 2 if candidate.cp_method == "allgather" else 0.5


def _kernel_keys(candidate: Candidate, workspace: Workspace) -> float:
    """Bytes a key for gradients of grouped keys and values on their way; each head's own go straight to their place."""
    if candidate.model.kv_heads == candidate.model.heads:
        return 0.0
    if workspace.key_copies == "float32":
        return 2 * FLOAT32_BYTES * spread_kv_size(candidate)
    return 2 * candidate.compute_bytes * candidate.model.q_size / candidate.layout.tp
