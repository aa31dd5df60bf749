"""Who holds memory of the GPUs: processes of others, and the user's own runs that go on."""

import shlex
from collections.abc import Iterator, Mapping

from cpadvisor.doctor.diagnosis import Diagnosis, Mend
from cpadvisor.doctor.facts import MachineFacts
from cpadvisor.launch.gpus import HELD_BYTES
from cpadvisor.node import Holder, Node
from cpadvisor.units import format_bytes


def holder_checks(facts: MachineFacts) -> Iterator[Diagnosis]:
    """Processes with more than a GiB of a GPU; those of the user's own runs are named as such."""
    if facts.driver.node is not None:
        yield _holders(facts.driver.node, facts.own_pids)


def _holders(node: Node, own: Mapping[int, str]) -> Diagnosis:
    in_the_way = [one for one in node.holders if (one.used_bytes or 0) > HELD_BYTES or one.pid in own]
    if not in_the_way:
        evidence = f"no process holds over {format_bytes(HELD_BYTES)}; GPUs asked: {len(node.gpus)}"
        return Diagnosis(rule="holders", severity="ok", title="the GPUs are free", evidence=evidence)
    runs = sorted({own[one.pid] for one in in_the_way if one.pid in own})
    foreign = [one for one in in_the_way if one.pid not in own]
    mends = [Mend(text=f"end your own run {run}", command=f"cpadvisor stop {shlex.quote(run)}") for run in runs]
    free = [str(index) for index in node.indices if index not in {one.gpu for one in in_the_way}]
    if free:
        command = f"CUDA_VISIBLE_DEVICES={','.join(free)} cpadvisor plan"
        mends.append(Mend(text="plan on the free GPUs", command=command))
    if foreign:
        mends.append(Mend(text=f"ask {foreign[0].user or 'its owner'} to end it", command=f"ps -fp {foreign[0].pid}"))
    return Diagnosis(
        rule="holders",
        severity="warning" if foreign else "note",
        title=f"{len(in_the_way)} process{'es hold' if len(in_the_way) > 1 else ' holds'} GPU memory",
        evidence="; ".join(_holder(one, own) for one in in_the_way[:8]) + ("; …" if len(in_the_way) > 8 else ""),
        effect="a plan has that much less to give, and `launch` refuses a held GPU",
        mends=tuple(mends),
    )


def _holder(one: Holder, own: Mapping[int, str]) -> str:
    who = (
        f"run {own[one.pid]}" if one.pid in own else f"{one.user or 'user unknown'}, {one.command or 'command unknown'}"
    )
    return f"GPU{one.gpu}: pid {one.pid} ({who[:80]}) {format_bytes(one.used_bytes)}"
