"""The environment of a run: what makes torchrun, NCCL and the ranks behave the same wherever it is started."""

import os
import socket
from collections.abc import Mapping
from pathlib import Path

from cpadvisor.launch.keeper import KEEPER_VARIABLE, RUN_VARIABLE
from cpadvisor.rundir import ERROR_FILE

RESUME_VARIABLE = "CPADVISOR_RESUME"
"""Set to 1, it tells the trainer to go on from the newest whole checkpoint of its run directory."""

_RECORDED = ("CUDA_", "NCCL_", "TORCH", "PYTORCH_", "OMP_", "GLOO_", "PYTHON", "LD_LIBRARY_PATH", "CPADVISOR_")
_MOST_THREADS_BESIDE_A_GPU = 8
_FLIGHT_RECORDS = "2000"


def run_environment(
    base: Mapping[str, str],
    *,
    run_dir: Path,
    python: str,
    world: int,
    devices: tuple[str, ...] | None,
    code: Path | None,
    resume: bool = False,
) -> dict[str, str]:
    """The environment for the agent. `devices` None means CPU processes, which must not see a GPU.

    What the user has set of NCCL's and OpenMP's variables stays; the rest are defaults.
    """
    env = dict(base)
    env[RUN_VARIABLE] = str(run_dir)
    env.pop(RESUME_VARIABLE, None)  # a launch from within a run that was resumed is not itself one
    if resume:
        env[RESUME_VARIABLE] = "1"
    env["PYTHONSAFEPATH"] = "1"
    env["PYTHONUNBUFFERED"] = "1"
    env["TORCHELASTIC_ERROR_FILE"] = str(run_dir / ERROR_FILE)
    env["PATH"] = os.pathsep.join(filter(None, (str(Path(python).parent), base.get("PATH"))))
    if code is not None:
        env["PYTHONPATH"] = os.pathsep.join(filter(None, (str(code), base.get("PYTHONPATH"))))
    env.setdefault("OMP_NUM_THREADS", str(threads(world, gpu=devices is not None)))
    env.setdefault("TORCH_FR_BUFFER_SIZE", _FLIGHT_RECORDS)
    env.setdefault("AXOLOTL_DO_NOT_TRACK", "1")
    if devices is None:
        env["CUDA_VISIBLE_DEVICES"] = ""
        env.setdefault("GLOO_SOCKET_IFNAME", "lo")
    else:
        _add_gpus(env, devices, run_dir)
    return env


def _add_gpus(env: dict[str, str], devices: tuple[str, ...], run_dir: Path) -> None:
    env["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
    env["CUDA_VISIBLE_DEVICES"] = ",".join(devices)
    if "PYTORCH_ALLOC_CONF" not in env:  # its newer name, which wins
        env.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")  # long sequences fragment the allocator
    # NVLink SHARP multicast takes memory of every GPU for collectives that a ring does not use.
    env.setdefault("NCCL_NVLS_ENABLE", "0")
    env.setdefault("NCCL_RAS_ADDR", f"localhost:{free_port()}")
    env.setdefault("NCCL_DEBUG", "INFO")
    env.setdefault("NCCL_DEBUG_SUBSYS", "INIT,GRAPH,ENV")
    # The bundled trainer's ranks each name a file of their own; this is for ranks that axolotl starts.
    env.setdefault("NCCL_DEBUG_FILE", str(run_dir / "nccl-%h.%p.log"))


def keeper_environment(env: Mapping[str, str], run_dir: Path) -> dict[str, str]:
    """The environment of the keeper, which is no process of the run and ends after the last of it."""
    return {**{name: value for name, value in env.items() if name != RUN_VARIABLE}, KEEPER_VARIABLE: str(run_dir)}


def threads(world: int, *, gpu: bool) -> int:
    """OpenMP threads of a rank: its share of the cores that this process may use, at most 8 beside a GPU.

    torchrun takes 1 where nothing is set, which leaves 14 of 16 cores idle under two CPU ranks.
    """
    share = max(1, len(os.sched_getaffinity(0)) // world)
    return min(share, _MOST_THREADS_BESIDE_A_GPU) if gpu else share


def free_port() -> int:
    """A TCP port of the loopback interface that nobody listens on now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def recorded(env: Mapping[str, str]) -> dict[str, str]:
    """The variables that bear on a training, for run.json; never the rest, where passwords and tokens live."""
    return {name: env[name] for name in sorted(env) if name.startswith(_RECORDED)}
