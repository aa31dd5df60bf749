"""Is context parallelism on in this run, and does it travel well: local lengths, bytes round the ring, transports.

Card rows D5, L4 and D4: local length x cp is the whole on every rank alike; D2 and K3: every hop by peer access.
"""

from collections.abc import Iterator

from cpadvisor.doctor.diagnosis import Diagnosis, Mend
from cpadvisor.doctor.run_commands import parity_command
from cpadvisor.doctor.run_facts import RankFacts, RunFacts
from cpadvisor.plan.layout import Layout
from cpadvisor.plan.traffic import BF16_BYTES, FLOAT32_BYTES, ring_hop_bytes, ring_step_bytes
from cpadvisor.units import format_bytes, format_count
from cpadvisor.watch.events import whole
from cpadvisor.write.edit import as_changes

ROWS = ("D5", "L4")


def context_rows(facts: RunFacts) -> Iterator[Diagnosis]:
    """All of them; none before a rank has built its model."""
    if facts.started:
        yield _method(facts)
        yield from _local_lengths(facts)
        yield from _ring_bytes(facts)
    yield from _transports(facts)


def _method(facts: RunFacts) -> Diagnosis:
    cp, methods = facts.cp, {str(rank.start.get("cp_method")) for rank in facts.started}
    seen = f"cp {cp}, cp_method {', '.join(sorted(methods))} on {len(facts.started)} of {len(facts.ranks)} ranks"
    if cp == 1:
        return Diagnosis(rule="cp-on", severity="ok", title="context parallelism is off", evidence=seen, card=ROWS)
    if "none" in methods:
        return Diagnosis(
            rule="cp-on",
            severity="error",
            title="context parallelism is off although the sequence is cut",
            evidence=seen,
            effect="each rank attends to its own part alone: another model is trained",
            mends=(Mend(text="write cpadvisor.method: ring", changes=as_changes({"cpadvisor.method": "ring"})),),
            card=ROWS,
        )
    return Diagnosis(
        rule="cp-on", severity="ok", title=f"context parallelism is on: {methods.pop()}", evidence=seen, card=ROWS
    )


def _local_lengths(facts: RunFacts) -> Iterator[Diagnosis]:
    """local_tokens x cp = sequence_len x micro_batch, alike on every rank."""
    told = {rank.rank: whole(rank.start, "local_tokens") for rank in facts.started}
    known = {rank: tokens for rank, tokens in told.items() if tokens is not None}
    length = next((whole(rank.start, "sequence_len") for rank in facts.started), None)
    if not known or length is None:
        return
    micro, cp = _micro_batch(facts), facts.cp
    uneven = len(set(known.values())) > 1
    wrong = [rank for rank, tokens in known.items() if tokens * cp != length * micro]
    lengths = ", ".join(f"rank {rank} {format_count(tokens)}" for rank, tokens in known.items())
    shown = (
        lengths
        if uneven or len(known) <= 4
        else f"{format_count(next(iter(known.values())))} on each of {len(known)} ranks"
    )
    formula = f"{format_count(length)} tokens x micro_batch {micro} / cp {cp} = {format_count(length * micro / cp)}"
    yield Diagnosis(
        rule="local-length",
        severity="error" if uneven or wrong else "ok",
        title="ranks hold unequal parts"
        if uneven
        else "the parts are not the whole"
        if wrong
        else "every rank holds its part",
        evidence=f"{shown}; {formula}",
        effect="tokens are trained twice or never" if uneven or wrong else None,
        mends=_parity(facts) if uneven or wrong else (),
        card=("D4", *ROWS),
    )


def _parity(facts: RunFacts) -> tuple[Mend, ...]:
    return (Mend(text="hold it against cp 1, from the same seed", command=parity_command(facts)),)


def _micro_batch(facts: RunFacts) -> int:
    value = None if facts.config is None else facts.config.values.get("micro_batch_size")
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 1


def _ring_bytes(facts: RunFacts) -> Iterator[Diagnosis]:
    """What each rank sent in a step against the formula of the ring (plan/traffic.py)."""
    if facts.cp == 1 or any(rank.start.get("cp_method") != "ring" for rank in facts.started):
        return
    sent = {rank.rank: rank.ring[-1] for rank in facts.started if rank.ring}
    expected = expected_ring_bytes(facts, facts.started[0])
    if not sent or expected is None:
        if facts.view.step:
            why = "the trainer did not tell what it sent" if not sent else _why_not_expected(facts)
            yield Diagnosis(rule="ring-bytes", severity="note", title="bytes round the ring", evidence=why, card=ROWS)
        return
    wrong = {rank: int(event["bytes"]) for rank, event in sent.items() if event["bytes"] != expected}
    first = next(iter(wrong or {rank: int(event["bytes"]) for rank, event in sent.items()}))
    count = int(sent[first]["bytes"])
    seen = (
        f"rank {first} sent {format_bytes(count)} ({count:,} bytes) in {sent[first].get('count')} hops of step "
        f"{sent[first].get('step')}; the ring's formula gives {format_bytes(expected)} ({expected:,} bytes)"
    )
    yield Diagnosis(
        rule="ring-bytes",
        severity="error" if wrong else "ok",
        title="K and V do not go round the whole ring" if wrong else f"K and V go round the ring on {len(sent)} ranks",
        evidence=seen,
        effect="some queries never meet some keys: attention is wrong without any error" if wrong else None,
        mends=_parity(facts) if wrong else (),
        card=ROWS,
    )


def _why_not_expected(facts: RunFacts) -> str:
    is_known = facts.config is not None and facts.config.model is not None
    return "the trainer told its length or its recomputation otherwise" if is_known else "the model is not known here"


def expected_ring_bytes(facts: RunFacts, rank: RankFacts) -> int | None:
    """Bytes that a rank of this run sends in one optimizer step; None where that follows from nothing that is known."""
    model = None if facts.config is None else facts.config.model
    length, recomputed = whole(rank.start, "sequence_len"), _recomputed_layers(rank)
    if facts.config is None or model is None or length is None or recomputed is None:
        return None
    width = FLOAT32_BYTES if rank.start.get("device") == "cpu" else BF16_BYTES
    layout = Layout(cp=facts.cp, tp=int(facts.record.layout.get("tp", 1)))
    hop = _micro_batch(facts) * ring_hop_bytes(
        tokens=length, kv_heads=model.kv_heads, head_dim=model.head_dim, layout=layout, width=width
    )
    batches = facts.config.values.get("gradient_accumulation_steps", 1)
    return ring_step_bytes(
        hop=hop,
        gradient_hop=hop * FLOAT32_BYTES // width,
        cp=facts.cp,
        layers=model.layers,
        recomputed_layers=recomputed,
        micro_batches=batches if isinstance(batches, int) else 1,
    )


def _recomputed_layers(rank: RankFacts) -> int | None:
    """Layers that repeat their forward pass, and with it its hops; None where that was told in another shape."""
    told = rank.start.get("recompute")
    if not isinstance(told, dict):
        return 0 if told is None else None
    return whole(told, "full") if "full" in told else 0


def _transports(facts: RunFacts) -> Iterator[Diagnosis]:
    """Inside a machine every channel is to go by peer access; SHM and NET copy through the host."""
    if not facts.transports:
        return
    bad = {how: count for how, count in facts.transports.items() if not how.startswith("P2P")}
    seen = ", ".join(f"{count} channels via {how}" for how, count in sorted(facts.transports.items()))
    if not bad:
        yield Diagnosis(
            rule="ring-transport",
            severity="ok",
            title="ranks reach each other's memory",
            evidence=f"NCCL's log: {seen}",
            card=("D2", "L2", "K3"),
        )
        return
    yield Diagnosis(
        rule="ring-transport",
        severity="warning",
        title=f"NCCL goes through {'the network' if any(how.startswith('NET') for how in bad) else 'host memory'}",
        evidence=f"NCCL's log: {seen}; inside a machine all are to be P2P",
        effect="each hop of the ring is copied twice over PCIe, or crosses the network's sockets",
        mends=(
            Mend(text="see what forbids peer access", command="cpadvisor doctor"),
            Mend(text="and what NCCL was told", command="env | grep NCCL_"),
        ),
        card=("D2", "L2", "K3"),
    )
