"""How many bytes each collective moves, by axis. Bytes are a rank's, for one layer and one micro-batch."""

from cpadvisor.model import ModelSpec
from cpadvisor.plan.candidate import Candidate
from cpadvisor.plan.layout import Layout
from cpadvisor.plan.methods import Way

BF16_BYTES = 2
FLOAT32_BYTES = 4


BACKWARD_EXCHANGES = 2
"""Times that backward exchanges over heads what forward does once: q, k, v and the output again, then the gradients of
the four, which are as large."""


def ring_hop_bytes(
    *, tokens: int, kv_heads: int, head_dim: int, layout: Layout, width: int = BF16_BYTES, ulysses: int = 1
) -> int:
    """Bytes of K and V in a whole share: what a rank sends its neighbour at most in one hop of one layer.

    2 tensors x (tokens / cp) x (kv_heads / tp) x head_dim x 2 bytes. A forward
    pass takes cp - 1 hops. Llama-3.1-8B (8 heads of 128), 131072 tokens, cp=8:
    64 MiB a hop. Where heads are exchanged over `ulysses` ranks, a share has
    the tokens of that many ranks and as many times fewer heads, at least one: over
    2 of cp=8, 32768 tokens of 4 heads, 64 MiB too.
    """
    heads = max(kv_heads // layout.tp // ulysses, 1)
    return 2 * (tokens // layout.cp) * ulysses * heads * head_dim * width


def hop_bytes(candidate: Candidate) -> int:
    """`ring_hop_bytes` of all sequences of a micro-batch, with padding."""
    model, layout = candidate.model, candidate.layout
    return candidate.micro_batch * ring_hop_bytes(
        tokens=candidate.sequence_share * layout.cp,
        kv_heads=model.kv_heads,
        head_dim=model.head_dim,
        layout=layout,
        width=candidate.compute_bytes,
        ulysses=candidate.ulysses,
    )


def gradient_hop_bytes(candidate: Candidate) -> int:
    """Bytes of dK and dV of a whole share in backward: as wide as K and V, they go straight home and are summed there.

    An engine that chooses for itself has torch's ring, which sums them on the way, in float32.
    """
    if candidate.engine.cp_methods:
        return hop_bytes(candidate)
    return hop_bytes(candidate) * FLOAT32_BYTES // candidate.compute_bytes


def spread_kv_size(candidate: Candidate) -> int:
    """Numbers of K, or of V, that a local token has once heads are exchanged: heads fewer than ranks are repeated.

    Llama-3.1-8B (8 heads of 128): 1,024 over up to 8 ranks, 2,048 over 16.
    """
    model = candidate.model
    return max(model.kv_size // candidate.layout.tp, candidate.ulysses * model.head_dim)


def ulysses_bytes(candidate: Candidate) -> int:
    """Bytes that a rank holds of q, k, v and the output, which all-to-alls exchange over heads; K and V repeat
    where there are fewer KV heads than ranks.

    Llama-3.1-8B, 16,384 local tokens, bf16: 16,384 x 2 x (2 x 4,096 + 2 x 1,024) = 320 MiB. All but 1 / ulysses of
    it leaves the rank: 280 MiB over 8.
    """
    q_size = candidate.model.q_size // candidate.layout.tp
    return candidate.local_tokens * candidate.compute_bytes * (2 * q_size + 2 * spread_kv_size(candidate))


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


def ring_step_bytes(*, hop: int, ranks: int, rank: int, layers: int, recomputed_layers: int, micro_batches: int) -> int:
    """Bytes that a rank sends round its ring of `ranks` in one optimizer step; `hop` is a whole share of K and V.

    A layer sends K and V forward and again backward, and once dK and dV; one that is recomputed whole repeats its
    forward. `tiny` (2 layers, 4 KV heads of 16) at 512 tokens over cp 2 in float32: a share is 128 KiB, so rank 0 sends
    2 x (1 + 1 + 2) x 64 KiB = 512 KiB and rank 1 2 x (2 + 2 + 1) x 64 KiB = 640 KiB.
    """
    forward, home = forward_halves(ranks, rank), gradient_halves(ranks, rank)
    halves = layers * (2 * forward + home) + recomputed_layers * forward
    return micro_batches * halves * hop // 2


def rank_step_bytes(
    model: ModelSpec,
    layout: Layout,
    way: Way,
    *,
    rank: int,
    tokens: int,
    width: int,
    micro_batch: int,
    micro_batches: int,
    recomputed_layers: int,
) -> dict[str, int]:
    """What a rank of the whole job sends in one optimizer step, by operation: `send_recv`, `all_gather`, `all_to_all`.

    Its place in the ring is that of its neighbours who exchange heads: at tp 1 and cp 4 with heads over 2 ranks, ranks
    0 and 1 are at place 0 of their rings, 2 and 3 at place 1.
    """
    ranks = layout.cp // way.ulysses
    share = micro_batch * ring_hop_bytes(
        tokens=tokens,
        kv_heads=model.kv_heads,
        head_dim=model.head_dim,
        layout=layout,
        width=width,
        ulysses=way.ulysses,
    )
    passes = {"layers": model.layers, "recomputed_layers": recomputed_layers, "micro_batches": micro_batches}
    found: dict[str, int] = {}
    if way.method == "allgather":
        found["all_gather"] = gather_step_bytes(share=share, ranks=ranks, **passes)
    elif ranks > 1:
        place = rank // layout.tp % layout.cp // way.ulysses
        found["send_recv"] = ring_step_bytes(hop=share, ranks=ranks, rank=place, **passes)
    if way.ulysses > 1:
        local = micro_batch * tokens // layout.cp
        # A share is as large as the K and V of its ranks' own tokens, repeated where heads are few.
        once = 2 * local * width * (model.q_size // layout.tp) + share
        lse = local * FLOAT32_BYTES * (model.heads // layout.tp)
        found["all_to_all"] = heads_step_bytes(once=once, lse=lse, ranks=way.ulysses, **passes)
    return found


def forward_halves(ranks: int, rank: int) -> int:
    """Half shares of K and V that a rank of a zigzag ring sends in one pass.

    A share goes down the ranks, from r to r - 1. It is needed whole by ranks before its source, whose late queries meet
    all of it, and as its early half alone by those after it, which come once it has passed rank 0. So rank 0 sends
    P - 1 halves and rank r above 0 P - r whole shares and r - 1 halves: 0.75 (P - 1) shares on average. P = 4: 3, 6, 5
    and 4 halves.
    """
    return ranks - 1 if rank == 0 else 2 * (ranks - rank) + rank - 1


def gradient_halves(ranks: int, rank: int) -> int:
    """Half shares of dK and dV that a rank sends home: whole ones to the P - 1 - r ranks after it, one to each before.

    P = 4: 6, 5, 4 and 3 halves.
    """
    return 2 * (ranks - 1 - rank) + rank


def gather_step_bytes(*, share: int, ranks: int, layers: int, recomputed_layers: int, micro_batches: int) -> int:
    """Bytes that a rank sends in one optimizer step where K and V are gathered; `share` is its own K and V.

    A layer sends it to each other rank forward and again backward, and each its dK and dV; one that is recomputed
    whole repeats its forward. `tiny` as in `ring_step_bytes`: 2 x 3 x 128 KiB = 768 KiB.
    """
    return micro_batches * (ranks - 1) * share * (3 * layers + recomputed_layers)


def heads_step_bytes(
    *, once: int, lse: int, ranks: int, layers: int, recomputed_layers: int, micro_batches: int
) -> int:
    """Bytes that a rank sends in one optimizer step where heads are exchanged over `ranks`.

    `once` are q, k, v and the output of local tokens, `lse` their log-sum-exp; all but 1 / ranks of them leaves. A
    layer sends both forward, and backward `once` again, its gradients, and `lse`. `tiny` (8 heads of 16) at 512 tokens
    over cp 2 in float32: 384 KiB and 8 KiB, so 2 x (3 x 192 + 2 x 4) KiB = 1,168 KiB.
    """
    forward, backward = once + lse, BACKWARD_EXCHANGES * once + lse
    return micro_batches * (layers * (forward + backward) + recomputed_layers * forward) // ranks * (ranks - 1)
