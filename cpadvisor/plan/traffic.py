"""How many bytes each collective moves, by axis. Bytes are a rank's, for one layer and one micro-batch."""

from cpadvisor.plan.candidate import Candidate
from cpadvisor.plan.layout import Layout

BF16_BYTES = 2
FLOAT32_BYTES = 4


def ring_hop_bytes(*, tokens: int, kv_heads: int, head_dim: int, layout: Layout, width: int = BF16_BYTES) -> int:
    """Bytes of K and V a rank sends its neighbour in one hop of one layer.

    2 tensors x (tokens / cp) x (kv_heads / tp) x head_dim x 2 bytes. A forward
    pass takes cp - 1 hops. Llama-3.1-8B (8 heads of 128), 131072 tokens, cp=8:
    64 MiB a hop.
    """
    return 2 * (tokens // layout.cp) * max(kv_heads // layout.tp, 1) * head_dim * width


def hop_bytes(candidate: Candidate) -> int:
    """`ring_hop_bytes` of all sequences of a micro-batch, with padding."""
    model, layout = candidate.model, candidate.layout
    return candidate.micro_batch * ring_hop_bytes(
        tokens=candidate.sequence_share * layout.cp,
        kv_heads=model.kv_heads,
        head_dim=model.head_dim,
        layout=layout,
        width=candidate.compute_bytes,
    )


def gradient_hop_bytes(candidate: Candidate) -> int:
    """Bytes of dK and dV in one hop of the backward ring: the same shards in float32."""
    return hop_bytes(candidate) * FLOAT32_BYTES // candidate.compute_bytes


def ulysses_bytes(candidate: Candidate) -> int:
    """Bytes that a rank holds of q, k, v and the output, which all-to-alls exchange over heads; K and V repeat
    where there are fewer KV heads than ranks.

    Llama-3.1-8B, 16,384 local tokens, bf16: 16,384 x 2 x (2 x 4,096 + 2 x 1,024) = 320 MiB.
    """
    model, tp = candidate.model, candidate.layout.tp
    kv = max(model.kv_size // tp, candidate.ulysses * model.head_dim)
    return candidate.local_tokens * candidate.compute_bytes * (2 * model.q_size // tp + 2 * kv)


def gathered_kv_bytes(candidate: Candidate) -> int:
    """Bytes of K and V of the ranks that gather them, after heads were exchanged over `ulysses` ranks."""
    return hop_bytes(candidate) * (candidate.layout.cp // candidate.ulysses)


def layer_gather_bytes(candidate: Candidate) -> int:
    """Bytes of one layer's parameters in compute precision, which FSDP gathers over dp_shard x cp.

    Llama-3.1-8B in bf16: 2 x 218,112,000 = 436 MB.
    """
    return candidate.compute_bytes * candidate.model.layer_parameters // candidate.layout.tp


def layer_reduce_bytes(candidate: Candidate) -> int:
    """Bytes of one layer's gradients as the reduce-scatter takes them."""
    return candidate.engine.reduce_bytes * candidate.model.layer_parameters // candidate.layout.tp


def root_gather_bytes(candidate: Candidate) -> int:
    """Bytes of embedding, final norm and head in compute precision."""
    return candidate.compute_bytes * candidate.model.root_parameters // candidate.layout.tp


def replica_bytes(candidate: Candidate) -> int:
    """Bytes of gradients that replicas all-reduce once a step: a rank's shard of the whole model."""
    layout = candidate.layout
    return candidate.engine.reduce_bytes * candidate.model.parameters // (layout.tp * layout.shard_group)


def tensor_parallel_bytes(candidate: Candidate) -> int:
    """Bytes of the hidden state that one all-reduce of TP sums; a layer has two in forward and two in backward."""
    return candidate.local_tokens * candidate.compute_bytes * candidate.model.hidden_size


def ring_tokens_needed(candidate: Candidate, *, flops_per_s: float, bytes_per_s: float) -> float:
    """Local tokens of one sequence from which a forward ring hop hides behind the attention of its chunk.

    2 (kv heads / heads) x FLOP/s / (bytes/s) in bf16: compute 2 T^2 q, transfer 2 x 2 bytes x T kv. 8 of 32 heads at
    600e12 and 350e9: 857.
    """
    model = candidate.model
    return candidate.compute_bytes * (model.kv_heads / model.heads) * flops_per_s / bytes_per_s


def ring_step_bytes(
    *, hop: int, gradient_hop: int, cp: int, layers: int, recomputed_layers: int, micro_batches: int
) -> int:
    """Bytes that a rank sends round its ring in one optimizer step.

    A layer takes cp - 1 hops of K and V forward, as many backward, and cp - 1 of their float32 gradients; one that is
    recomputed whole repeats its forward hops. `tiny` (2 layers, 4 KV heads of 16) at 512 tokens over cp 2 in float32:
    a hop is 128 KiB, of gradients too, so 2 x (2 + 1) x 128 KiB = 768 KiB.
    """
    hops = cp - 1
    each = 2 * hop + gradient_hop
    return micro_batches * hops * (layers * each + recomputed_layers * hop)
