"""Is context parallelism on in this run, and does it travel well: local lengths, bytes sent, transports.

Card rows D5, L4 and D4: local length x cp is the whole on every rank alike; D2 and K3: every hop by peer access.
"""

from collections.abc import Iterator

from cpadvisor.doctor.diagnosis import Diagnosis, Mend
from cpadvisor.doctor.exchange_rows import exchange_rows, micro_batch_of, parity_mends
from cpadvisor.doctor.run_facts import RunFacts
from cpadvisor.units import format_count
from cpadvisor.watch.events import whole
from cpadvisor.write.edit import as_changes

ROWS = ("D5", "L4")


def context_rows(facts: RunFacts) -> Iterator[Diagnosis]:
    """All of them; none before a rank has built its model."""
    if facts.started:
        yield _method(facts)
        yield from _local_lengths(facts)
        yield from exchange_rows(facts)
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
    micro, cp = micro_batch_of(facts), facts.cp
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
        mends=parity_mends(facts) if uneven or wrong else (),
        card=("D4", *ROWS),
    )


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
