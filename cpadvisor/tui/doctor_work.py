"""What the doctor's screen calls, in a thread: an examination, the look at a change, the change itself."""

from pathlib import Path
from typing import TYPE_CHECKING

from cpadvisor.errors import ConfigError
from cpadvisor.node import Node
from cpadvisor.tui.exam import Exam, Mended, Remedy, Subject

if TYPE_CHECKING:
    from cpadvisor.doctor.diagnosis import Diagnosis, Mend
    from cpadvisor.watch.view import RunView


class DoctorWork:
    """The doctor as the headless command calls it."""

    _runs: Path | None = None
    _python: str | None = None

    def examine(self, subject: Subject, *, node: Node | None = None, view: "RunView | None" = None) -> Exam:
        """Every check of a subject. `node` is what a config is meant for, `view` the newest look at a run."""
        from cpadvisor.card import load_rows

        load_rows()  # read here, so that the screen finds it read
        return Exam(subject=subject, found=self._found(subject, node, view), config=self._config(subject))

    def _found(self, subject: Subject, node: Node | None, view: "RunView | None") -> "tuple[Diagnosis, ...]":
        from cpadvisor import doctor

        if subject.path is None:
            return doctor.examine_node(python=self._python, runs=self._runs)
        if subject.kind == "run":
            return doctor.examine_run(subject.path, view=view)
        return doctor.examine_config(subject.path, node=node)

    def _config(self, subject: Subject) -> Path | None:
        from cpadvisor.doctor import config_of

        return config_of(subject.path) if subject.kind == "run" and subject.path is not None else subject.path

    def remedy(self, exam: Exam, title: str, mend: "Mend") -> Remedy:
        """A mend with the change that it would make; nothing is written. Raises ConfigError as `apply` does."""
        from cpadvisor.doctor import mending

        path = exam.config if mend.changes else None
        diff = "" if path is None else mending.preview(path, mend)
        return Remedy(subject=exam.subject, title=title, mend=mend, path=path, diff=diff)

    def mend(self, remedy: Remedy) -> Mended:
        """Write the change; what was there is kept beside it."""
        from cpadvisor.doctor import mending

        if remedy.path is None:
            way = remedy.mend.command or "do it by hand"
            raise ConfigError(f"{remedy.mend.text}: no line of a config does this; {way}")
        _, backup = mending.apply(remedy.path, remedy.mend)
        return Mended(path=remedy.path, backup=backup)
