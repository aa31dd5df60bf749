"""How much memory the fullest GPU needs: the maximum over the instants of a step, by named terms.

The instants: `loss` (all activations, the logits), `backward` (the first layer of it), `tail` (the last layer
of it, then the reduction of the root group), `optimizer`. Sharded gradients appear as backward proceeds, so
with one micro-batch they are absent where activations are most.
"""

from collections.abc import Iterator

from cpadvisor.plan.activations import (
    FLOAT32_BYTES,
    attention_token_bytes,
    cp_buffer_bytes,
    mlp_gradient_token_bytes,
    mlp_token_bytes,
    recomputed_token_bytes,
    saved_token_bytes,
)
from cpadvisor.plan.advice import MemoryEstimate
from cpadvisor.plan.attention_memory import lasting_buffers
from cpadvisor.plan.candidate import Candidate
from cpadvisor.units import MIB

MASTER_BYTES = 4
GRADIENT_BYTES = 4
ADAM_BYTES = 8
"""Float32 parameters, gradients and two moments: 16 bytes a parameter in all."""

CONTEXT_BYTES = 700 * MIB
"""CUDA context with the cuBLAS and cuDNN handles: 0.5 to 0.9 GiB have been measured. An estimate."""
COMMUNICATOR_BYTES = 180 * MIB
"""NCCL buffers of one communicator: 9.2 MiB a channel and peer, 16 to 24 channels (nccl src/init.cc). An estimate."""
CPU_PROCESS_BYTES = 400 * MIB
"""Resident interpreter, torch, gloo and corpus of one CPU process of the bundled trainer: 280 MiB after the imports,
and 400 to 408 MiB of two measured runs (`tiny`, 8,192 tokens, two processes) once their tensors are counted."""

ALLOCATOR_SHARE = 0.02
"""What the allocator's rounding and fragments add to live tensors with expandable segments. An estimate."""
EXACT_SHARE = 0.01
UNSURE_SHARE = 0.15
"""Half widths of the band: on the states, which follow from the shape, and on the rest, which rests on counts."""

Terms = dict[str, float]

_EXACT_TERMS = frozenset({"parameters", "gradients", "optimizer", "unsharded_gradients"})


def estimate_memory(candidate: Candidate, *, limit_bytes: int) -> MemoryEstimate:
    """The peak of one candidate with its band, against what a GPU has to give.

    Llama-3.1-8B sharded over two GPUs holds 16 x 8.03e9 / 2 = 59.8 GiB of states alone.
    """
    instant, live = max(_instants(candidate), key=lambda item: sum(item[1].values()))
    fixed = _fixed_terms(candidate)
    terms = {name: int(value) for name, value in (live | fixed).items() if int(value) > 0}
    terms["allocator"] = int(ALLOCATOR_SHARE * sum(live.values()))
    peak = sum(terms.values())
    margin = sum((EXACT_SHARE if name in _EXACT_TERMS else UNSURE_SHARE) * size for name, size in terms.items())
    return MemoryEstimate(
        peak_bytes=peak,
        low_bytes=int(peak - margin),
        high_bytes=int(peak + margin),
        limit_bytes=limit_bytes,
        instant=instant,
        terms_bytes=terms,
    )


def state_bytes(candidate: Candidate) -> int:
    """Parameters, gradients and optimizer of a rank: 16 N / (tp x dp_shard x cp)."""
    per_parameter = MASTER_BYTES + GRADIENT_BYTES + ADAM_BYTES
    return int(per_parameter * candidate.model.parameters / (candidate.layout.tp * candidate.layout.shard_group))


def _instants(candidate: Candidate) -> Iterator[tuple[str, Terms]]:
    lasting = _lasting_terms(candidate)
    yield "loss", lasting | _early_gradients(candidate) | _loss_terms(candidate)
    for name, gradients, layers in (
        ("backward", _early_gradients(candidate), candidate.model.layers),
        ("tail", _late_gradients(candidate), 1),
    ):
        for phase in (_mlp_phase(candidate), _attention_phase(candidate)):
            activations = {"activations": layers * saved_token_bytes(candidate) * candidate.local_tokens}
            yield name, lasting | gradients | activations | phase | _layer_terms(candidate, last=layers == 1)
    yield "tail", lasting | _late_gradients(candidate) | _root_reduction(candidate)
    yield "optimizer", lasting | {"gradients": _sharded(candidate, GRADIENT_BYTES)}


def _sharded(candidate: Candidate, width: int) -> float:
    return width * candidate.model.parameters / (candidate.layout.tp * candidate.layout.shard_group)


def _lasting_terms(candidate: Candidate) -> Terms:
    terms = {"parameters": _sharded(candidate, MASTER_BYTES), "optimizer": _sharded(candidate, ADAM_BYTES)}
    if not candidate.uses_fsdp and candidate.compute_bytes < MASTER_BYTES:
        # Without FSDP's own casts, autocast keeps a bf16 copy of every weight it has met.
        terms["autocast_weights"] = candidate.compute_bytes * candidate.model.parameters / candidate.layout.tp
    return terms


def _early_gradients(candidate: Candidate) -> Terms:
    """Gradients of earlier micro-batches: whole where the engine defers their reduction, sharded otherwise."""
    if candidate.accumulation == 1:
        return {}
    if candidate.deferred_bytes:
        return {"unsharded_gradients": candidate.deferred_bytes * candidate.model.parameters / candidate.layout.tp}
    return {"gradients": _sharded(candidate, GRADIENT_BYTES)}


def _late_gradients(candidate: Candidate) -> Terms:
    """The gradients of all layers are reduced, those of the root group are not yet."""
    layers_share = 1 - candidate.model.root_parameters / candidate.model.parameters
    if candidate.accumulation > 1 and not candidate.deferred_bytes:
        layers_share = 1.0
    return {"gradients": _sharded(candidate, GRADIENT_BYTES) * layers_share}


def _root_copy(candidate: Candidate) -> float:
    """FSDP2 keeps its root group gathered from the first forward to the end of backward: embedding, norm, head."""
    if not candidate.uses_fsdp:
        return 0.0
    return candidate.compute_bytes * candidate.model.root_parameters / candidate.layout.tp


def _head_gradient(candidate: Candidate) -> float:
    return candidate.compute_bytes * candidate.model.embedding_parameters / candidate.layout.tp


def _loss_terms(candidate: Candidate) -> Terms:
    model, tokens, width = candidate.model, candidate.local_tokens, candidate.compute_bytes
    logits = model.vocab_size * tokens
    logits = min(candidate.engine.loss_chunk_logits or logits, logits)
    wide = candidate.engine.loss_gradient_bytes * model.embedding_parameters / candidate.layout.tp
    # Hugging Face's TP plan gathers the head's output, and the bundled loss works on chunks: TP divides neither.
    return {
        "activations": (model.layers * saved_token_bytes(candidate) + 2 * width * model.hidden_size) * tokens,
        "logits": candidate.engine.bytes_per_logit * width / 2 * logits,
        "hidden_gradient": width * model.hidden_size * tokens,
        "root_group": _root_copy(candidate) + _head_gradient(candidate) + wide,
    }


def _layer_terms(candidate: Candidate, *, last: bool) -> Terms:
    """Around one layer's backward: its gathered parameters, and the next layer's or the previous one's reduction.

    The first layer of backward prefetches another and has nothing to reduce yet; the last one is the other way round.
    """
    terms = {"root_group": _root_copy(candidate) + _head_gradient(candidate)}
    if candidate.uses_fsdp:
        layer = candidate.model.layer_parameters / candidate.layout.tp
        gathered = candidate.compute_bytes * layer
        reduced = (candidate.compute_bytes + candidate.engine.reduce_bytes) * layer
        terms["fsdp_buffers"] = gathered + (reduced if last else gathered)
    return terms


def _mlp_phase(candidate: Candidate) -> Terms:
    tokens = candidate.local_tokens
    return {
        "recomputed_layer": recomputed_token_bytes(candidate) * tokens,
        "backward_workspace": mlp_gradient_token_bytes(candidate) * tokens,
    }


def _attention_phase(candidate: Candidate) -> Terms:
    """SwiGLU's part of the layer is done and freed; the exchange of K, V and their gradients is on."""
    tokens = candidate.local_tokens
    freed = min(mlp_token_bytes(candidate), recomputed_token_bytes(candidate))
    return {
        "recomputed_layer": (recomputed_token_bytes(candidate) - freed) * tokens,
        "attention_workspace": attention_token_bytes(candidate) * tokens,
        "cp_buffers": cp_buffer_bytes(candidate) - lasting_buffers(candidate) * tokens,
    }


def _root_reduction(candidate: Candidate) -> Terms:
    """FSDP2 frees the root's parameters, then copies its gradients into the reduction's input."""
    root = candidate.model.root_parameters / candidate.layout.tp
    gradients = candidate.compute_bytes * root
    if not candidate.uses_fsdp:
        return {"root_group": FLOAT32_BYTES * root}
    reduce = candidate.engine.reduce_bytes * root * (1 + 1 / candidate.layout.shard_group)
    return {"root_group": gradients + reduce}


def _fixed_terms(candidate: Candidate) -> Terms:
    if candidate.gpu.is_cpu:
        return {"process": CPU_PROCESS_BYTES}
    terms = {"context": CONTEXT_BYTES, "nccl": communicators(candidate) * COMMUNICATOR_BYTES}
    return terms | {"messages": lasting_buffers(candidate) * candidate.local_tokens}


def communicators(candidate: Candidate) -> int:
    """NCCL communicators of a rank: one for the world and one for each group above one GPU.

    dp_shard 2 x cp 4: the world, FSDP over 8, cp: 3. Where usp has a ring and exchanges heads, each has its own: 4.
    """
    layout, ring = candidate.layout, candidate.ring_ranks
    context = (ring, candidate.ulysses) if ring > 1 else (layout.cp,)
    groups = (layout.world, layout.shard_group, *context, layout.tp, layout.dp_replicate)
    return sum(1 for size in groups if size > 1)
