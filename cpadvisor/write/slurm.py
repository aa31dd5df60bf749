"""The job script of a plan for Slurm: one task a node, which starts the ranks of its GPUs."""

import json
import shlex

from cpadvisor.hf_config import config_json
from cpadvisor.plan.advice import Plan
from cpadvisor.plan.workload import Workload
from cpadvisor.write.command import DEFAULT_PORT, launch_argv, launch_env, processes_per_node

CPUS_PER_GPU = 8
"""Enough for a rank, its data workers and NCCL's proxy threads. An estimate; sites set their own."""


def job_script(workload: Workload, plan: Plan, *, config: str, hours: int = 24) -> str:
    """A bash script for sbatch that trains `config`, a path seen from the folder of submission."""
    count = processes_per_node(workload, plan)
    directives = (
        f"--job-name={workload.model.name}-{workload.sequence_len}",
        f"--nodes={workload.nodes}",
        "--ntasks-per-node=1",
        f"--gpus-per-node={count}",
        f"--cpus-per-task={CPUS_PER_GPU * count}",
        f"--time={hours}:00:00",
        "--output=%x-%j.log",
    )
    lines = [
        "#!/bin/bash",
        *(f"#SBATCH {directive}" for directive in directives),
        f"# {plan.layout.words}: {workload.nodes} x {count} GPUs",
        "set -euo pipefail",
        "",
        *_environment(workload, plan),
        f"config={shlex.quote(config)}",
        *_start(workload, plan),
    ]
    return "\n".join(lines) + "\n"


def _start(workload: Workload, plan: Plan) -> list[str]:
    if workload.engine == "cpadvisor" and workload.nodes == 1:
        return ['srun cpadvisor launch "$config"']
    return [
        *_model_shape(workload),
        'mapfile -t hosts < <(scontrol show hostnames "$SLURM_JOB_NODELIST")',
        "",
        "# Each node asks Slurm for its own number, so the inner words are left to the shell of the node.",
        f'srun bash -c {shlex.quote(_node_command(workload, plan))} _ "$config" "${{hosts[0]}}:{DEFAULT_PORT}"',
    ]


def _model_shape(workload: Workload) -> list[str]:
    """The bundled trainer looks for the shape of its model beside the config, where `cpadvisor launch` would put it."""
    if workload.engine != "cpadvisor":
        return []
    shape = json.dumps(config_json(workload.model), indent=1)
    return [
        'mkdir -p "$(dirname "$config")/model"',
        'cat > "$(dirname "$config")/model/config.json" <<\'END\'',
        shape,
        "END",
    ]


def _environment(workload: Workload, plan: Plan) -> list[str]:
    env = dict(launch_env(workload, plan))
    # Slurm numbers the GPUs of a job from 0, so only an order of exactly those numbers can be asked for.
    if sorted(plan.order) != list(range(len(plan.order))):
        env.pop("CUDA_VISIBLE_DEVICES", None)
    return [f"export {name}={shlex.quote(value)}" for name, value in env.items()]


def _node_command(workload: Workload, plan: Plan) -> str:
    """The launch command with the node's own values as shell words: $1 is the config, $2 the head."""
    argv = launch_argv(workload, plan, config="$1", node_rank="$SLURM_NODEID", head="$2", run_id="$SLURM_JOB_ID")
    return "exec " + " ".join(f'"{word}"' if "$" in word else shlex.quote(word) for word in argv)
