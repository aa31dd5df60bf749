"""How long one optimizer step takes: compute by kind, and of each collective what nothing hides.

Context parallelism hides first, as cp_time.py has it, FSDP's gathers and reductions behind the rest of a layer,
replicas' all-reduce behind what backward has left. Tensor parallelism hides behind nothing. gloo on CPU processes
shares the cores that compute, so there nothing hides.
"""

from dataclasses import dataclass

from cpadvisor.plan import traffic
from cpadvisor.plan.advice import StepEstimate
from cpadvisor.plan.candidate import Candidate
from cpadvisor.plan.compute import (
    LayerSeconds,
    head_seconds,
    launch_seconds,
    layer_seconds,
    optimizer_seconds,
)
from cpadvisor.plan.cp_time import Links, cp_backward, cp_forward, cp_term, exposed_seconds

TABLE_BAND = (0.80, 1.30)
"""What published rates leave open, as factors of the prediction. An estimate; on a CPU the host's load adds to it."""
CPU_BAND = (0.5, 2.0)
MEASURED_BAND = (0.90, 1.12)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposed:
    """Communication of one layer in one pass: what nothing hides, and the link time that compute hides."""

    cp: float
    fsdp: float
    slack: float
    """Compute that is left to hide more behind."""


def is_measured(candidate: Candidate) -> bool:
    """Whether the GPU's rates come from a profile of this machine and not from the hardware table."""
    return candidate.gpu.source.startswith("profile")


def estimate_step(candidate: Candidate, links: Links) -> StepEstimate:
    """Seconds of one step by exposed terms, with a band."""
    terms = {name: seconds for name, seconds in step_terms(candidate, links).items() if seconds > 0}
    total = sum(terms.values())
    low, high = _band(candidate)
    return StepEstimate(total_s=total, low_s=low * total, high_s=high * total, terms_s=terms)


def _band(candidate: Candidate) -> tuple[float, float]:
    if is_measured(candidate):
        return MEASURED_BAND
    return CPU_BAND if candidate.gpu.is_cpu else TABLE_BAND


def step_terms(candidate: Candidate, links: Links) -> dict[str, float]:
    """Exposed seconds by name; they add up to the step."""
    layer, layers = layer_seconds(candidate), candidate.model.layers
    batches = candidate.accumulation
    forward = _forward(candidate, links, layer)
    reducing = _backward(candidate, links, layer, reduces=True)
    quiet = _backward(candidate, links, layer, reduces=not candidate.deferred_bytes)
    backwards = [quiet] * min(batches - 1, 1) + [reducing]
    weights = [batches - 1] * min(batches - 1, 1) + [1]
    return {
        "matmul": batches * layers * (layer.matmul_forward + layer.matmul_backward),
        "attention": batches * layers * (layer.attention_forward + layer.attention_backward),
        "recompute": batches * layers * layer.again,
        "memory_passes": batches * layers * (layer.memory_forward + layer.memory_backward),
        "head_and_loss": batches * head_seconds(candidate),
        cp_term(candidate): layers
        * (batches * forward.cp + sum(w * b.cp for w, b in zip(weights, backwards, strict=True))),
        "fsdp": layers * (batches * forward.fsdp + sum(w * b.fsdp for w, b in zip(weights, backwards, strict=True)))
        + _fsdp_ends(candidate, links),
        "tp": batches * layers * _tensor_parallel(candidate, links),
        "replicas": _replicas(candidate, links, slack=layers * reducing.slack),
        "optimizer": optimizer_seconds(candidate),
        "launch": batches * layers * _launch(candidate, layer),
    }


def _forward(candidate: Candidate, links: Links, layer: LayerSeconds) -> Exposed:
    cp, hidden = cp_forward(candidate, links, layer.attention_forward)
    gathers = _gather(candidate, links)
    left = max(0.0, layer.forward - hidden)
    return Exposed(cp=cp, fsdp=exposed_seconds(candidate, gathers, left), slack=max(0.0, left - gathers))


def _backward(candidate: Candidate, links: Links, layer: LayerSeconds, *, reduces: bool) -> Exposed:
    cp, hidden = cp_backward(candidate, links, layer.attention_backward)
    if candidate.recompute == "full":
        again, again_hidden = cp_forward(candidate, links, layer.again_attention)
        cp, hidden = cp + again, hidden + again_hidden
    traffic_s = _gather(candidate, links) + (_reduce(candidate, links) if reduces else 0.0)
    left = max(0.0, layer.backward - hidden)
    return Exposed(cp=cp, fsdp=exposed_seconds(candidate, traffic_s, left), slack=max(0.0, left - traffic_s))


def _gather(candidate: Candidate, links: Links) -> float:
    return links["fsdp"].gather(traffic.layer_gather_bytes(candidate)) if candidate.uses_fsdp else 0.0


def _reduce(candidate: Candidate, links: Links) -> float:
    return links["fsdp"].gather(traffic.layer_reduce_bytes(candidate)) if candidate.uses_fsdp else 0.0


def _fsdp_ends(candidate: Candidate, links: Links) -> float:
    """What has no neighbour to hide behind: the root's and the first layer's gather, the root's reduction."""
    if not candidate.uses_fsdp:
        return 0.0
    link, root = links["fsdp"], traffic.root_gather_bytes(candidate)
    reduced = root * candidate.engine.reduce_bytes // candidate.compute_bytes
    first = link.gather(root) + _gather(candidate, links) if not candidate.gpu.is_cpu else link.gather(root)
    return candidate.accumulation * first + link.gather(reduced)


def _tensor_parallel(candidate: Candidate, links: Links) -> float:
    """Two all-reduces a layer forward, two backward, two more where the layer is recomputed."""
    passes = 2 if candidate.recompute == "none" else 3
    return passes * 2 * links["tp"].all_reduce(traffic.tensor_parallel_bytes(candidate))


def _replicas(candidate: Candidate, links: Links, *, slack: float) -> float:
    return exposed_seconds(candidate, links["dp_replicate"].all_reduce(traffic.replica_bytes(candidate)), slack)


def _launch(candidate: Candidate, layer: LayerSeconds) -> float:
    """The host runs ahead of the GPU, so launches cost only where they take longer than the kernels."""
    return exposed_seconds(candidate, launch_seconds(candidate), layer.forward + layer.backward)
