"""What mends each kind of failure, in words, and the command to type."""

import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from cpadvisor.runrecord import RunRecord, user_config
from cpadvisor.units import format_bytes
from cpadvisor.watch.case import Case
from cpadvisor.watch.failure import Failure
from cpadvisor.watch.host import listener, space_for
from cpadvisor.watch.knobs import Job, Knob, free_others, nearest_knob, whole_segments
from cpadvisor.watch.memory_cause import MemoryCause, memory_cause
from cpadvisor.watch.wording import first_of_kind, is_about_shared_memory, port_in, unwritten_path


def mended(failure: Failure, case: Case) -> Failure:
    """The failure with its mend and command, and what more there is to see of its kind."""
    return _MENDS.get(failure.kind, _go_on)(failure, case)


def again(record: RunRecord, name: str) -> str:
    """The command that goes on with a run that ended; one of axolotl's is launched anew."""
    if not record.writes_events and record.config is not None:
        return f"cpadvisor launch {shlex.quote(record.config)}"
    return f"cpadvisor launch --resume {name}"


def resumes(record: RunRecord, checkpoint_step: int | None) -> str:
    """Where a run that is started again goes on, as the end of a sentence."""
    if not record.writes_events:
        return "axolotl goes on from its own checkpoints where auto_resume_from_checkpoints is true"
    if checkpoint_step is None:
        return "it begins anew, as it has kept no checkpoint (save_strategy: steps keeps some)"
    return f"it goes on from its checkpoint of step {checkpoint_step}"


def _go_on(failure: Failure, case: Case) -> Failure:
    return replace(failure, mend=f"start it again: {resumes(case.record, case.checkpoint_step)}", command=_again(case))


def _again(case: Case) -> str:
    return again(case.record, case.name)


def _out_of_memory(failure: Failure, case: Case) -> Failure:
    event = case.out_of_memory.get(-1 if failure.rank is None else failure.rank)
    gpus, rank = case.record.gpus or (), failure.rank or 0
    gpu = gpus[rank] if rank < len(gpus) else None
    if event is None:
        return _with_knob(failure, nearest_knob(_job(case), phase=None))
    cause = memory_cause(event, case.record.prediction, gpu=gpu)
    told = replace(
        failure,
        headline=f"rank {failure.rank} ran out of GPU memory {cause.headline}",
        step=cause.step,
        term=cause.term,
        evidence=cause.evidence,
    )
    return _with_knob(told, _memory_knob(case, cause, gpu))


def _memory_knob(case: Case, cause: MemoryCause, gpu: int | None) -> Knob | None:
    if cause.term == "others":
        return free_others(gpu)
    fitting = whole_segments(_again(case), case.record.env) if cause.term == "fragments" else None
    return fitting or nearest_knob(_job(case), phase=cause.phase)


def _with_knob(failure: Failure, knob: Knob | None) -> Failure:
    return failure if knob is None else replace(failure, mend=knob.words, command=knob.command)


def _job(case: Case) -> Job:
    record, base = case.record, case.clues.config.get("base_model")
    is_folder = isinstance(base, str) and base.startswith("/")
    return Job(
        config=case.clues.config,
        subject=_file(case) or case.name,
        model=base if is_folder else record.model,
        sequence_len=record.sequence_len,
        world=record.world,
    )


def _file(case: Case) -> str | None:
    """The config that the user wrote, while it is there."""
    config = user_config(case.record)
    return None if config is None else shlex.quote(str(config))


def _host_memory(failure: Failure, case: Case) -> Failure:
    onwards = resumes(case.record, case.checkpoint_step)
    words = f"free memory of the host (`free -h` shows it) or use fewer processes, then start it again: {onwards}"
    return replace(failure, mend=words, command=_again(case))


def _not_a_number(failure: Failure, case: Case) -> Failure:
    """The card's row C8, as far as the config does not follow it."""
    config = case.clues.config
    rate, clip = config.get("learning_rate"), config.get("max_grad_norm")
    words = ["lower learning_rate" + (f" (now {rate:g})" if isinstance(rate, int | float) else "")]
    if not isinstance(clip, int | float) or not 0 < clip <= 1:
        words.append("set max_grad_norm to 1.0")
    if not (config.get("warmup_steps") or config.get("warmup_ratio")):
        words.append("warm up over a tenth of the steps")
    losses = ", ".join(f"{value:.4f}" for _, value in case.losses)
    told = (f"the losses up to step {case.losses[-1][0]}: {losses}",) if case.losses else ()
    command = f"cpadvisor doctor {case.name} --symptom nan"
    return replace(failure, evidence=told or failure.evidence, mend=", ".join(words), command=command)


def _exception(failure: Failure, case: Case) -> Failure:
    rank = "" if not failure.rank else f" --rank {failure.rank}"
    words = f"mend what the last line names, then go on with `{_again(case)}`; the whole log:"
    return replace(failure, mend=words, command=f"cpadvisor logs {case.name}{rank}")


def _config(failure: Failure, case: Case) -> Failure:
    file = _file(case)
    command = None if file is None else f"cpadvisor check {file}"
    return replace(failure, mend="change the config as the message says, and launch it anew", command=command)


def _launcher(failure: Failure, case: Case) -> Failure:
    words = "torchrun could not start the ranks: look at the interpreter and its environment"
    return replace(failure, mend=words, command="cpadvisor doctor")


def _no_torch(failure: Failure, case: Case) -> Failure:
    python = case.record.interpreter
    headline = f"{python or 'the interpreter'} has no torch"
    words = "install it there, or name an interpreter that has it with --python"
    command = None if python is None else f"{shlex.quote(python)} -m pip install 'cpadvisor[train]'"
    return replace(failure, headline=headline, mend=words, command=command)


def _port_taken(failure: Failure, case: Case) -> Failure:
    line = first_of_kind((failure.headline, *reversed(failure.evidence)), failure.kind) or failure.headline
    port = port_in(line)
    if port is None:
        return replace(failure, mend="start it again: torchrun takes a free port", command=_again(case))
    holder = listener(port)
    who = (
        f"{holder} listens on port {port} now"
        if holder
        else f"nobody that this user may see listens on port {port} now"
    )
    return replace(
        failure,
        headline=f"port {port} of this host was taken already",
        evidence=(line, who),
        mend="start it again without --port, and a free one is taken",
        command=_again(case),
    )


def _disk_full(failure: Failure, case: Case) -> Failure:
    if is_about_shared_memory("\n".join((failure.headline, *failure.evidence))):
        words = "free some of /dev/shm, or give the container more (docker: --shm-size), then go on"
        return replace(failure, mend=words, command=_again(case))
    path = unwritten_path((failure.headline, *failure.evidence))
    runs, space = case.clues.space, case.clues.space if path is None else space_for(Path(path))
    if space is None:
        return replace(failure, mend="free some space, then go on", command=_again(case))
    line = f"{space.place} has {format_bytes(space.free_bytes)} free now"
    is_of_runs = runs is not None and runs.place == space.place
    how = "for example with `cpadvisor runs rm`, " if is_of_runs else ""
    words = f"free some space on {space.place}, {how}then go on"
    return replace(failure, evidence=(*failure.evidence, line), mend=words, command=_again(case))


_MENDS: dict[str, Callable[[Failure, Case], Failure]] = {
    "out_of_memory": _out_of_memory,
    "host_memory": _host_memory,
    "not_a_number": _not_a_number,
    "exception": _exception,
    "config": _config,
    "launcher": _launcher,
    "no_torch": _no_torch,
    "port_taken": _port_taken,
    "disk_full": _disk_full,
}
"""Kinds without an entry end from outside, and only need to be started again."""
