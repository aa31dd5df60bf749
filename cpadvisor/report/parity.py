"""Two runs side by side, step by step, with the checks and the verdict, as text and as JSON."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from cpadvisor.parity.readings import Reading
from cpadvisor.parity.running import Outcome
from cpadvisor.parity.verdict import Check, StepPair, Verdict
from cpadvisor.report.table import table
from cpadvisor.report.wrap import indented, wrap
from cpadvisor.units import DASH, format_tokens

SCHEMA = 1
WIDTH = 80
LABEL_COLUMN = 24

_NAMES = {"split": "split", "traffic": "bytes sent", "loss": "loss", "grad_norm": "gradient norm"}


def parity_json(outcome: Outcome) -> dict[str, Any]:
    """The verdict with every figure that it rests on; null for what is missing or no number."""
    verdict = outcome.verdict
    return {
        "schema": SCHEMA,
        "verdict": verdict.word,
        "cp": verdict.cp,
        "sequence_len": verdict.sequence_len,
        "first_wrong_step": verdict.first_wrong_step,
        "steps": [_step_json(pair) for pair in verdict.steps],
        "checks": [
            {"name": check.name, "outcome": check.outcome, "evidence": check.evidence} for check in verdict.checks
        ],
        "tolerance": {
            "first_step": asdict(verdict.tolerance.first),
            "later_steps": asdict(verdict.tolerance.later),
            "why": verdict.tolerance.why,
        },
        "runs": [_run_json(outcome.parallel), _run_json(outcome.whole)],
        "notes": list(outcome.notes),
        "warnings": list(outcome.warnings),
    }


def _step_json(pair: StepPair) -> dict[str, Any]:
    return {
        "step": pair.step,
        "loss": {"cp_1": pair.loss_whole, "cp_n": pair.loss_parallel, "difference": pair.loss_difference},
        "grad_norm": {"cp_1": pair.norm_whole, "cp_n": pair.norm_parallel, "difference": pair.norm_difference},
    }


def _run_json(reading: Reading) -> dict[str, Any]:
    return {"cp": reading.cp, "run": reading.directory.name, "dir": str(reading.directory)}


def parity_text(outcome: Outcome) -> str:
    """The table of steps, the checks, the verdict."""
    return "\n\n".join((_steps(outcome.verdict), "\n".join(_checks(outcome.verdict)), "\n".join(_conclusion(outcome))))


def _steps(verdict: Verdict) -> str:
    parallel = f"cp {verdict.cp}"
    headers = ("step", "loss, cp 1", parallel, "difference", "grad norm, cp 1", parallel, "difference", "")
    rows = [_step_row(pair, verdict) for pair in verdict.steps]
    return table(headers, rows, right=frozenset(range(7)))


def _step_row(pair: StepPair, verdict: Verdict) -> tuple[str, ...]:
    return (
        str(pair.step),
        _value(pair.loss_whole),
        _value(pair.loss_parallel),
        _difference(pair.loss_difference),
        _value(pair.norm_whole),
        _value(pair.norm_parallel),
        _difference(pair.norm_difference),
        "" if pair.within(verdict.tolerance) else "<- differs",
    )


def _value(value: float | None) -> str:
    return DASH if value is None else f"{value:.6f}"


def _difference(value: float | None) -> str:
    return DASH if value is None else f"{value:.1e}"


def _checks(verdict: Verdict) -> Iterator[str]:
    for check in verdict.checks:
        yield from indented(_check_words(check), width=WIDTH, label=_NAMES[check.name], column=LABEL_COLUMN)
    yield from indented(verdict.tolerance.why, width=WIDTH, label="why these limits", column=LABEL_COLUMN)


def _check_words(check: Check) -> str:
    return f"{check.outcome}: {check.evidence}"


def _conclusion(outcome: Outcome) -> Iterator[str]:
    verdict = outcome.verdict
    told = [*(f"note: {note}" for note in outcome.notes), *(f"warning: {warning}" for warning in outcome.warnings)]
    yield from (line for text in told for line in wrap(text, WIDTH))
    yield f"runs: {outcome.parallel.directory.name}, {outcome.whole.directory.name}"
    yield f"verdict: {verdict.word}{_because(verdict)}"


def _because(verdict: Verdict) -> str:
    if verdict.is_equal:
        unseen = [_NAMES[check.name] for check in verdict.checks if check.outcome == "not seen"]
        doubt = f"; not seen: {', '.join(unseen)}" if unseen else ""
        return f": cp {verdict.cp} gives what cp 1 gives, at {format_tokens(verdict.sequence_len)} tokens{doubt}"
    if verdict.first_wrong_step is not None:
        return f": step {verdict.first_wrong_step} is the first that is wrong"
    return f": {next(check.evidence for check in verdict.checks if check.outcome == 'failed')}"
