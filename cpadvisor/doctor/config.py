"""A config: what `check` finds, and the card's rows D1 to D5 and L1 to L4 worked out for this file and machine."""

import os
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from cpadvisor.check.config import examine_file
from cpadvisor.check.subject import Config
from cpadvisor.doctor.diagnosis import Diagnosis, Mend, sort_diagnoses
from cpadvisor.doctor.from_check import diagnoses_of
from cpadvisor.doctor.gathering import gather_node
from cpadvisor.doctor.memory_rows import disk_rows, memory_rows, unpredicted
from cpadvisor.doctor.ring_rows import ring_rows
from cpadvisor.doctor.situation import plan_command, situate, wants_gpus
from cpadvisor.doctor.training_rows import split_evidence, training_rows
from cpadvisor.doctor.variable_checks import variable_checks
from cpadvisor.node import Node
from cpadvisor.plan.layout import chunk_neighbours
from cpadvisor.probe.recorded import CPU, load_node
from cpadvisor.write.edit import as_changes

GPU_ROWS = ("F1", "K1")
EXAMPLE = "dgx-h100"
"""The machine that stands in where a file wants GPUs, none was named, and none is here."""


def examine_config(
    path: Path, *, node: Node | None = None, environ: Mapping[str, str] = os.environ
) -> tuple[Diagnosis, ...]:
    """Every check of a config, worst first. `node` is the machine that it is meant for; None is this one.

    A file for CPU processes is always judged for this one. Raises ConfigError for a file that cannot be read.
    """
    config, findings = examine_file(path)
    found = diagnoses_of(findings)
    if config is None:
        return sort_diagnoses(found)
    here = node is None or node.source == "nvml"
    machine, missing = _machine(config, node, environ)
    rows = [
        *(_with_split(one, config) for one in found if not _is_told_by_the_row(one, config)),
        *_gpus(config, path, machine, missing),
        *_predicted(config, machine, environ, is_example=missing is not None),
        *training_rows(config, path, found),
        *(disk_rows(config) if here else ()),
        *(variable_checks(environ, gpus=wants_gpus(config) is not False) if here else ()),
    ]
    return sort_diagnoses(rows)


def _machine(config: Config, node: Node | None, environ: Mapping[str, str]) -> tuple[Node, str | None]:
    """The machine, and why it stands in for another where it does.

    CPU processes start on this host, whatever machine with GPUs is looked at, and share its memory.
    """
    if wants_gpus(config) is False:
        return load_node(CPU), None
    if node is not None and (node.name != CPU or not wants_gpus(config)):
        return node, None
    seen, why = (None, f"the node {CPU} has none") if node is not None else gather_node(environ)
    if seen is not None:
        return seen, None
    return (load_node(CPU), None) if wants_gpus(config) is None else (load_node(EXAMPLE), why or "none is here")


def _predicted(config: Config, machine: Node, environ: Mapping[str, str], *, is_example: bool) -> Iterator[Diagnosis]:
    situation = situate(config, machine, is_example=is_example)
    if isinstance(situation, str):
        yield unpredicted(situation)
        return
    yield from memory_rows(situation)
    yield from ring_rows(situation, environ)


def _gpus(config: Config, path: Path, machine: Node, missing: str | None) -> Iterator[Diagnosis]:
    """Whether the machine has the GPUs that the sizes multiply to (card rows F1, K1)."""
    if wants_gpus(config) is False or machine.name == CPU:
        return
    if missing is not None:
        yield _no_gpus(config, path, machine, missing)
    elif config.product <= len(machine.gpus):
        seen = _gpus_seen(config, machine)
        yield Diagnosis(rule="gpus", severity="ok", title="GPUs for every rank", evidence=seen, card=GPU_ROWS)
    else:
        yield _too_few_gpus(config, machine)


def _gpus_seen(config: Config, machine: Node) -> str:
    return f"the sizes multiply to {config.product}, {machine.name} has {len(machine.gpus)}"


def _no_gpus(config: Config, path: Path, machine: Node, missing: str) -> Diagnosis:
    want = config.product
    return Diagnosis(
        rule="gpus",
        severity="error",
        title=f"the file wants {want} GPU{'s' if want > 1 else ''}, and this machine has none",
        evidence=f"{missing}; figures below are of {machine.name}, as an example",
        effect="it does not start here",
        mends=(
            Mend(
                text="judge it for the machine that it is meant for, such as this one",
                command=f"cpadvisor doctor {shlex.quote(str(path))} --node {EXAMPLE}",
            ),
            Mend(
                text="try the way with a tiny model on CPU processes", command="cpadvisor write --node cpu -o cpu.yaml"
            ),
        ),
        card=GPU_ROWS,
    )


def _too_few_gpus(config: Config, machine: Node) -> Diagnosis:
    want, have = config.product, len(machine.gpus)
    several = config.is_axolotl and want % have == 0
    return Diagnosis(
        rule="gpus",
        severity="note" if several else "error",
        title=f"{want} GPUs are {want // have} such machines" if several else f"{want} GPUs, and there are {have}",
        evidence=_gpus_seen(config, machine),
        effect=None if several else "it does not start on this machine",
        mends=tuple(_for_fewer_gpus(config, have)),
        card=GPU_ROWS,
    )


def _for_fewer_gpus(config: Config, have: int) -> Iterator[Mend]:
    others = config.product // config.degree("dp_shard")
    if have % others == 0:
        shards = have // others
        yield Mend(text=f"write dp_shard_size: {shards}", changes=as_changes(config.with_shards(shards)))
    yield Mend(text="plan for the GPUs that there are", command=plan_command(config))


def _with_split(one: Diagnosis, config: Config) -> Diagnosis:
    """A finding on the split shows the length, cp, the local length and the neighbours, and offers both of these."""
    if one.rule != "F3":
        return one
    nearest = one.mends[0].changes[0].value
    both = chunk_neighbours(int(config.values["sequence_len"]), config.degree("cp"))
    lengths = (nearest, *(length for length in both if length != nearest))
    mends = (
        Mend(text=f"write sequence_len: {length}", changes=as_changes({"sequence_len": length})) for length in lengths
    )
    return replace(one, evidence=f"{one.evidence}; {split_evidence(config)}", mends=tuple(mends))


def _is_told_by_the_row(one: Diagnosis, config: Config) -> bool:
    """`cp-on` tells of a method that is none, with the same mend."""
    return one.rule == "engine-value.cpadvisor.method" and config.block("cpadvisor").get("method") == "none"
