"""Runs as JSON that other programs rely on, and the exit status that a run gives its command."""

import math
from collections.abc import Sequence
from typing import Any

from cpadvisor.errors import EXIT_DONE, EXIT_FAILED, EXIT_INTERRUPTED
from cpadvisor.watch.failure import Failure
from cpadvisor.watch.view import LIVE_STATES, Points, RunView

SCHEMA = 1

_PUBLIC_STATES = {**dict.fromkeys(LIVE_STATES, "running"), "out_of_memory": "failed", "lost": "failed"}


def run_json(view: RunView) -> dict[str, Any]:
    """What `launch` and `stop` print. `state` is running, done, failed or stopped; `phase` is the finer word.

    `failure` is the root cause of a run that failed, is lost or hangs, `notes` what to know of its directory.
    """
    return {"schema": SCHEMA, **_run_fields(view)}


def runs_json(views: Sequence[RunView]) -> dict[str, Any]:
    """What `runs` prints, in the order given."""
    return {
        "schema": SCHEMA,
        "runs": [
            {
                **_run_fields(view),
                "started": view.started,
                "model": view.model,
                "layout": dict(view.layout),
                "sequence_len": view.sequence_len,
            }
            for view in views
        ],
    }


def logs_json(view: RunView, *, rank: int | None, lines: Sequence[str]) -> dict[str, Any]:
    """What `logs` prints; rank null is torchrun's own log."""
    return {"schema": SCHEMA, "run": view.run, "rank": rank, "lines": list(lines)}


def watch_json(view: RunView) -> dict[str, Any]:
    """What `watch` prints: the run with its figures; of each series the last value, and null for what is unknown."""
    return {
        **run_json(view),
        "model": view.model,
        "layout": dict(view.layout),
        "sequence_len": view.sequence_len,
        "world": view.world,
        "cp_method": view.cp_method,
        "kernel": view.kernel,
        "step": view.step,
        "steps": view.steps,
        "checkpoint_step": view.checkpoint_step,
        "started": view.started,
        "elapsed_s": view.elapsed_s,
        "eta_s": view.eta_s,
        "loss": last_value(view.loss),
        "grad_norm": view.grad_norm,
        "step_s": last_value(view.step_s),
        "split_s": dict(view.split_s),
        "exchanges": [
            {"op": one.op, "bytes": one.sent_bytes, "wire_s": one.wire_s, "exposed_s": one.exposed_s}
            for one in view.exchanges
        ],
        "tokens_per_s_per_gpu": last_value(view.tokens_per_s_per_gpu),
        "peak_bytes": view.peak_bytes,
        "ranks": [
            {
                "rank": rank.rank,
                "pid": rank.pid,
                "alive": rank.alive,
                "halted": rank.halted,
                "step": rank.step,
                "gpu": rank.gpu,
                "allocated_bytes": rank.allocated_bytes,
                "peak_bytes": rank.peak_bytes,
            }
            for rank in view.ranks
        ],
        "prediction": None if view.prediction is None else dict(view.prediction),
        "warnings": list(view.warnings),
    }


def exit_status(view: RunView) -> int:
    """The exit status of a command that waited for this run: 0 done or still running, 130 stopped, 1 failed."""
    if view.state == "stopped":
        return EXIT_INTERRUPTED
    return EXIT_FAILED if _PUBLIC_STATES.get(view.state, view.state) == "failed" else EXIT_DONE


def last_value(points: Points) -> float | None:
    """The last value of a series; None where there is none or it is no number."""
    return points[-1][1] if points and math.isfinite(points[-1][1]) else None


def _run_fields(view: RunView) -> dict[str, Any]:
    return {
        "run": view.run,
        "dir": str(view.directory),
        "state": _PUBLIC_STATES.get(view.state, view.state),
        "phase": view.state,
        "exit": view.exit,
        "reason": view.reason,
        "failure": None if view.failure is None else failure_json(view.failure),
        "notes": list(view.notes),
    }


def failure_json(failure: Failure) -> dict[str, Any]:
    """A root cause; what does not apply to its kind is null."""
    return {
        "kind": failure.kind,
        "headline": failure.headline,
        "rank": failure.rank,
        "step": failure.step,
        "term": failure.term,
        "evidence": list(failure.evidence),
        "mend": failure.mend,
        "command": failure.command,
    }
