"""How commands name what a run was started from: by the user's file while it is there, else by the run."""

import shlex

from cpadvisor.doctor.run_facts import RunFacts
from cpadvisor.rundir import CONFIG_FILE, shell_name


def run_name(facts: RunFacts) -> str:
    """The run, quoted."""
    return shell_name(facts.view.directory)


def file_name(facts: RunFacts) -> str | None:
    """The user's file, quoted; None where it is gone."""
    return None if facts.file is None else shlex.quote(str(facts.file))


def copy_name(facts: RunFacts) -> str:
    """The run's own copy, quoted: to read from, never to change."""
    return shlex.quote(str(facts.view.directory / CONFIG_FILE))


def doctor_command(facts: RunFacts, symptom: str) -> str:
    """The checks of a symptom for the file, which has the knobs; those of the run where the file is gone."""
    return f"cpadvisor doctor {file_name(facts) or run_name(facts)} --symptom {symptom}"


def parity_command(facts: RunFacts) -> str:
    """The comparison with cp 1."""
    return f"cpadvisor parity {file_name(facts) or copy_name(facts)}"


def back_command(facts: RunFacts) -> str:
    """What brings a file back that is gone."""
    return f"cp {copy_name(facts)} {shlex.quote(facts.record.config or 'FILE')}"


def is_resumable(facts: RunFacts) -> bool:
    """Whether the run itself can go on with `launch --resume`."""
    return facts.view.is_final and facts.view.state != "done" and facts.record.writes_events
