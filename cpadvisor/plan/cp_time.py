"""How long K and V take to meet the queries of other ranks, by method: what nothing hides, and what attention hides.

Hops of K and V hide behind the attention of the chunk at hand, and so do gradients on their way home, but for the last.
Gathered K and V hide behind the attention of a rank's own share. Exchanges of heads hide behind nothing. gloo on CPU
processes shares the cores that compute, so there nothing hides.
"""

from collections.abc import Mapping

from cpadvisor.plan import traffic
from cpadvisor.plan.candidate import Candidate
from cpadvisor.plan.links import GroupLink

Links = Mapping[str, GroupLink]

Split = tuple[float, float]
"""Exposed and hidden seconds of one layer."""

PACK_PASSES = 10
"""Times that what is exchanged over heads crosses memory, packed by rank before and ordered by position after. Fitted
on 2 x H200, 32:8 heads, 32,768 tokens: 3.4 ms beyond the ideal, 1.4 of them on the links; at 16,384 tokens it gives
1.73 ms, where 1.66 were measured."""
ORDER_PASSES = 2
"""What is gathered is laid out in order, read and written once; in backward its gradients twice more. 2 x H200, cuDNN,
32,768 tokens: 0.2 ms, where gathering took 0.4 ms longer than a ring."""


def exposed_seconds(candidate: Candidate, communication: float, behind: float) -> float:
    """What is left of communication behind so much compute."""
    return communication if candidate.gpu.is_cpu else max(0.0, communication - behind)


def cp_term(candidate: Candidate) -> str:
    """The name of context parallelism's term: `ring`, `allgather`, `ulysses` or `usp`; `ring` and 0 without it."""
    return "ring" if candidate.cp_method == "none" else candidate.cp_method


def cp_forward(candidate: Candidate, links: Links, attention: float) -> Split:
    """One forward pass of a layer's attention, which takes `attention` seconds."""
    if candidate.layout.cp == 1:
        return 0.0, 0.0
    if not candidate.engine.cp_methods and candidate.cp_method != "ring":
        return _selected(candidate, links), 0.0
    if candidate.cp_method == "allgather":
        exposed, hidden = _gathering(candidate, links, attention)
        return exposed + _ordering(candidate), hidden
    hop = links["cp_ring"].exchange(traffic.hop_bytes(candidate))
    exposed, hidden = _hops(candidate, hop, hops=candidate.ring_ranks - 1, attention=attention)
    return exposed + _exchange_of_heads(candidate, links), hidden


def cp_backward(candidate: Candidate, links: Links, attention: float) -> Split:
    """One backward pass: K and V travel again, their gradients come home.

    Ring: the first hop of K and V goes alone, the last gradient has nothing left to compute beside it. All-gather: K
    and V again, then dK and dV home, with nothing left to compute. Heads: q, k, v and the output again, then the
    gradients of the four.
    """
    if candidate.layout.cp == 1:
        return 0.0, 0.0
    if not candidate.engine.cp_methods and candidate.cp_method != "ring":
        return _selected(candidate, links) * (2 if candidate.layout.cp > candidate.ulysses else 1), 0.0
    if candidate.cp_method == "allgather":
        exposed, hidden = _gathering(candidate, links, attention)
        home = links["cp_home"].gather(traffic.gathered_kv_bytes(candidate))
        return exposed + home + 3 * _ordering(candidate), hidden
    exposed, hidden = _ring_backward(candidate, links, attention)
    return exposed + traffic.BACKWARD_EXCHANGES * _exchange_of_heads(candidate, links), hidden


def _gathering(candidate: Candidate, links: Links, attention: float) -> Split:
    """K and V of every rank come straight here beside the attention of the own share, 1 / cp of the whole."""
    gathered = links["cp_home"].gather(traffic.gathered_kv_bytes(candidate))
    exposed = exposed_seconds(candidate, gathered, attention / candidate.layout.cp)
    return exposed, gathered - exposed


def _ordering(candidate: Candidate) -> float:
    return ORDER_PASSES * traffic.gathered_kv_bytes(candidate) / candidate.gpu.hbm_bytes_per_s


def _ring_backward(candidate: Candidate, links: Links, attention: float) -> Split:
    ranks = candidate.ring_ranks
    if ranks == 1:
        return 0.0, 0.0
    link, kv, gradient = links["cp_ring"], traffic.hop_bytes(candidate), traffic.gradient_hop_bytes(candidate)
    if candidate.engine.cp_methods:
        home = links["cp_home"].exchange(gradient)
        both = link.exchange(kv) + home
    else:  # gradients travel on with K and V
        home, both = link.exchange(gradient), link.exchange(kv + gradient)
    first, first_hidden = _hops(candidate, link.exchange(kv), hops=1, attention=attention)
    middle, middle_hidden = _hops(candidate, both, hops=ranks - 2, attention=attention)
    return first + middle + home, first_hidden + middle_hidden


def _hops(candidate: Candidate, hop: float, *, hops: int, attention: float) -> Split:
    exposed = exposed_seconds(candidate, hop, attention / candidate.ring_ranks)
    return hops * exposed, hops * (hop - exposed)


def _exchange_of_heads(candidate: Candidate, links: Links) -> float:
    """Two all-to-alls, of q, k and v and of the output, packed before and unpacked after."""
    if candidate.ulysses == 1:
        return 0.0
    moved = traffic.ulysses_bytes(candidate)
    return 2 * links["cp_heads"].gather(moved / 2) + PACK_PASSES * moved / candidate.gpu.hbm_bytes_per_s


def _selected(candidate: Candidate, links: Links) -> float:
    """An engine that chooses for itself exchanges heads as far as they divide, and gathers K and V over the rest."""
    exchanged = links["cp"].gather(traffic.ulysses_bytes(candidate)) if candidate.ulysses > 1 else 0.0
    rest = candidate.layout.cp > candidate.ulysses
    return exchanged + (links["cp"].gather(traffic.gathered_kv_bytes(candidate)) if rest else 0.0)
