"""The answer as plain data for --json, in the shape that other programs rely on: schema 1."""

from dataclasses import asdict
from typing import Any

from cpadvisor.plan.advice import Advice, Plan, Rejection

SCHEMA = 1

Json = dict[str, Any]


def advice_json(advice: Advice) -> Json:
    """The whole answer; numbers are SI base units with the unit in the key."""
    return {
        "schema": SCHEMA,
        "node": advice.node,
        "model": advice.model,
        "sequence_len": advice.sequence_len,
        "gpus": advice.gpus,
        "engine": advice.engine,
        "plans": [plan_json(plan) for plan in advice.plans],
        "rejected": [rejection_json(rejection) for rejection in advice.rejected],
        "trace": [asdict(step) for step in advice.trace],
        "card": {
            "layout": None if advice.card.layout is None else asdict(advice.card.layout),
            "agrees": advice.card.agrees,
            "why": advice.card.why,
        },
    }


def plan_json(plan: Plan) -> Json:
    """One plan: layout, order, memory and step by terms, groups, warnings."""
    return {
        "layout": asdict(plan.layout),
        "world": plan.layout.world,
        "order": list(plan.order),
        "cp_method": plan.cp_method,
        "ulysses_degree": plan.ulysses,
        "cp_methods": [
            {"cp_method": one.method, "ulysses_degree": one.ulysses, "step_s": one.step_s, "why": one.why}
            for one in plan.methods
        ],
        "recompute": dict(plan.recompute),
        "micro_batch": plan.micro_batch,
        "accumulation": plan.accumulation,
        "memory": {
            "peak_bytes": plan.memory.peak_bytes,
            "low_bytes": plan.memory.low_bytes,
            "high_bytes": plan.memory.high_bytes,
            "limit_bytes": plan.memory.limit_bytes,
            "terms_bytes": dict(plan.memory.terms_bytes),
        },
        "step": {
            "total_s": plan.step.total_s,
            "low_s": plan.step.low_s,
            "high_s": plan.step.high_s,
            "terms_s": dict(plan.step.terms_s),
        },
        "tokens_per_s_per_gpu": plan.tokens_per_s_per_gpu,
        "mfu": plan.mfu,
        "groups": {axis: [list(group) for group in groups] for axis, groups in plan.groups.items()},
        "warnings": list(plan.warnings),
    }


def rejection_json(rejection: Rejection) -> Json:
    """One layout that does not start or fit, with its rule, numbers, reason and mend."""
    return asdict(rejection)
