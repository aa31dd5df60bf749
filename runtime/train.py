"""`python -m runtime.train CONFIG`, or the same under torchrun: trains, and says how it ended.

Exit status: 0 done, 1 failed, 2 a config that cannot run, 143 stopped by SIGTERM.
"""

import os
import sys
from pathlib import Path
from typing import NoReturn

import torch
from torch.distributed.elastic.multiprocessing.errors import record

from runtime import config as configs
from runtime import mesh, trainer
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
    path = Path(sys.argv[1])
    try:
        config = configs.load(path, world=mesh.world_size())
    except TrainerError as error:
        if (path.parent / "run.json").exists():
            Reporter(path.parent, rank=mesh.global_rank()).end("failed", str(error))
        _leave_with(error)
    reporter = Reporter(config.run_dir, rank=mesh.global_rank())
    reporter.stop_on_sigterm()
    _train(config, reporter)


def _train(config: TrainConfig, reporter: Reporter) -> None:
    try:
        trainer.run(config, reporter)
    except TrainerError as error:
        reporter.end("failed", str(error))
        _leave_with(error)
    except torch.OutOfMemoryError as error:
        reporter.end("failed", out_of_memory(error))
        raise
    except BaseException as error:
        reporter.end("failed", f"{type(error).__name__}: {error}")
        raise
    reporter.end("done")


def out_of_memory(error: torch.OutOfMemoryError) -> str:
    """The first sentences of torch's message: what it tried to allocate, and what there was."""
    sentences = str(error).removeprefix("CUDA out of memory. ").split(". ")
    return "out of GPU memory: " + ". ".join(sentences[:2]).rstrip(".")


def _leave_with(error: TrainerError) -> NoReturn:
    # Every rank fails alike; one message a machine is enough.
    if os.environ.get("LOCAL_RANK", "0") == "0":
        print(f"error: {error}", file=sys.stderr)
    sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
