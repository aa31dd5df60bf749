"""A mend becomes a change of a config file: shown as a diff, then written whole with the old file beside it."""

from pathlib import Path

from cpadvisor.doctor.diagnosis import Mend


def preview(path: Path, mend: Mend) -> str:
    """The diff that `apply` would make; nothing is written. Raises ConfigError as `apply` does."""
    raise NotImplementedError


def apply(path: Path, mend: Mend) -> tuple[str, Path | None]:
    """Write the changed config; gives the diff and the path of the old text, None where nothing changed.

    Raises ConfigError for a mend without changes or a file that cannot be read or has changed so that it no longer
    is YAML, WriteError for one that cannot be written; the file then stays as it was.
    """
    raise NotImplementedError
