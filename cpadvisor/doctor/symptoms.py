"""From a symptom to the checks that explain it, in the order in which to look: the card's section on debugging.

A step is a rule, a family of rules (`L1.`, `env.NCCL_`) or a row of the card.
"""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import replace

from cpadvisor.doctor.diagnosis import SEVERITIES, Diagnosis
from cpadvisor.errors import UsageError

TREES: Mapping[str, tuple[str, ...]] = {
    # D1: micro_batch 1, flash attention, divisibility, recomputation, more cp or half the sequence.
    "oom": (
        "failure",
        "memory",
        "L1.micro_batch_size",
        "L1.attn_implementation",
        "F3",
        "L1.gradient_checkpointing",
        "no-sync",
        "fsdp-missing",
        "holders",
        "host-memory",
        "env.PYTORCH_ALLOC_CONF",
        "env.PYTORCH_CUDA_ALLOC_CONF",
        "L1.bf16",
        "D1",
        "L3",
    ),
    # D2: links of the cp group, then the speed settings.
    "slow": (
        "failure",
        "speed",
        "split-time",
        "cp-waiting",
        "cp-links",
        "ring-transport",
        "nvlink",
        "p2p",
        "iommu",
        "network",
        "step",
        "kernel",
        "C7",
        "L1.attn_implementation",
        "padding",
        "cudnn",
        "nccl",
        "flash-attn",
        "load",
        "env.",
        "persistence",
        "D2",
        "L2",
    ),
    # D3: bf16 in place of fp16, clipping, learning rate, warm-up, a shorter start.
    "nan": ("failure", "loss", "C8", "learning-rate", "L1.bf16", "length-positions", "ecc", "D3"),
    # D4: the length, cp, the local length.
    "split": ("failure", "F3", "local-length", "cp-block", "F1", "gpus", "padding", "length-data", "D4"),
    # D5: local length x cp is the whole, alike on every rank.
    "cp": (
        "failure",
        "cp-on",
        "local-length",
        "ring-bytes",
        "cp-bytes",
        "engine-value",
        "ulysses-heads",
        "key-unknown",
        "attention-eager",
        "ring-kernel",
        "D5",
        "L4",
    ),
    "hang": (
        "failure",
        "life",
        "gpu-lost",
        "driver",
        "p2p",
        "iommu",
        "ring-transport",
        "shm",
        "loopback",
        "hostname",
        "host",
        "memlock",
        "env.NCCL_",
        "env.TORCH_",
        "nccl",
        "network",
        "ecc",
        "holders",
    ),
}
SYMPTOMS = tuple(TREES)

_ALSO = {
    "memory": "oom",
    "out of memory": "oom",
    "slowness": "slow",
    "speed": "slow",
    "loss": "nan",
    "unstable": "nan",
    "length": "split",
    "context": "cp",
    "stuck": "hang",
    "deadlock": "hang",
    "timeout": "hang",
}
"""Words that people use, to the nearest symptom."""


def guided(found: Iterable[Diagnosis], symptom: str, *, subject: str | None = None) -> tuple[Diagnosis, ...]:
    """The checks of one symptom in the order of its tree, those that found nothing too; of a step the worst first.

    Mends that lead to this symptom of `subject`, as a command names it, are left out: the user is there.
    Raises UsageError naming the nearest for a symptom that is none of SYMPTOMS.
    """
    tree = TREES[require_symptom(symptom)]
    placed = [(place, one) for one in found if (place := _place(one, tree)) is not None]
    steps = sorted(placed, key=lambda pair: (pair[0], SEVERITIES.index(pair[1].severity)))
    here = f"cpadvisor doctor {subject} --symptom {symptom}"
    return tuple(replace(one, mends=tuple(mend for mend in one.mends if mend.command != here)) for _, one in steps)


def require_symptom(symptom: str) -> str:
    """The symptom, where it is one."""
    if symptom in TREES:
        return symptom
    word = symptom.lower().strip()
    near = _ALSO.get(word) or next(iter(difflib.get_close_matches(word, (*SYMPTOMS, *_ALSO), n=1, cutoff=0.5)), None)
    hint = f"did you mean {_ALSO.get(near, near)}? " if near else ""
    raise UsageError(f"symptom {symptom!r} is not known; {hint}there are {', '.join(SYMPTOMS)}")


def _place(one: Diagnosis, tree: tuple[str, ...]) -> int | None:
    """The first step that a diagnosis belongs to."""
    return next((place for place, step in enumerate(tree) if is_of(one, step)), None)


def is_of(one: Diagnosis, step: str) -> bool:
    """Whether a diagnosis is the rule of a step, of its family, or carries its row of the card."""
    if step.endswith((".", "_")):
        return one.rule.startswith(step)
    return one.rule == step or one.rule.startswith((f"{step}.", f"{step}-")) or step in one.card
