"""Why a run ended or hangs, as one record: the root cause, what proves it, and the command that mends it."""

from dataclasses import dataclass

KINDS = (
    "out_of_memory",  # of a GPU
    "host_memory",  # the kernel killed a rank for want of memory
    "not_a_number",
    "exception",
    "config",  # the trainer refused the config
    "killed",  # a rank was ended by a signal that nobody of the run sends
    "launcher_killed",
    "launcher",  # torchrun itself could not start
    "no_torch",
    "port_taken",
    "disk_full",
    "vanished",  # the run directory is gone
    "unreadable",  # its record cannot be read, and its processes go on
    "hung",
    "lost",  # nothing says how it ended
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """One cause, told in a screenful."""

    kind: str
    """One of KINDS."""
    headline: str
    """One line: what went wrong first, with rank and step where they are known."""
    rank: int | None = None
    """The rank that failed first, or that the others wait for."""
    step: int | None = None
    """The step in which it went wrong."""
    term: str | None = None
    """The memory term that exceeded its prediction, for out_of_memory."""
    evidence: tuple[str, ...] = ()
    """At most 10 lines that prove it: of logs, error.json, events, the kernel. Plain text, no markup."""
    mend: str | None = None
    """The nearest change that mends it, in words."""
    command: str | None = None
    """What to type to do so."""
