"""A mend becomes a change of a config file: shown as a diff, then written whole with the old file beside it."""

from collections.abc import Sequence
from pathlib import Path

from cpadvisor.check.config import examine_file
from cpadvisor.check.finding import Finding
from cpadvisor.doctor.comments import PREDICTION, makes_untrue, with_true_comments
from cpadvisor.doctor.diagnosis import Mend
from cpadvisor.errors import ConfigError
from cpadvisor.rundir import read_existing, replace_with_backup
from cpadvisor.write.diff import unified_diff
from cpadvisor.write.edit import REMOVE, Change, edited
from cpadvisor.yaml_reader import read_yaml


def preview(path: Path, mend: Mend) -> str:
    """The diff that `apply` would make; nothing is written. Raises ConfigError as `apply` does."""
    old, new = _texts(path, mend)
    return unified_diff(old, new, name=str(path)) if old != new else ""


def apply(path: Path, mend: Mend) -> tuple[str, Path | None]:
    """Write the changed config; gives the diff and the path of the old text, None where nothing changed.

    Raises ConfigError for a mend without changes, one that would bring an error with it, or a file that cannot be
    read or is no YAML any more, WriteError for one that cannot be written; the file then stays as it was.
    """
    old, new = _texts(path, mend)
    _refuse_new_errors(path, old, new)
    return (unified_diff(old, new, name=str(path)) if old != new else ""), replace_with_backup(path, new)


def _texts(path: Path, mend: Mend) -> tuple[str, str]:
    if not mend.changes:
        instead = f"; run `{mend.command}`" if mend.command else ""
        raise ConfigError(f"{mend.text}: no line of a config does that{instead}")
    old = read_existing(path)
    if old is None:
        raise ConfigError(f"{path}: there is no such file any more; write it with `cpadvisor write -o {path}`")
    changes = _with_prediction(old, mend.changes, path)
    new = edited(old, changes, name=str(path))
    return old, with_true_comments(old, new, [change.key for change in changes])


def _with_prediction(text: str, changes: Sequence[Change], path: Path) -> tuple[Change, ...]:
    """The changes, and the end of a prediction that they make untrue and do not renew."""
    block = read_yaml(text, name=str(path))[0].get("cpadvisor")
    predicts = isinstance(block, dict) and "prediction" in block
    renews = any(change.key.startswith(PREDICTION) for change in changes)
    touches = makes_untrue(change.key for change in changes)
    gone = (Change(key=PREDICTION, value=REMOVE),) if predicts and touches and not renews else ()
    return (*changes, *gone)


def _refuse_new_errors(path: Path, old: str, new: str) -> None:
    before = {(one.rule, one.key) for one in _errors(path, old)}
    brought = [one for one in _errors(path, new) if (one.rule, one.key) not in before]
    if brought:
        told = "; ".join(f"{one.rule}: {one.message}" for one in brought)
        raise ConfigError(f"{path} is unchanged, for the mend would bring another error ({told}); change it by hand")


def _errors(path: Path, text: str) -> list[Finding]:
    return [finding for finding in examine_file(path, text=text)[1] if finding.severity == "error"]
