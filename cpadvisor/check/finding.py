"""A finding names the rule, what stands in the config, and the change that mends it."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from cpadvisor.write.edit import Change

SEVERITIES = ("error", "warning", "note")
"""Worst first: it does not start or trains something else; it costs memory, speed or correctness; worth knowing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing to mend or to know."""

    rule: str
    """A row of the card (`F1`, `L1`, …) or a name of ours (`tp-cp`)."""
    severity: str
    key: str | None
    message: str
    fix: str | None = None
    changes: tuple[Change, ...] = ()
    """What the fix does to the file, where a key and a value follow from it; of several fixes, the first."""


def sort_findings(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Errors first, then warnings, then notes; in the order of the rules within each."""
    return tuple(sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity)))


def findings_json(findings: Iterable[Finding]) -> dict[str, Any]:
    """What `check --json` prints. `ok` means that no finding is an error."""
    rows = [
        {
            "rule": finding.rule,
            "severity": finding.severity,
            "key": finding.key,
            "message": finding.message,
            "fix": finding.fix,
        }
        for finding in findings
    ]
    return {"schema": 1, "ok": all(row["severity"] != "error" for row in rows), "findings": rows}
