"""What a user should know about a plan that starts and fits: one sentence each, with the number and the mend."""

from cpadvisor.node import is_nvlink
from cpadvisor.plan.advice import MemoryEstimate
from cpadvisor.plan.candidate import Candidate
from cpadvisor.plan.compute import attention_efficiency, attention_rates
from cpadvisor.plan.engines import SYNC_EACH_BATCH
from cpadvisor.plan.layout import chunk_neighbours
from cpadvisor.plan.links import ASSUMED_NIC_BYTES_PER_S
from cpadvisor.plan.problem import Problem
from cpadvisor.plan.step_time import Links, is_measured
from cpadvisor.plan.traffic import ring_tokens_needed
from cpadvisor.units import format_bytes, format_rate

MIN_NIC_BYTES_PER_S = 100e9 / 8
"""Card L2: a network of at least 100 Gbit/s."""


def plan_warnings(problem: Problem, candidate: Candidate, memory: MemoryEstimate, links: Links) -> tuple[str, ...]:
    """All warnings of one plan."""
    return (
        *_about_memory(candidate, memory),
        *_about_length(candidate),
        *_about_links(problem, candidate, links),
        *_about_rates(candidate),
    )


def _about_memory(candidate: Candidate, memory: MemoryEstimate) -> list[str]:
    found: list[str] = []
    if not memory.fits:
        over = format_bytes(memory.high_bytes - memory.limit_bytes)
        found.append(f"tight: the upper end of the memory band is {over} above the limit; try it with a few steps")
    engine, layout = candidate.engine, candidate.layout
    if engine.accumulated_gradient_bytes and candidate.accumulation > 1 and layout.shard_group > 1:
        whole = format_bytes(engine.accumulated_gradient_bytes * candidate.model.parameters / layout.tp)
        found.append(f"{whole} more a GPU without {SYNC_EACH_BATCH}, which keeps accumulated gradients sharded")
    return found


def _about_length(candidate: Candidate) -> list[str]:
    found: list[str] = []
    tokens, positions, cp = candidate.sequence_len, candidate.model.max_positions, candidate.layout.cp
    if tokens > positions:
        found.append(
            f"{tokens} tokens exceed the {positions} positions that {candidate.model.name} was trained for; "
            "its rotary scaling has to be extended"
        )
    if cp > 1 and tokens % (2 * cp):
        below, above = chunk_neighbours(tokens, cp)
        found.append(f"{tokens} tokens do not split into 2 x cp {cp} chunks and are padded; {below} or {above} are not")
    return found


def _about_links(problem: Problem, candidate: Candidate, links: Links) -> list[str]:
    found: list[str] = []
    layout, ring = candidate.layout, links["cp_ring" if candidate.ring_ranks == candidate.layout.cp else "cp"]
    if layout.cp > 1 and ring.crosses_nodes:
        rate = format_rate(ring.bytes_per_s)
        found.append(f"the cp group of {layout.cp} spans nodes: each hop is held to {rate} (card T3, T4)")
    elif layout.cp > 1 and not problem.gpu.is_cpu and not is_nvlink(ring.worst):
        found.append(f"the cp group crosses {ring.worst}: {format_rate(ring.bytes_per_s)} a hop, no NVLink (card K5)")
    if layout.tp > 1 and not is_nvlink(links["tp"].worst):
        found.append(f"tp {layout.tp} sums over {links['tp'].worst}, and nothing hides that")
    nic = problem.workload.nic_bytes_per_s
    if problem.workload.nodes > 1 and nic is None:
        found.append(
            f"the network between nodes is assumed at {format_rate(ASSUMED_NIC_BYTES_PER_S)} a GPU; give --nic"
        )
    elif problem.workload.nodes > 1 and nic is not None and nic < MIN_NIC_BYTES_PER_S:
        found.append(f"{format_rate(nic)} a GPU is below the 12.5 GB/s (100 Gbit/s) that card L2 asks of the network")
    return found


def _about_rates(candidate: Candidate) -> list[str]:
    if is_measured(candidate):
        return []
    return ["times rest on the hardware table, not on a measurement of this machine"]


def tokens_to_hide(candidate: Candidate, links: Links) -> float:
    """Local tokens of a sequence from which this plan's ring hops hide behind attention."""
    rate = attention_rates(candidate)[0] * attention_efficiency(candidate)
    return ring_tokens_needed(candidate, flops_per_s=rate, bytes_per_s=links["cp_ring"].bytes_per_s)
