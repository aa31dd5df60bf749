"""What a run measured against what it promised: its failure, memory, speed, parts of a step. Rows D1 and D2."""

from collections.abc import Iterator, Mapping

from cpadvisor import catalog
from cpadvisor.doctor.calmer import calmer_mends
from cpadvisor.doctor.diagnosis import Diagnosis, Mend
from cpadvisor.doctor.life_rows import life_rows
from cpadvisor.doctor.loss_rows import loss_rows
from cpadvisor.doctor.run_commands import doctor_command, run_name
from cpadvisor.doctor.run_facts import RunFacts
from cpadvisor.units import DASH, format_bytes, format_count, format_percent, format_seconds
from cpadvisor.watch.events import number, text
from cpadvisor.watch.figures import expected_peak_bytes, measured, relative_error
from cpadvisor.watch.view import state_label

CARD_OF_KIND = {"out_of_memory": ("D1", "L3"), "not_a_number": ("D3", "C8"), "hung": ("L4",)}
DATA_SHARE = 0.10
"""Share of a step that waits for data, from which loading is worth a change."""

_WARNINGS = {
    "slower_kernel": ("kernel", "a slower attention kernel runs", "steps take longer than predicted", ("D2", "L1")),
    "padding": ("padding", "most positions are padding", "the GPUs compute on nothing", ("D2", "D4")),
    "planted_fault": ("planted-fault", "a fault is planted in this run", "CPADVISOR_FAULT breaks it on purpose", ()),
}
"""Warnings of the trainer that have a check of their own: its rule, title, effect and rows of the card."""


def run_rows(facts: RunFacts) -> Iterator[Diagnosis]:
    """All of them; what a run has not told yet is left out."""
    yield from failure_rows(facts)
    yield from life_rows(facts)
    yield from _memory(facts)
    yield from _speed(facts)
    yield from _split_time(facts)
    yield from loss_rows(facts)
    yield from _kernel(facts)
    yield from _told(facts)
    yield from _notes(facts)


def _notes(facts: RunFacts) -> Iterator[Diagnosis]:
    """What of the directory could not be read as it should be: all other rows rest on the rest."""
    if facts.view.notes:
        yield Diagnosis(
            rule="directory",
            severity="warning",
            title="not all of the run's files could be read",
            evidence="; ".join(facts.view.notes),
            effect="figures and findings rest on what could be read",
        )


def failure_rows(facts: RunFacts) -> Iterator[Diagnosis]:
    """The root cause, with its mend; nothing for a run that is well."""
    view, failure = facts.view, facts.view.failure
    if failure is None:
        if view.state in ("failed", "out_of_memory", "lost", "hung"):
            yield Diagnosis(
                rule="failure",
                severity="error",
                title=f"the run is {state_label(view.state)}",
                evidence=view.reason or "nothing says why",
                effect=_progress(facts),
            )
        return
    yield Diagnosis(
        rule="failure",
        severity="error",
        title=failure.headline,
        evidence="\n".join(failure.evidence) or view.reason or "no line says more",
        effect=_progress(facts),
        mends=_failure_mends(facts),
        card=CARD_OF_KIND.get(failure.kind, ()),
    )


def _progress(facts: RunFacts) -> str:
    view = facts.view
    return f"{state_label(view.state)} after {view.step or 0} of {view.steps or DASH} steps"


def _failure_mends(facts: RunFacts) -> tuple[Mend, ...]:
    failure = facts.view.failure
    assert failure is not None, "a failure has mends"
    told = () if failure.mend is None else (Mend(text=failure.mend, command=failure.command),)
    calmer = calmer_mends(facts.config) if failure.kind == "not_a_number" and facts.config is not None else ()
    return (*calmer, *told)


def _memory(facts: RunFacts) -> Iterator[Diagnosis]:
    view, limit = facts.view, _limit_bytes(facts)
    if view.peak_bytes is None:
        return
    expected, high = expected_peak_bytes(view.prediction), number(view.prediction or {}, "high_bytes")
    peak = number(view.prediction or {}, "peak_bytes")
    top = None if None in (high, peak, expected) else high - peak + expected  # type: ignore[operator]
    error = relative_error(view.peak_bytes, expected)
    beside = "nothing was predicted" if expected is None else f"{format_bytes(expected)} predicted ({_signed(error)})"
    seen = f"peak {format_bytes(view.peak_bytes)} by the allocator, {beside}, of {format_bytes(limit)} a GPU has"
    above = top is not None and view.peak_bytes > top
    close = limit is not None and view.peak_bytes > 0.95 * limit
    title = (
        "memory is above its prediction" if above else "memory is almost full" if close else "memory is as predicted"
    )
    yield Diagnosis(
        rule="memory",
        severity="warning" if above or close else "ok",
        title=title,
        evidence=seen,
        effect="a longer document, or another step, may run out" if above or close else None,
        mends=(Mend(text="see each knob with its peak", command=doctor_command(facts, "oom")),),
        card=("D1", "L3"),
    )


def _limit_bytes(facts: RunFacts) -> int | None:
    """What a GPU of this run has: by its own word, else by its product."""
    for rank in facts.ranks:
        told = number(rank.out_of_memory or {}, "limit_bytes")
        if told is not None:
            return int(told)
    device = next((text(rank.start, "device") for rank in facts.started), None)
    spec = None if device in (None, "cpu") else catalog.find_gpu(str(device))
    return None if spec is None else spec.memory_bytes


def _signed(error: float | None) -> str:
    return DASH if error is None else f"{error * 100:+.0f} %"


def _speed(facts: RunFacts) -> Iterator[Diagnosis]:
    view, told = facts.view, measured(facts.view)
    if told.step_s is None:
        return
    prediction = view.prediction or {}
    expected, slowest = number(prediction, "step_s"), number(prediction, "step_high_s")
    pace = number(prediction, "tokens_per_s_per_gpu")
    slow = slowest is not None and told.step_s > slowest
    slowness = f"cpadvisor doctor {run_name(facts)} --symptom slow"
    seen = f"a step takes {format_seconds(told.step_s)}, {format_count(told.tokens_per_s_per_gpu)} tokens/s/GPU"
    if expected is not None:
        seen += f"; {format_seconds(expected)} and {format_count(pace)} were predicted ({_signed(told.step_error)})"
    yield Diagnosis(
        rule="speed",
        severity="warning" if slow else "ok",
        title="slower than predicted" if slow else "as fast as predicted" if expected is not None else "speed",
        evidence=seen + (f", at most {format_seconds(slowest)}" if slow else ""),
        effect=f"the run takes {told.step_s / expected:.1f} times as long" if slow and expected else None,
        mends=(Mend(text="see what holds up a step", command=slowness),) if slow else (),
        card=("D2",),
    )


def _split_time(facts: RunFacts) -> Iterator[Diagnosis]:
    """The parts of the last step."""
    parts = {name: seconds for name, seconds in facts.view.split_s.items() if seconds > 0}
    total = sum(parts.values())
    if not total:
        return
    words = ", ".join(f"{name} {format_percent(seconds / total)}" for name, seconds in _largest(parts))
    loading = parts.get("data", 0.0) / total
    late = loading > DATA_SHARE
    yield Diagnosis(
        rule="split-time",
        severity="warning" if late else "ok",
        title="steps wait for data" if late else "the parts of a step",
        evidence=f"{words} of {format_seconds(total)}"
        + (f"; data may take {format_percent(DATA_SHARE)}" if late else ""),
        effect=f"{format_percent(loading)} of the time the GPUs wait for the host" if late else None,
        mends=(Mend(text="put the data on a local disk, or give the host more cores"),) if late else (),
        card=("D2", "C7"),
    )


def _largest(parts: Mapping[str, float]) -> list[tuple[str, float]]:
    return sorted(parts.items(), key=lambda item: -item[1])


def _kernel(facts: RunFacts) -> Iterator[Diagnosis]:
    if facts.view.kernel and not any("slower_kernel" in rank.warnings for rank in facts.ranks):
        yield Diagnosis(
            rule="kernel",
            severity="ok",
            title=f"attention by {facts.view.kernel}",
            evidence="no faster kernel was passed over",
            card=("L1", "D2"),
        )


def _told(facts: RunFacts) -> Iterator[Diagnosis]:
    """Warnings of the trainer, each once."""
    seen: dict[str, str] = {}
    for rank in facts.ranks:
        for rule, message in rank.warnings.items():
            seen.setdefault(rule, f"rank {rank.rank}: {message}")
    for rule, message in seen.items():
        name, title, effect, card = _WARNINGS.get(rule, (f"warning.{rule}", "the trainer warns", None, ()))
        yield Diagnosis(rule=name, severity="warning", title=title, evidence=message, effect=effect, card=card)
