"""How K and V may meet the queries of other ranks, and over how many ranks heads are exchanged.

`ring` sends K and V from rank to rank, `allgather` brings them all at once, `ulysses` exchanges heads for tokens over
all ranks of cp, `usp` over some of them, neighbours, and sends K and V round the rest.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from cpadvisor.model import ModelSpec
from cpadvisor.plan.engines import CPADVISOR, Engine
from cpadvisor.plan.layout import Layout, divisors

CP_METHODS = CPADVISOR.cp_methods


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One method with the ranks that exchange heads in it."""

    method: str = "none"
    ulysses: int = 1
    """Of cp: 1 for ring and allgather, cp for ulysses, a proper divisor for usp."""


def way_label(method: str, *, cp: int, ulysses: int) -> str:
    """The method in a word; `usp 4×2` is heads over 4 ranks, K and V round 2."""
    return f"usp {ulysses}×{cp // ulysses}" if method == "usp" else method


def cp_ways(engine: Engine, model: ModelSpec, layout: Layout, *, gpus_per_node: int) -> tuple[Way, ...]:
    """Every way in which an engine can run a layout: all that its config can ask for and the heads allow.

    Llama-3.1-8B at cp 8: ring, allgather, ulysses, usp over 4 and over 2. An engine whose selector decides has one.
    """
    if layout.cp == 1:
        return (Way(),)
    if not engine.cp_methods:
        degree = selected_degree(model, layout, gpus_per_node=gpus_per_node)
        return (Way(method=selected_method(layout, ulysses=degree), ulysses=degree),)
    return tuple(
        Way(method=method, ulysses=degree)
        for method in engine.cp_methods
        for degree in _degrees(method, layout.cp)
        if degree_problem(model, layout, degree) is None
    )


def _degrees(method: str, cp: int) -> tuple[int, ...]:
    if method == "usp":
        return divisors(cp)[-2:0:-1]
    return (cp if method == "ulysses" else 1,)


def degree_problem(model: ModelSpec, layout: Layout, degree: int) -> str | None:
    """Why the heads of a TP rank cannot be exchanged over `degree` ranks; None where they can.

    Query heads have to divide; K/V heads divide, or are fewer and repeat evenly: 8 of them over 2, 4, 8 and 16.
    """
    heads, kv_heads = model.heads // layout.tp, max(model.kv_heads // layout.tp, 1)
    if heads % degree:
        return f"{heads} query heads do not divide over {degree} ranks"
    if kv_heads % degree and degree % kv_heads:
        return f"{kv_heads} KV heads neither divide over {degree} ranks nor repeat evenly on them"
    return None


def usp_degrees(model: ModelSpec | None, layout: Layout) -> tuple[int, ...]:
    """Degrees of usp that the heads allow, largest first; without a model every proper divisor of cp above 1."""
    return tuple(
        degree
        for degree in _degrees("usp", layout.cp)
        if model is None or degree_problem(model, layout, degree) is None
    )


def method_problem(model: ModelSpec, layout: Layout, method: str) -> str | None:
    """Why a method does not run a layout; None where some degree of it does."""
    if layout.cp == 1 or method not in ("ulysses", "usp"):
        return None
    if method == "ulysses":
        return degree_problem(model, layout, layout.cp)
    if not usp_degrees(None, layout):
        return f"cp {layout.cp} has no divisor between 1 and itself"
    if usp_degrees(model, layout):
        return None
    return degree_problem(model, layout, usp_degrees(None, layout)[-1])


def asked_way(block: Mapping[str, object], model: ModelSpec | None, layout: Layout) -> Way:
    """The way that the `cpadvisor` block of a config asks for, as the bundled trainer reads it; usp without a degree
    takes the largest that the heads allow."""
    method, asked = block.get("method") or "ring", block.get("ulysses_degree")
    if layout.cp == 1 or method == "none":
        return Way()
    if method == "ulysses":
        return Way(method="ulysses", ulysses=layout.cp)
    if method == "usp":
        degrees = usp_degrees(model, layout)
        named = asked if isinstance(asked, int) and asked in usp_degrees(None, layout) else next(iter(degrees), 1)
        return Way(method="usp", ulysses=named)
    return Way(method=str(method) if method in CP_METHODS else "ring")


def fitting_way(way: Way, model: ModelSpec | None, layout: Layout) -> Way:
    """The same method where it runs a layout, else the nearest that does: heads over fewer ranks, then the ring."""
    if layout.cp == 1:
        return Way()
    degrees = usp_degrees(model, layout)
    if way.method == "ulysses" and (model is None or degree_problem(model, layout, layout.cp) is None):
        return Way(method="ulysses", ulysses=layout.cp)
    if way.method in ("ulysses", "usp") and degrees:
        return Way(method="usp", ulysses=min(degrees, key=lambda degree: abs(degree - way.ulysses)))
    return Way(method="allgather" if way.method == "allgather" else "ring")


def selected_degree(model: ModelSpec, layout: Layout, *, gpus_per_node: int) -> int:
    """Over how many ranks axolotl exchanges heads: the largest divisor of cp that divides the KV heads of a TP rank.

    It stays within a node, as axolotl-ringmaster's selector has it (strategies/usp.py:29-90): 8 KV heads at cp 16 on
    nodes of 8 give 8 (with 2 ranks of the rest); 2 KV heads at cp 8 give 2.
    """
    kv_heads = max(model.kv_heads // layout.tp, 1)
    return max(d for d in divisors(layout.cp) if kv_heads % d == 0 and d <= max(gpus_per_node, 1))


def selected_method(layout: Layout, *, ulysses: int) -> str:
    """What axolotl's selector makes of that degree: `none`, `ulysses`, `usp` or `allgather`."""
    if layout.cp == 1:
        return "none"
    if ulysses == layout.cp:
        return "ulysses"
    return "usp" if ulysses > 1 else "allgather"
