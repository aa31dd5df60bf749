"""How K and V meet the queries of other ranks: `cpadvisor.method` and `cpadvisor.ulysses_degree`, judged together."""

from runtime import heads as head_rules
from runtime.config_reader import Reader
from runtime.settings import METHODS

Heads = tuple[int, int] | None
"""Query heads and K/V heads of the model; None where its shape cannot be read."""


def read_method(own: Reader, *, cp: int, heads: Heads) -> tuple[str, int]:
    """The method, and over how many of the `cp` ranks it exchanges heads: 1 for ring and allgather, cp for ulysses."""
    method = own.choice("method", "ring", METHODS)
    asked = own.optional_integer("ulysses_degree")
    if cp == 1:
        _refuse_degree(own, asked, works=1, method="context_parallel_size 1")
        return "none", 1
    if method == "none":
        own.problem(
            "cpadvisor.method none with context_parallel_size above 1; set the method to ring, or the size to 1"
        )
        return method, 1
    if method == "usp":
        return method, _usp_degree(own, asked, cp=cp, heads=heads)
    degree = cp if method == "ulysses" else 1
    _refuse_degree(own, asked, works=degree, method=f"cpadvisor.method {method}")
    _check_heads(own, f"cpadvisor.method {method}", degree, cp=cp, heads=heads)
    return method, degree


def _refuse_degree(own: Reader, asked: int | None, *, works: int, method: str) -> None:
    if asked not in (None, works):
        own.problem(
            f"cpadvisor.ulysses_degree {asked} with {method}, whose degree is {works}; "
            "remove it, or write cpadvisor.method: usp"
        )


def _usp_degree(own: Reader, asked: int | None, *, cp: int, heads: Heads) -> int:
    degrees = head_rules.usp_degrees(cp, heads)
    if not head_rules.usp_degrees(cp, None):
        own.problem(
            f"cpadvisor.method usp needs a degree between 1 and context_parallel_size {cp} that divides it, and there "
            f"is none; use {_others(cp, heads)}"
        )
        return 1
    if asked is not None and (cp % asked or asked in (1, cp)):
        own.problem(
            f"cpadvisor.ulysses_degree {asked} is no divisor of context_parallel_size {cp} between 1 and {cp}; "
            f"use {_nearest(asked, degrees) or _others(cp, heads)}"
        )
        return 1
    if asked is not None:
        _check_heads(own, f"cpadvisor.ulysses_degree {asked}", asked, cp=cp, heads=heads)
        return asked
    if not degrees:
        largest = head_rules.usp_degrees(cp, None)[-1]
        _check_heads(own, "cpadvisor.method usp", largest, cp=cp, heads=heads)
        return 1
    return degrees[-1]


def _check_heads(own: Reader, what: str, degree: int, *, cp: int, heads: Heads) -> None:
    why = None if heads is None else head_rules.check_degree(*heads, degree)
    if why is None:
        return
    near = _nearest(degree, head_rules.usp_degrees(cp, heads))
    usp = f"cpadvisor.ulysses_degree {near} with cpadvisor.method usp, or " if near else ""
    own.problem(f"{what}: {why}; use {usp}cpadvisor.method ring")


def _nearest(asked: int, degrees: tuple[int, ...]) -> int | None:
    return min(degrees, key=lambda degree: (abs(degree - asked), degree), default=None)


def _others(cp: int, heads: Heads) -> str:
    """What works where usp does not."""
    allowed = heads is None or head_rules.exchanges(*heads, cp)
    return "ring or ulysses" if allowed else "ring"
