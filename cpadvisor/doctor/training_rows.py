"""Whether a training is set up well: the musts, speed, stability, the split, and whether CP is on (L1, C7, D3 to D5).

Each row stands for what `check` found nothing about; the finding takes its place where there is one.
"""

import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from cpadvisor.check.settings import HIGH_LEARNING_RATE
from cpadvisor.check.subject import Config
from cpadvisor.doctor.calmer import CARD_LEARNING_RATE, calmer_rate, rate_reason
from cpadvisor.doctor.diagnosis import Diagnosis, Mend
from cpadvisor.plan.card import LOWEST_CP_TOKENS
from cpadvisor.plan.layout import chunk_neighbours
from cpadvisor.units import format_count
from cpadvisor.write.edit import Change, as_changes
from cpadvisor.write.lines import scalar
from cpadvisor.write.split import SIZE_KEYS


def training_rows(config: Config, path: Path, found: Iterable[Diagnosis]) -> Iterator[Diagnosis]:
    """Every row whose rule is not among `found`."""
    told = {one.rule for one in found}
    told |= {rule.split(".")[0] for rule in told} | ({"C8"} if "learning-rate" in told else set())
    rows = (*_musts(config), _speed(config), _steadiness(config), _split(config), context_on(config, path))
    yield from (row for row in rows if row.rule not in told)


def _ok(rule: str, title: str, evidence: str, card: tuple[str, ...], mends: tuple[Mend, ...] = ()) -> Diagnosis:
    return Diagnosis(rule=rule, severity="ok", title=title, evidence=evidence, mends=mends, card=card)


def _musts(config: Config) -> Iterator[Diagnosis]:
    """Card row L1; divisibility is the split's."""
    micro = config.values.get("micro_batch_size", 1)
    yield _ok("L1.micro_batch_size", "one sequence at a time", f"micro_batch_size {micro}", ("L1", "D1"))
    kernel = config.attention or "chosen by the bundled trainer: cuDNN, else torch's flash"
    yield _ok("L1.attn_implementation", "flash attention", f"attn_implementation {kernel}", ("L1", "D1", "D2"))
    yield _ok("L1.bf16", "precision", f"bf16 {_yaml(config.values.get('bf16', 'auto'))}", ("L1", "D3"))
    recompute = config.block("cpadvisor").get("recompute")
    said = f"gradient_checkpointing {_yaml(config.values.get('gradient_checkpointing', 'left out'))}"
    said += f", cpadvisor.recompute {scalar(recompute)}" if recompute else ""
    yield _ok("L1.gradient_checkpointing", "recomputation", f"{said}; memory decides it", ("L1", "D1"))


def _yaml(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _speed(config: Config) -> Diagnosis:
    keys = ("optimizer", "tf32", "dataloader_num_workers", "dataloader_pin_memory")
    seen = ", ".join(f"{key} {_yaml(config.values[key])}" for key in keys if key in config.values)
    own = "" if config.is_axolotl else "; the bundled trainer loads its data itself"
    return _ok("C7", "speed settings", (seen or "all left to the trainer") + own, ("C7", "D2"))


def _steadiness(config: Config) -> Diagnosis:
    """The card asks for 1e-5 and a shorter start where the loss is unstable; context parallelism itself is exact."""
    keys = ("bf16", "fp16", "max_grad_norm", "learning_rate", "warmup_ratio", "warmup_steps", "lr_scheduler")
    seen = ", ".join(f"{key} {_yaml(config.values[key])}" for key in keys if key in config.values)
    rate, lower = config.number("learning_rate"), calmer_rate(config)
    mends: list[Mend] = []
    if rate is not None and lower is not None and rate > CARD_LEARNING_RATE:
        text = f"if it still becomes unstable: write learning_rate: {lower:g} ({rate_reason(config)})"
        mends.append(Mend(text=text, changes=(Change(key="learning_rate", value=lower),)))
    shorter = _shorter_start(config)
    if shorter is not None:
        mends.append(shorter)
    limit = f"; above {HIGH_LEARNING_RATE:g} AdamW diverges"
    return _ok("C8", "nothing here makes a loss unstable", seen + limit, ("C8", "D3"), tuple(mends))


def _shorter_start(config: Config) -> Mend | None:
    tokens, cp = config.values.get("sequence_len"), config.degree("cp")
    if type(tokens) is not int or tokens < 2 * LOWEST_CP_TOKENS:
        return None
    half = chunk_neighbours(tokens // 2, cp)[0]
    text = f"start at a shorter sequence (card C8): write sequence_len: {half}"
    return Mend(text=text, changes=(Change(key="sequence_len", value=half),))


def _split(config: Config) -> Diagnosis:
    return _ok("F3", "the sequence splits evenly", split_evidence(config), ("F3", "D4"))


def split_evidence(config: Config) -> str:
    """The length, cp, the local length, the chunks and the nearest lengths: 16,384 over cp 4 is 4,096."""
    tokens, cp = config.values.get("sequence_len"), config.degree("cp")
    if type(tokens) is not int or tokens < 1:
        return f"sequence_len {tokens!r}"
    if cp == 1:
        return f"{format_count(tokens)} tokens, context_parallel_size 1: nothing is split"
    below, above = chunk_neighbours(tokens, cp)
    below = below if below < tokens else max(below - 2 * cp, 2 * cp)
    local = f"{tokens // cp:,} a rank" if tokens % cp == 0 else f"{tokens / cp:,.2f} a rank, which is not whole"
    return (
        f"{format_count(tokens)} tokens over cp {cp}: {local}, as {2 * cp} chunks of {tokens / (2 * cp):,.6g}; "
        f"the nearest lengths that split are {format_count(below)} and {format_count(above)}"
    )


def context_on(config: Config, path: Path) -> Diagnosis:
    """Card rows D5 and L4: whether this file switches context parallelism on, and how a run proves it."""
    tokens, cp = config.values.get("sequence_len"), config.degree("cp")
    method = config.block("cpadvisor").get("method", "ring")
    if cp > 1 and not (not config.is_axolotl and method == "none"):
        local = tokens // cp if type(tokens) is int else 0
        whole = f"{local:,} x {cp} is {local * cp:,} of {_count(tokens)} tokens"
        seen = f"{SIZE_KEYS['cp']} {cp}: each rank holds its part; {whole}"
        return _ok("cp-on", f"context parallelism is on, over {cp} ranks", seen, ("D5", "L4"), _proofs(config, path))
    if cp > 1:
        return Diagnosis(
            rule="cp-on",
            severity="error",
            title="context parallelism is off although the sequence is cut",
            evidence=f"{SIZE_KEYS['cp']} {cp} with cpadvisor.method none",
            effect="each rank would see its own part alone: another model is trained",
            mends=(Mend(text="write method: ring", changes=(Change(key="cpadvisor.method", value="ring"),)),),
            card=("D5", "L4"),
        )
    long = type(tokens) is int and tokens >= LOWEST_CP_TOKENS
    seen = f"{SIZE_KEYS['cp']} 1: each rank holds all {_count(tokens)} tokens"
    if not long:
        return _ok("cp-on", "context parallelism is off", f"{seen}; card T1 advises it from 8K up", ("D5", "L4"))
    return Diagnosis(
        rule="cp-on",
        severity="note",
        title="context parallelism is off",
        evidence=f"{seen}; card T1 advises it from 8K up, we where memory asks for it",
        mends=tuple(_switch_on(config)),
        card=("D5", "L4", "T1"),
    )


def _count(tokens: Any) -> str:
    return format_count(tokens) if type(tokens) is int else "the"


def _proofs(config: Config, path: Path) -> tuple[Mend, ...]:
    """How a run shows it: the bundled trainer beside cp 1, axolotl by the line that its plugin logs."""
    file = shlex.quote(str(path))
    if config.is_axolotl:
        text = f"a run's log says `ringmaster CP enabled: size={config.degree('cp')}`"
        return (Mend(text=text, command="cpadvisor logs RUN | grep ringmaster"),)
    return (
        Mend(text="prove it: the same loss at cp 1 and here", command=f"cpadvisor parity {file}"),
        Mend(text="see what each rank of a run holds and sends", command="cpadvisor doctor RUN --symptom cp"),
    )


def _switch_on(config: Config) -> Iterator[Mend]:
    shard, tokens = config.degree("dp_shard"), config.values.get("sequence_len")
    if shard % 2 or type(tokens) is not int or tokens % 4:
        return
    changes = {SIZE_KEYS["cp"]: 2, **config.with_shards(shard // 2)}
    if config.block("cpadvisor").get("method") == "none":
        changes["cpadvisor.method"] = "ring"
    text = f"write context_parallel_size: 2 and dp_shard_size: {shard // 2}, the same GPUs"
    yield Mend(text=text, changes=as_changes(changes))
