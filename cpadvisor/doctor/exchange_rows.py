"""What ranks send for K and V to meet every query: bytes beside the method's formula, and what nothing hides.

Card rows D5 and L4: ranks that send less than the formula train another model. D2: what is exposed is waited for.
"""

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from cpadvisor.check.subject import Config
from cpadvisor.doctor.diagnosis import Diagnosis, Mend
from cpadvisor.doctor.run_commands import parity_command
from cpadvisor.doctor.run_facts import RING, RankFacts, RunFacts
from cpadvisor.model import ModelSpec
from cpadvisor.plan.layout import Layout
from cpadvisor.plan.methods import Way, asked_way
from cpadvisor.plan.traffic import BF16_BYTES, FLOAT32_BYTES, rank_step_bytes
from cpadvisor.units import format_bytes, format_percent, format_seconds
from cpadvisor.watch.events import number, whole
from cpadvisor.watch.figures import measured

ROWS = ("D5", "L4")
OPERATIONS = {"ring": (RING,), "allgather": ("all_gather",), "ulysses": ("all_to_all",), "usp": (RING, "all_to_all")}
"""What each method sends by."""
MUCH_WAITING = 0.10
"""Share of a step spent waiting for K and V from which it is worth a change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Words:
    """How one operation is spoken of."""

    rule: str
    title: str
    sound: str
    broken: str


_WORDS = {
    RING: _Words(
        rule="ring-bytes",
        title="bytes round the ring",
        sound="K and V go round the ring",
        broken="K and V do not go round the whole ring",
    ),
    "all_gather": _Words(
        rule="cp-bytes.all_gather",
        title="bytes of gathered K and V",
        sound="K and V are gathered",
        broken="K and V are not gathered whole",
    ),
    "all_to_all": _Words(
        rule="cp-bytes.all_to_all",
        title="bytes of exchanged heads",
        sound="heads are exchanged",
        broken="heads are not exchanged whole",
    ),
}


def exchange_rows(facts: RunFacts) -> Iterator[Diagnosis]:
    """Bytes of each operation of the method beside its formula, and how much of a step waits for them."""
    methods = {str(rank.start.get("cp_method")) for rank in facts.started}
    if facts.cp == 1 or len(methods) != 1:
        return
    for operation in OPERATIONS.get(methods.pop(), ()):
        yield from _bytes(facts, operation)
    yield from _waiting(facts)


def parity_mends(facts: RunFacts) -> tuple[Mend, ...]:
    """The proof that what is trained is the model of one process."""
    return (Mend(text="hold it against cp 1, from the same seed", command=parity_command(facts)),)


def micro_batch_of(facts: RunFacts) -> int:
    """Sequences that a data rank works on at once."""
    return _setting(facts, "micro_batch_size")


def _setting(facts: RunFacts, key: str) -> int:
    value = None if facts.config is None else facts.config.values.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 1


def _bytes(facts: RunFacts, operation: str) -> Iterator[Diagnosis]:
    """What each rank sent in a step against the formula (plan/traffic.py); in a ring that depends on its place."""
    words = _WORDS[operation]
    sent = {rank.rank: rank.exchanges[operation] for rank in facts.started if operation in rank.exchanges}
    told = {rank.rank: expected_bytes(facts, rank) for rank in facts.started}
    expected = {rank: None if sizes is None else sizes.get(operation) for rank, sizes in told.items()}
    if not sent or None in expected.values():
        if facts.view.step:
            why = "the trainer did not tell what it sent" if not sent else _why_not_expected(facts)
            yield Diagnosis(rule=words.rule, severity="note", title=words.title, evidence=why, card=ROWS)
        return
    wrong = [rank for rank, event in sent.items() if event["bytes"] != expected[rank]]
    first = next(iter(wrong or sent))
    count, formula = int(sent[first]["bytes"]), expected[first] or 0
    seen = (
        f"rank {first} sent {format_bytes(count)} ({count:,} bytes) in {sent[first].get('count')} messages of step "
        f"{sent[first].get('step')}; the formula gives {format_bytes(formula)} ({formula:,} bytes)"
    )
    yield Diagnosis(
        rule=words.rule,
        severity="error" if wrong else "ok",
        title=words.broken if wrong else f"{words.sound} on {len(sent)} ranks",
        evidence=seen,
        effect="some queries never meet some keys: attention is wrong without any error" if wrong else None,
        mends=parity_mends(facts) if wrong else (),
        card=ROWS,
    )


def _why_not_expected(facts: RunFacts) -> str:
    is_known = facts.config is not None and facts.config.model is not None
    return "the trainer told its length or its recomputation otherwise" if is_known else "the model is not known here"


def expected_bytes(facts: RunFacts, rank: RankFacts) -> dict[str, int] | None:
    """Bytes that a rank of this run sends in one optimizer step, by operation; None where too little is known."""
    model = None if facts.config is None else facts.config.model
    length, recomputed = whole(rank.start, "sequence_len"), _recomputed_layers(rank)
    if facts.config is None or model is None or length is None or recomputed is None:
        return None
    layout = Layout(cp=facts.cp, tp=int(facts.record.layout.get("tp", 1)))
    return rank_step_bytes(
        model,
        layout,
        _way(rank, facts.config, model, layout),
        rank=rank.rank,
        tokens=length,
        width=FLOAT32_BYTES if rank.start.get("device") == "cpu" else BF16_BYTES,
        micro_batch=micro_batch_of(facts),
        micro_batches=_setting(facts, "gradient_accumulation_steps"),
        recomputed_layers=recomputed,
    )


def _way(rank: RankFacts, config: Config, model: ModelSpec, layout: Layout) -> Way:
    """As the rank told it; a trainer that does not tell the degree has that of the file."""
    block, told = config.block("cpadvisor"), whole(rank.start, "ulysses")
    degree = block.get("ulysses_degree") if told is None else told
    return asked_way({"method": rank.start.get("cp_method"), "ulysses_degree": degree}, model, layout)


def _recomputed_layers(rank: RankFacts) -> int | None:
    """Layers that repeat their forward pass, and with it its hops; None where that was told in another shape."""
    told = rank.start.get("recompute")
    if not isinstance(told, dict):
        return 0 if told is None else None
    return whole(told, "full") if "full" in told else 0


def _waiting(facts: RunFacts) -> Iterator[Diagnosis]:
    """Seconds of a step in which attention waited, on the rank that waited longest; the trainer samples them."""
    step_s = measured(facts.view).step_s
    told = {rank.rank: rank.exchanges for rank in facts.started if _sum(rank.exchanges, "exposed_s") is not None}
    if not told or not step_s:
        return
    rank = max(told, key=lambda each: _sum(told[each], "exposed_s") or 0.0)
    waits, wire = _sum(told[rank], "exposed_s") or 0.0, _sum(told[rank], "wire_s")
    on_wire, share = "" if wire is None else f" of {format_seconds(wire)} on the wire", waits / step_s
    late = share > MUCH_WAITING
    yield Diagnosis(
        rule="cp-waiting",
        severity="warning" if late else "ok",
        title="attention waits for K and V" if late else "K and V arrive in time",
        evidence=f"rank {rank} waits {format_seconds(waits)}{on_wire}, {format_percent(share)} of a step of "
        f"{format_seconds(step_s)}; {format_percent(MUCH_WAITING)} is much",
        effect=f"{format_percent(share)} of the time a GPU computes nothing" if late else None,
        mends=_faster(facts) if late else (),
        card=("D2", "L2"),
    )


def _sum(exchanges: Mapping[str, Mapping[str, Any]], key: str) -> float | None:
    """Over all operations; None where one of them does not tell."""
    told = [number(event, key) for event in exchanges.values()]
    return sum(one for one in told if one is not None) if told and None not in told else None


def _faster(facts: RunFacts) -> tuple[Mend, ...]:
    model, tokens = facts.record.model, facts.record.sequence_len
    command = f"cpadvisor plan --model {shlex.quote(str(model))} --seq {tokens} --lock cp={facts.cp}"
    return (Mend(text="see what each method costs at this size", command=command),)
