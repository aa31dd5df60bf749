"""`python -m runtime.train CONFIG`, or the same under torchrun: trains, and says how it ended.

Exit status: 0 done, 1 failed, 2 a config that cannot run, 143 stopped by SIGTERM.
"""

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from torch.distributed.elastic.multiprocessing.errors import record

from runtime import config as configs
from runtime import disk, faults, mesh, process
from runtime.door import Door, DoorError
from runtime.errors import TrainerError
from runtime.reporter import Reporter
from runtime.settings import TrainConfig

USAGE = "usage: python -m runtime.train CONFIG.yaml"
USAGE_STATUS = 2


@record
def main() -> None:
    """Train the config named on the command line; leaves by SystemExit where it cannot."""
    if len(sys.argv) != 2:
        print(USAGE, file=sys.stderr)
        sys.exit(USAGE_STATUS)
    config, reporter = _read(Path(sys.argv[1]))
    door = Door(rank=mesh.global_rank(), progress=reporter.progress)
    reporter.stop_on_sigterm(door.close)
    try:
        _train(config, reporter, door)
    finally:
        door.close()


def _read(path: Path) -> tuple[TrainConfig, Reporter]:
    try:
        config = configs.load(path, world=mesh.world_size())
    except TrainerError as error:
        with suppress(TrainerError):
            if (path.parent / "run.json").exists():
                Reporter(path.parent, rank=mesh.global_rank()).end("failed", str(error), cause=error.kind)
        _leave_with(error)
    try:
        return config, Reporter(config.run_dir, rank=mesh.global_rank())
    except TrainerError as error:
        _leave_with(error)


def _train(config: TrainConfig, reporter: Reporter, door: Door) -> None:
    try:
        _introduce(reporter, door)
        _run(config, reporter)
    except TrainerError as error:
        reporter.end("failed", str(error), cause=error.kind, **error.facts)
        _leave_with(error)
    except BaseException as error:
        reason, cause = _told(error)
        reporter.end("failed", reason, cause=cause)
        raise
    reporter.end("done")


def _run(config: TrainConfig, reporter: Reporter) -> None:
    # Imported after the first event: these parts of torch take seconds to load.
    from runtime import job, resume

    fault = faults.asked(os.environ, config.sizes)
    if fault is not None:
        reporter.warn(faults.RULE, fault.announcement)
    job.run(config, reporter, fault=fault, resumes=resume.is_asked(os.environ))


def _told(error: BaseException) -> tuple[str, str]:
    """The reason and the cause of an end that no TrainerError explains."""
    from runtime import shortage

    if shortage.is_shortage(error):
        return shortage.reason(error), "out_of_memory"
    return f"{type(error).__name__}: {error}", "exception"


def _introduce(reporter: Reporter, door: Door) -> None:
    """The first event, before anything slow: which process this is, and where it answers questions."""
    try:
        path, closed = str(door.open()), None
    except DoorError as error:
        path, closed = None, str(error)
    reporter.emit("process", rank=mesh.global_rank(), **process.identity(), door=path)
    if closed is not None:
        reporter.warn("no_door", closed)


def _leave_with(error: TrainerError) -> NoReturn:
    # Where every rank fails alike, one message a machine is enough.
    if not error.alike or os.environ.get("LOCAL_RANK", "0") == "0":
        try:
            print(f"error: {error}", file=sys.stderr)
        except OSError:  # a disk that is full for events is so for the log
            disk.silence(sys.stderr)
    sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
