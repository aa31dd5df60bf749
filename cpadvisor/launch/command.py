"""The command line of a run: torchrun on the loopback interface, one log a rank."""

from pathlib import Path

from cpadvisor.rundir import TORCHRUN_FOLDER

_RANK = 'export NCCL_DEBUG_FILE="$PWD/nccl-rank$RANK.log"; exec "$@" >>"log-rank$RANK.txt" 2>&1'
"""Both names hold the rank, which only the rank's own process knows; `exec` keeps its process number."""


def torchrun_arguments(world: int, log_dir: Path, port: int | None = None) -> tuple[str, ...]:
    """Options of torchrun. Its rendezvous store takes a free port of this host, or `port`, so runs never meet."""
    return (
        *_rendezvous(port),
        "--local-addr=127.0.0.1",
        f"--nproc-per-node={world}",
        "--max-restarts=0",
        "--redirects=3",
        f"--log-dir={log_dir}",
    )


def _rendezvous(port: int | None) -> tuple[str, ...]:
    """The static rendezvous ends at once on a port that is taken; the others join whatever listens there."""
    if port is None:
        return ("--standalone",)
    return ("--nnodes=1", "--node-rank=0", "--rdzv-backend=static", f"--rdzv-endpoint=127.0.0.1:{port}")


def trainer_argv(*, python: str, world: int, run_dir: Path, config: Path, port: int | None = None) -> tuple[str, ...]:
    """torchrun on the bundled trainer; the working directory is the run directory."""
    return (
        python,
        "-m",
        "torch.distributed.run",
        *torchrun_arguments(world, run_dir / TORCHRUN_FOLDER, port),
        "--no-python",
        "/bin/sh",
        "-c",
        _RANK,
        "rank",
        python,
        "-m",
        "runtime.train",
        str(config),
    )


def axolotl_argv(*, python: str, world: int, run_dir: Path, config: Path, port: int | None = None) -> tuple[str, ...]:
    """axolotl's own command, which replaces itself by torchrun; without the count behind `--` it starts one process."""
    return (
        python,
        "-m",
        "axolotl.cli.main",
        "train",
        str(config),
        "--launcher",
        "torchrun",
        "--",
        *torchrun_arguments(world, run_dir / TORCHRUN_FOLDER, port),
    )
