"""The command that starts a config: torchrun for the bundled trainer, the axolotl CLI for axolotl.

Both name the number of processes: `axolotl train --launcher torchrun` alone starts
one (card row K1), and a missing --rdzv_id makes each of several nodes wait for itself (K2).
"""

import shlex
from collections.abc import Mapping

from cpadvisor.plan.advice import Plan
from cpadvisor.plan.workload import Workload

DEFAULT_CONFIG = "config.yaml"
DEFAULT_PORT = 29500


def processes_per_node(workload: Workload, plan: Plan) -> int:
    """Ranks on each node: 16 GPUs over 2 nodes are 8."""
    return plan.layout.world // workload.nodes


def launch_env(workload: Workload, plan: Plan) -> Mapping[str, str]:
    """Environment that matters, as a command line sets it.

    The rank order of the bundled trainer stands in its config; axolotl takes GPUs as they are visible.
    """
    if workload.engine == "cpadvisor":
        return {}
    order = ",".join(str(index) for index in plan.order)
    is_plain = list(plan.order) == list(range(len(plan.order)))
    numbered = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": order}
    visible = {} if is_plain and workload.nodes > 1 else numbered
    return {
        **visible,
        "PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True",  # long sequences fragment the allocator
        "AXOLOTL_DO_NOT_TRACK": "1",
    }


def launch_argv(
    workload: Workload,
    plan: Plan,
    *,
    config: str = DEFAULT_CONFIG,
    python: str = "python",
    node_rank: str = "NODE_RANK",
    head: str = f"HEAD_ADDRESS:{DEFAULT_PORT}",
    run_id: str = "RUN_NAME",
) -> tuple[str, ...]:
    """The words of the command for one node; the last three parameters matter from two nodes up."""
    if workload.engine == "cpadvisor":
        rendezvous = _torchrun_flags(workload, plan, node_rank, head, run_id, dash="-")
        return (python, "-m", "torch.distributed.run", *rendezvous, "-m", "runtime.train", config)
    rendezvous = _torchrun_flags(workload, plan, node_rank, head, run_id, dash="_")
    return ("axolotl", "train", config, "--launcher", "torchrun", "--", *rendezvous)


def _torchrun_flags(
    workload: Workload, plan: Plan, node_rank: str, head: str, run_id: str, *, dash: str
) -> tuple[str, ...]:
    count = str(processes_per_node(workload, plan))
    per_node = f"--nproc{dash}per{dash}node={count}"
    if workload.nodes == 1:
        return (per_node,) if workload.engine != "cpadvisor" else ("--standalone", per_node)
    return (
        f"--nnodes={workload.nodes}",
        per_node,
        f"--node{dash}rank={node_rank}",
        f"--rdzv{dash}backend=c10d",
        f"--rdzv{dash}endpoint={head}",
        f"--rdzv{dash}id={run_id}",
    )


def command_text(workload: Workload, plan: Plan, *, config: str = DEFAULT_CONFIG) -> str:
    """The command as one line for a shell, environment first."""
    env = " ".join(f"{name}={shlex.quote(value)}" for name, value in launch_env(workload, plan).items())
    argv = shlex.join(launch_argv(workload, plan, config=config))
    return f"{env} {argv}".strip()
