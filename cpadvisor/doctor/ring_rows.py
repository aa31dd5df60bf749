"""What brings K and V to the queries: the links of the cp group, the network, and what of it nothing hides. D2, L2."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from cpadvisor.doctor.diagnosis import Diagnosis, Mend
from cpadvisor.doctor.knobs import cp_changes, cp_fields, turned_changes, unturned
from cpadvisor.doctor.situation import Situation
from cpadvisor.node import is_nvlink
from cpadvisor.plan import traffic
from cpadvisor.plan.card import overhead_percent
from cpadvisor.plan.cautions import MIN_NIC_BYTES_PER_S
from cpadvisor.plan.compute import layer_seconds
from cpadvisor.plan.layout import Layout
from cpadvisor.plan.links import ASSUMED_NIC_BYTES_PER_S, GroupLink, group_links
from cpadvisor.plan.placement import rank_order
from cpadvisor.plan.rules import broken
from cpadvisor.plan.step_time import Links, cp_term
from cpadvisor.units import format_bytes, format_percent, format_rate, format_seconds
from cpadvisor.write.edit import Change

MUCH_WAITING = 0.10
"""Share of a step spent waiting for K and V from which it is worth a change."""
SOME_WAITING = 0.02
_ROWS = ("D2", "L2", "K5", "T3")


def ring_rows(situation: Situation, environ: Mapping[str, str]) -> Iterator[Diagnosis]:
    """Links of the cp group, the network, and the parts of a step."""
    yield _links(situation)
    yield _network(situation, environ)
    yield _step(situation)


def _links(situation: Situation) -> Diagnosis:
    candidate = situation.candidate
    if candidate.layout.cp == 1 or situation.problem.gpu.is_cpu:
        how = "context_parallel_size 1: no K and V travel" if candidate.layout.cp == 1 else "gloo inside this host"
        return Diagnosis(rule="cp-links", severity="ok", title="links of the cp group", evidence=how, card=_ROWS)
    link, waits = _link(situation), _waiting(situation)
    seen = f"{_path(situation, link)}; {_hop(situation, link)}; {format_percent(waits)} of a step waits for K and V"
    bad = link.crosses_nodes or not is_nvlink(link.worst)
    severity = _severity(bad=bad, waits=waits)
    return Diagnosis(
        rule="cp-links",
        severity=severity,
        title=_title(link, bad=bad, waits=waits),
        evidence=f"{seen}, on {situation.where}",
        effect=None
        if severity == "ok"
        else f"a step takes {format_seconds(situation.step.total_s)}, of which "
        f"{format_seconds(waits * situation.step.total_s)} nothing is computed",
        mends=tuple(_link_mends(situation, link)) if severity != "ok" else (),
        card=_ROWS,
    )


def _severity(*, bad: bool, waits: float) -> str:
    if waits >= (SOME_WAITING if bad else MUCH_WAITING):
        return "warning"
    return "note" if bad else "ok"


def _title(link: GroupLink, *, bad: bool, waits: float) -> str:
    if link.crosses_nodes:
        return "the cp group spans nodes"
    if bad:
        return f"the cp group crosses {link.worst}, no NVLink"
    return "K and V arrive late over NVLink" if waits >= MUCH_WAITING else f"the cp group is on {link.worst}"


def _link(situation: Situation) -> GroupLink:
    return _slowest(situation, situation.links)


def _slowest(situation: Situation, links: Links) -> GroupLink:
    """Of the paths that the method takes: the ring's, those of exchanged heads, or a collective's over all of cp."""
    candidate = situation.candidate
    names = ["cp_ring"] if candidate.ring_ranks > 1 else []
    names += ["cp_heads"] if candidate.ulysses > 1 and candidate.engine.cp_methods else []
    return min((links[name] for name in names or ["cp"]), key=lambda link: link.bytes_per_s)


def _path(situation: Situation, link: GroupLink) -> str:
    order = ",".join(map(str, situation.order))
    where = "the network" if link.crosses_nodes else str(link.worst)
    return f"cp {link.members} in the order {order}, slowest hop {where} at {format_rate(link.bytes_per_s)}"


def _hop(situation: Situation, link: GroupLink) -> str:
    """One exchange of each kind, beside what is computed meanwhile."""
    candidate, links = situation.candidate, situation.links
    told: list[str] = []
    if candidate.ring_ranks > 1:
        size, hop = traffic.hop_bytes(candidate), links["cp_ring"]
        chunk = layer_seconds(candidate).attention_forward / candidate.ring_ranks
        took = format_seconds(hop.exchange(size))
        told.append(f"a hop of {format_bytes(size)} takes {took} beside {format_seconds(chunk)} of attention")
    if candidate.ulysses > 1 or candidate.ring_ranks == 1:
        moved = traffic.ulysses_bytes(candidate) if candidate.ulysses > 1 else traffic.gathered_kv_bytes(candidate)
        group = links["cp_heads"] if candidate.ulysses > 1 and candidate.engine.cp_methods else link
        took = format_seconds(group.gather(moved))
        told.append(f"an exchange of {format_bytes(moved)} takes {took}, and nothing hides it")
    return "; ".join(told)


def _waiting(situation: Situation) -> float:
    """Share of a step in which a GPU waits for K and V."""
    step = situation.step
    return step.terms_s.get(cp_term(situation.candidate), 0.0) / step.total_s


def _link_mends(situation: Situation, link: GroupLink) -> Iterator[Mend]:
    better = _better_order(situation, link)
    if better is not None:
        yield better
    fewer = _fewer_ranks(situation)
    if fewer is not None:
        yield fewer
    yield Mend(text="see the matrix of links and the best ring (card K5)", command="cpadvisor inspect")


def _better_order(situation: Situation, link: GroupLink) -> Mend | None:
    """The GPUs in the order in which no hop is slower than it has to be."""
    layout = situation.candidate.layout
    order = rank_order(situation.problem.fabric.node, layout)
    other = group_links(situation.problem.fabric, layout, order, ulysses=situation.candidate.ulysses)
    best = _slowest(situation, other)
    if best.bytes_per_s <= link.bytes_per_s:
        return None
    names = ",".join(map(str, order))
    text = f"take the GPUs in the order {names}: slowest hop {best.worst} at {format_rate(best.bytes_per_s)}"
    if situation.config.is_axolotl:
        return Mend(text=text, command=f"export CUDA_DEVICE_ORDER=PCI_BUS_ID CUDA_VISIBLE_DEVICES={names}")
    changes = (Change(key="cpadvisor.rank_order", value=list(order)),)
    return Mend(text=text, changes=changes if is_nvlink(best.worst) else ())


def _fewer_ranks(situation: Situation) -> Mend | None:
    """The largest smaller cp whose group has only NVLink, where it fits memory."""
    start, old = unturned(situation), situation.candidate.layout
    for cp in (size for size in range(old.cp - 1, 0, -1) if old.cp % size == 0):
        layout = replace(old, cp=cp, dp_shard=old.dp_shard * (old.cp // cp))
        if broken(situation.problem, layout) is not None or not _is_on_nvlink(situation, layout):
            continue
        changes: dict[str, Any] = cp_changes(situation, layout)
        order = tuple(changes.get("cpadvisor.rank_order", situation.order))
        words = f"write context_parallel_size: {cp} and dp_shard_size: {layout.dp_shard}"
        turned = replace(start.turn(words, changes, **cp_fields(situation, layout)), order=order)
        if turned.memory.fits:
            text = f"{words}: {format_bytes(turned.memory.peak_bytes)} at the peak, fits; the batch grows"
            return Mend(text=text, changes=turned_changes(turned))
    return None


def _is_on_nvlink(situation: Situation, layout: Layout) -> bool:
    if layout.cp == 1:
        return True
    order = rank_order(situation.problem.fabric.node, layout)
    return is_nvlink(group_links(situation.problem.fabric, layout, order)["cp_ring"].worst)


def _network(situation: Situation, environ: Mapping[str, str]) -> Diagnosis:
    nodes = situation.problem.workload.nodes
    if nodes == 1:
        seen = f"{situation.where}: one machine, no exchange leaves it"
        return Diagnosis(rule="network", severity="ok", title="no network in use", evidence=seen, card=("L2",))
    rate = situation.problem.workload.nic_bytes_per_s or ASSUMED_NIC_BYTES_PER_S
    off = environ.get("NCCL_IB_DISABLE", "0") not in ("", "0")
    seen = (
        f"{nodes} machines; {format_rate(rate)} a GPU is assumed, card L2 asks for {format_rate(MIN_NIC_BYTES_PER_S)} "
        f"(100 Gbit/s); NCCL_IB_DISABLE={environ.get('NCCL_IB_DISABLE', 'unset')}"
    )
    if not off:
        mend = Mend(text="measure it, then plan with --nic", command="cpadvisor plan --nodes 2 --nic 400g")
        title = "the network between nodes is assumed"
        return Diagnosis(rule="network", severity="note", title=title, evidence=seen, mends=(mend,), card=("L2", "D2"))
    return Diagnosis(
        rule="network",
        severity="warning",
        title="InfiniBand is switched off",
        evidence=seen,
        effect="NCCL takes TCP sockets between nodes: a tenth of the rate",
        mends=(Mend(text="switch it on", command="export NCCL_IB_DISABLE=0"),),
        card=("L2", "D2"),
    )


def _step(situation: Situation) -> Diagnosis:
    """The parts of a step, and the card's figure for context parallelism (F5) beside ours."""
    step, cp = situation.step, situation.candidate.layout.cp
    parts = sorted(step.terms_s.items(), key=lambda item: -item[1])[:4]
    words = ", ".join(f"{name.replace('_', ' ')} {format_seconds(seconds)}" for name, seconds in parts)
    beside = f"; waiting for K and V {format_percent(_waiting(situation))}, card F5 says {overhead_percent(cp):.0f} %"
    return Diagnosis(
        rule="step",
        severity="ok",
        title=f"a step takes about {format_seconds(step.total_s)}",
        evidence=f"{format_seconds(step.low_s)} to {format_seconds(step.high_s)} on {situation.where}: {words}"
        + (beside if cp > 1 else ""),
        card=("D2", "F5"),
    )
