"""Whether `cpadvisor.method` and `cpadvisor.ulysses_degree` fit each other, the size of cp and the model's heads."""

import difflib
from collections.abc import Iterator, Mapping
from typing import Any

from cpadvisor.check.finding import Finding
from cpadvisor.check.subject import Config
from cpadvisor.plan.layout import Layout
from cpadvisor.plan.methods import (
    CP_METHODS,
    Way,
    asked_way,
    degree_problem,
    fitting_way,
    method_problem,
    usp_degrees,
)
from cpadvisor.write.edit import REMOVE

METHOD, DEGREE = "cpadvisor.method", "cpadvisor.ulysses_degree"


def method_rules(config: Config) -> Iterator[Finding]:
    """At most one finding: the first of the name, the degree and the heads that does not fit."""
    layout, block = layout_of(config), config.block("cpadvisor")
    for problem in (_name(block, layout), _degree(block, layout), _heads(config, layout)):
        if problem is not None:
            rule, key, message = problem
            way = fitting_way(_nearest(config, layout), config.model, layout)
            changes = way_changes(block, way, config, layout)
            yield config.find(rule, "error", key, message, _fix(changes, way), changes)
            return


def layout_of(config: Config) -> Layout:
    """The axes that decide how attention is split."""
    return Layout(cp=config.degree("cp"), tp=config.degree("tp"))


def way_changes(block: Mapping[str, Any], way: Way, config: Config, layout: Layout) -> dict[str, Any]:
    """The changes by which a block comes to ask for a way in this layout; none where it does already."""
    degree, is_usp = block.get("ulysses_degree"), way.method == "usp"
    changes: dict[str, Any] = {}
    if layout.cp > 1 and (block.get("method") or "ring") != way.method:
        changes[METHOD] = way.method
    if not is_usp and degree is not None:
        changes[DEGREE] = REMOVE
    if is_usp and degree is None and asked_way({"method": "usp"}, config.model, layout) != way:
        changes[DEGREE] = way.ulysses
    if is_usp and degree not in (None, way.ulysses):
        changes[DEGREE] = way.ulysses
    return changes


def _nearest(config: Config, layout: Layout) -> Way:
    """What the file asks for, a misspelt method read as the one that it is most like."""
    block = config.block("cpadvisor")
    method, asked = str(block.get("method") or "ring"), block.get("ulysses_degree")
    named = method if method in CP_METHODS else next(iter(difflib.get_close_matches(method, CP_METHODS, n=1)), "ring")
    way = asked_way({**block, "method": named}, config.model, layout)
    if way.method == "usp" and type(asked) is int:
        return Way(method="usp", ulysses=asked)
    return way


def _fix(changes: Mapping[str, Any], way: Way) -> str:
    if set(changes) == {DEGREE} and changes[DEGREE] is REMOVE:
        return "remove it, or write method: usp"
    words = [f"method: {changes[METHOD]}"] if METHOD in changes else []
    if way.method == "usp" and DEGREE in changes:
        words.append(f"ulysses_degree: {way.ulysses}")
    without = " without ulysses_degree" if changes.get(DEGREE) is REMOVE else ""
    return f"write {' and '.join(words)}{without}"


Problem = tuple[str, str, str] | None
"""Rule, key and message."""


def _name(block: Mapping[str, Any], layout: Layout) -> Problem:
    method = block.get("method") or "ring"
    if method not in ("none", *CP_METHODS):
        known = ", ".join(CP_METHODS)
        return "engine-value", METHOD, f"cpadvisor.method {method!r} is none of the bundled trainer's: {known}"
    if method == "none" and layout.cp > 1:
        return "engine-value", METHOD, f"cpadvisor.method none with context_parallel_size {layout.cp}"
    return None


def _degree(block: Mapping[str, Any], layout: Layout) -> Problem:
    asked, method, cp = block.get("ulysses_degree"), block.get("method") or "ring", layout.cp
    if method == "usp" and cp > 1 and not usp_degrees(None, layout):
        message = f"cpadvisor.method usp needs a divisor of context_parallel_size {cp} between 1 and {cp}"
        return "engine-value", METHOD, f"{message}, and there is none"
    if asked is None:
        return None
    if type(asked) is not int or asked < 1:
        return "engine-value", DEGREE, f"cpadvisor.ulysses_degree {asked!r} is no whole number from 1 up"
    if method == "usp" and cp > 1:
        fits = ", ".join(map(str, sorted(usp_degrees(None, layout))))
        message = f"cpadvisor.ulysses_degree {asked} is no divisor of context_parallel_size {cp} between 1 and {cp}"
        return None if asked in usp_degrees(None, layout) else ("engine-value", DEGREE, f"{message}: {fits}")
    works = cp if method == "ulysses" else 1
    where = f"cpadvisor.method {method}" if cp > 1 else "context_parallel_size 1"
    message = f"cpadvisor.ulysses_degree {asked} with {where}, whose degree is {works}"
    return None if asked == works else ("engine-value", DEGREE, message)


def _heads(config: Config, layout: Layout) -> Problem:
    block, model = config.block("cpadvisor"), config.model
    if model is None or layout.cp == 1:
        return None
    way = asked_way(block, model, layout)
    if way.method == "usp" and block.get("ulysses_degree") is not None:
        why = degree_problem(model, layout, way.ulysses)
        key, what = DEGREE, f"cpadvisor.ulysses_degree {way.ulysses}"
    else:
        why = method_problem(model, layout, way.method)
        key, what = METHOD, f"cpadvisor.method {way.method}"
    return None if why is None else ("ulysses-heads", key, f"{what}: {why} ({model.name})")
