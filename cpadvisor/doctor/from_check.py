"""What `check` finds becomes a diagnosis: a name of its own, the card's rows, what it costs, and its mend."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TypeVar

from cpadvisor.check.finding import Finding
from cpadvisor.doctor.diagnosis import Diagnosis, Mend

_Value = TypeVar("_Value")

FAMILIES = (
    "L1",
    "C7",
    "C8",
    "pair",
    "size-value",
    "engine-value",
    "engine-axes",
    "attention-name",
    "checkpointing-twice",
    "needs-checkpointing",
    "cp-block",
    "fsdp-version",
    "wrap-class",
    "recompute",
    "key-missing",
    "key-unknown",
    "key-deprecated",
    "key-removed",
    "key-refused",
)
"""Rules that speak of several keys: these are named `rule.key`."""

CARD = {
    "F1": ("F1", "K1"),
    "dp-shard-explicit": ("F1", "K1"),
    "size-value": ("F1",),
    "F3": ("F3", "D4"),
    "length-data": ("D4",),
    "length-positions": ("D3",),
    "L1.micro_batch_size": ("L1", "D1"),
    "L1.attn_implementation": ("L1", "D1", "D2"),
    "L1.bf16": ("L1", "D3"),
    "L1.gradient_checkpointing": ("L1", "D1"),
    "C7": ("C7", "D2"),
    "C8": ("C8", "D3"),
    "learning-rate": ("C8", "D3"),
    "no-sync": ("D1", "L3"),
    "fsdp-missing": ("D1", "L3"),
    "C3": ("C3",),
    "tp-cp": ("C2", "T5"),
    "attention-eager": ("L1", "D5"),
    "ring-kernel": ("L1", "D5"),
    "ulysses-heads": ("D5",),
    "cp-block": ("D5", "D4"),
    "cp-balance": ("D5",),
    "engine-value.cpadvisor.method": ("D5",),
    "engine-value.cpadvisor.ulysses_degree": ("D5",),
    "key-unknown.context_parallel_size": ("D5",),
}
"""Rows of the card by rule; the longest name that fits counts."""

EFFECT = {
    "F1": "torchrun starts another number of processes than the sizes ask for: the run stops at once",
    "dp-shard-explicit": "accelerate stops: the sizes do not multiply to the processes",
    "F3": "the trainer refuses the length, or pads every sequence to the next one that splits",
    "L1.micro_batch_size": "memory for activations, logits and buffers grows with it",
    "L1.attn_implementation": "slower attention, and no ring",
    "L1.bf16": "twice the memory for activations, and no tensor cores",
    "L1.gradient_checkpointing": "the activations of every layer stay until backward",
    "no-sync": "each GPU holds all gradients whole, whatever is sharded",
    "fsdp-missing": "each GPU holds the whole model, its gradients and its optimizer",
    "C3": "YAML keeps the last of two like keys in silence: another layout is trained than the one that is read first",
    "C8": "training that diverges or does not start",
    "C7": "a slower step",
    "key-unknown": "the trainer never sees the setting",
    "learning-rate": "the loss becomes NaN, or never falls",
    "length-positions": "positions that the model never saw: the loss starts high and may stay so",
}
_DEFAULT_EFFECT = {
    "error": "it does not start, or trains something else than the file says",
    "warning": "it costs memory, speed or correctness",
}


def diagnoses_of(findings: Iterable[Finding]) -> list[Diagnosis]:
    """One diagnosis a finding, each with a name that no other has."""
    found: list[Diagnosis] = []
    for finding in findings:
        one = _diagnosis(finding)
        alike = sum(other.rule == one.rule or other.rule.startswith(f"{one.rule}-") for other in found)
        found.append(one if not alike else replace(one, rule=f"{one.rule}-{alike + 1}"))
    return found


def _diagnosis(finding: Finding) -> Diagnosis:
    rule = rule_name(finding)
    _, mark, said = finding.message.partition(": ")
    plain = said if mark and finding.message.startswith("line ") else finding.message
    mends = (Mend(text=finding.fix, changes=finding.changes),) if finding.fix else ()
    return Diagnosis(
        rule=rule,
        severity=finding.severity,
        title=_title(plain),
        evidence=finding.message,
        effect=_longest(EFFECT, rule) or _DEFAULT_EFFECT.get(finding.severity),
        mends=mends,
        card=_longest(CARD, rule) or (),
    )


def rule_name(finding: Finding) -> str:
    """`F3`, or `L1.bf16` where a rule speaks of several keys."""
    return f"{finding.rule}.{finding.key}" if finding.rule in FAMILIES and finding.key else finding.rule


def _title(message: str) -> str:
    """The first clause."""
    for mark in (": ", "; "):
        message = message.partition(mark)[0]
    return message


def _longest(table: Mapping[str, _Value], rule: str) -> _Value | None:
    """The entry whose name is the longest that the rule is, or begins with up to a dot."""
    parts = rule.split(".")
    names = (".".join(parts[:count]) for count in range(len(parts), 0, -1))
    return next((table[name] for name in names if name in table), None)
