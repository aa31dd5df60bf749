"""A run, live or ended: why it failed, then what was measured against what its config promised."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from cpadvisor.catalog import find_gpu
from cpadvisor.doctor.context_rows import context_rows
from cpadvisor.doctor.diagnosis import Diagnosis, Mend, sort_diagnoses
from cpadvisor.doctor.from_check import diagnoses_of
from cpadvisor.doctor.knobs import memory_mends
from cpadvisor.doctor.run_commands import back_command, file_name, is_resumable, run_name
from cpadvisor.doctor.run_facts import RunFacts, read_facts
from cpadvisor.doctor.run_rows import run_rows
from cpadvisor.doctor.situation import Situation, situate
from cpadvisor.doctor.training_rows import training_rows
from cpadvisor.doctor.variable_checks import variable_checks
from cpadvisor.launch.environment import threads
from cpadvisor.node import Gpu, Node
from cpadvisor.probe.recorded import CPU, load_node
from cpadvisor.rundir import CONFIG_FILE
from cpadvisor.runrecord import read_record
from cpadvisor.units import format_bytes
from cpadvisor.watch.view import RunView


def examine_run(run_dir: Path, *, view: RunView | None = None) -> tuple[Diagnosis, ...]:
    """Every check of a run, worst first. `view` saves a look at the run where the caller has one.

    Mends change the config that the run was started from (`config_of`), never the run, and nothing where it is gone.
    Raises LaunchError for a directory that is no run.
    """
    return judge_run(read_facts(run_dir, view))


def judge_run(facts: RunFacts) -> tuple[Diagnosis, ...]:
    """What follows from what a run has told, worst first."""
    told = [*run_rows(facts), *context_rows(facts)]
    is_told = any(_lacks_memory(one) for one in told)
    settled = [_with_knobs(one, facts) if _lacks_memory(one) or not is_told else one for one in told]
    rows = [*settled, *_of_the_config(facts, settled), *_environment(facts)]
    return sort_diagnoses(_for_the_file(one, facts) for one in rows)


def config_of(run_dir: Path) -> Path | None:
    """The config that mends of a run change: the file that it was started from, which may be gone by now."""
    started_from = read_record(run_dir).config
    return None if started_from is None else Path(started_from)


def _of_the_config(facts: RunFacts, told: Iterable[Diagnosis]) -> Iterator[Diagnosis]:
    """Findings and rows of the copy that runs, where the run itself has told nothing better."""
    if facts.config is None:
        return
    found = diagnoses_of(facts.findings)
    rules = {one.rule for one in told}
    rows = (*found, *training_rows(facts.config, facts.file or facts.view.directory / CONFIG_FILE, found))
    yield from (one for one in rows if one.rule not in rules)


def _environment(facts: RunFacts) -> Iterator[Diagnosis]:
    """Variables that the run was started with, without those that the launcher itself sets so."""
    gpus, environ = facts.record.gpus is not None, dict(facts.record.env)
    if not gpus:
        environ.pop("CUDA_VISIBLE_DEVICES", None)
    if environ.get("OMP_NUM_THREADS") == str(threads(facts.record.world, gpu=gpus)):
        environ.pop("OMP_NUM_THREADS")
    yield from (one for one in variable_checks(environ, gpus=gpus) if one.severity != "ok")


def _lacks_memory(one: Diagnosis) -> bool:
    return one.rule == "failure" and "D1" in one.card


def _with_knobs(one: Diagnosis, facts: RunFacts) -> Diagnosis:
    """Where memory ran out, or is short, every knob is given with its peak."""
    lacks = _lacks_memory(one)
    if not lacks and not (one.rule == "memory" and one.severity != "ok"):
        return one
    situation = situation_of(facts)
    if situation is None:
        return one
    beside = f"\npredicted for this file: {format_bytes(situation.memory.peak_bytes)} at the peak" if lacks else ""
    return replace(one, evidence=one.evidence + beside, mends=_joined(memory_mends(situation), one.mends, facts))


def _joined(knobs: tuple[Mend, ...], told: tuple[Mend, ...], facts: RunFacts) -> tuple[Mend, ...]:
    """Knobs, and what the failure told that is none of them: first where no line of the config took the memory."""
    able = any(mend.changes for mend in knobs)
    commands = {mend.command for mend in knobs if mend.command}
    own = tuple(mend for mend in told if mend.command not in commands and not (able and _plans_anew(mend)))
    failure = facts.view.failure
    outside = failure is not None and failure.term in ("others", "fragments")
    return (*own, *knobs) if outside else (*knobs, *own)


def _plans_anew(mend: Mend) -> bool:
    return (mend.command or "").startswith("cpadvisor plan ")


def situation_of(facts: RunFacts) -> Situation | None:
    """The run's config on GPUs of its own product, with all of their memory; None where either is not known."""
    if facts.config is None:
        return None
    device = next((str(rank.start.get("device")) for rank in facts.started), None)
    if device is None and facts.record.gpus is None:
        device = CPU
    spec = None if device in (None, CPU) else find_gpu(device)
    if device == CPU:
        found = situate(facts.config, load_node(CPU))
    elif spec is not None:
        found = situate(
            facts.config, _like_ones(spec.product, facts.record.world, name=facts.record.host or "its host")
        )
    else:
        return None
    return None if isinstance(found, str) else found


def _like_ones(product: str, count: int, *, name: str) -> Node:
    """As many GPUs as the run took, of its product; over which links is not asked here."""
    return Node(
        name=name,
        source="recorded",
        gpus=tuple(Gpu(index=index, name=product) for index in range(count)),
        links=tuple((None,) * count for _ in range(count)),
    )


def _for_the_file(one: Diagnosis, facts: RunFacts) -> Diagnosis:
    """Mends that change the config say that the run itself goes on, or has to be launched again."""
    able = any(mend.changes for mend in one.mends)
    mends = [mend for mend in one.mends if not (able and _leads_here(mend))]
    return replace(one, mends=tuple(_told_for_a_run(mend, facts) for mend in mends))


def _leads_here(mend: Mend) -> bool:
    """Whether a mend only sends the user to the doctor, who is at work already."""
    return not mend.changes and (mend.command or "").startswith("cpadvisor doctor ")


def _told_for_a_run(mend: Mend, facts: RunFacts) -> Mend:
    if not mend.changes:
        return mend
    file = file_name(facts)
    if file is None:
        return _without_file(mend, facts)
    after = "launch it again" if facts.view.is_final else "this run goes on as it is; launch another"
    return replace(mend, text=f"{mend.text}; {after}", command=mend.command or f"cpadvisor launch {file}")


def _without_file(mend: Mend, facts: RunFacts) -> Mend:
    """The change in words alone: the copy of the run says what has run, and stays so."""
    gone = f"{facts.record.config} is gone" if facts.record.config else "the run was started from no file"
    resume = f"; `cpadvisor launch --resume {run_name(facts)}` goes on with the old values"
    text = f"{mend.text}; {gone}: bring the run's copy back and change that" + (resume if is_resumable(facts) else "")
    return Mend(text=text, command=back_command(facts))
