"""Commands that start what they say they start."""

import shlex
import subprocess

from cpadvisor.catalog import find_model
from cpadvisor.plan.layout import Layout
from cpadvisor.write.command import command_text, launch_argv, launch_env
from cpadvisor.write.slurm import job_script


def test_axolotl_is_told_the_number_of_processes_behind_the_dashes(planned):
    # Without it `--launcher torchrun` starts one process (card row K1).
    _, plan, workload = planned(engine="axolotl-0.21", method="ulysses")
    assert launch_argv(workload, plan, config="c.yaml") == (
        "axolotl", "train", "c.yaml", "--launcher", "torchrun", "--", "--nproc_per_node=8",
    )  # fmt: skip


def test_the_bundled_trainer_starts_under_torchrun(planned):
    _, plan, workload = planned()
    argv = launch_argv(workload, plan, python="/usr/bin/python3", config="/run/config.yaml")
    assert argv == (
        "/usr/bin/python3", "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=8",
        "-m", "runtime.train", "/run/config.yaml",
    )  # fmt: skip


def test_several_nodes_share_one_rendezvous_id(planned):
    # axolotl's default id is a random one on each node, so they would never meet.
    _, plan, workload = planned(engine="axolotl-0.20", layout=Layout(dp_shard=2, cp=8), nodes=2)
    argv = launch_argv(workload, plan, node_rank="1", head="10.0.0.1:29500", run_id="job7")
    assert argv[6:] == (
        "--nnodes=2", "--nproc_per_node=8", "--node_rank=1", "--rdzv_backend=c10d",
        "--rdzv_endpoint=10.0.0.1:29500", "--rdzv_id=job7",
    )  # fmt: skip


def test_the_rank_order_reaches_axolotl_as_visible_devices(planned):
    _, plan, workload = planned(engine="axolotl-0.21", order=(0, 3, 2, 1, 5, 6, 7, 4))
    assert launch_env(workload, plan)["CUDA_VISIBLE_DEVICES"] == "0,3,2,1,5,6,7,4"
    assert command_text(workload, plan).startswith("CUDA_DEVICE_ORDER=PCI_BUS_ID CUDA_VISIBLE_DEVICES=0,3,2,1,5,6,7,4 ")


def test_the_rank_order_of_the_bundled_trainer_stands_in_its_config_alone(planned):
    _, plan, workload = planned(order=(0, 3, 2, 1, 5, 6, 7, 4))
    assert launch_env(workload, plan) == {}


def test_the_job_script_starts_one_task_a_node_with_that_nodes_number(planned, tmp_path):
    _, plan, workload = planned(engine="axolotl-0.20", layout=Layout(dp_shard=2, cp=8), nodes=2)
    script = job_script(workload, plan, config="my config.yaml")
    assert "#SBATCH --nodes=2" in script
    assert "#SBATCH --gpus-per-node=8" in script
    # Run it with stand-ins for Slurm's commands: srun prints the words that it would start.
    for name, body in {
        "scontrol": "echo node-a; echo node-b",
        "srun": 'SLURM_NODEID=1 "$@"',
        "axolotl": 'printf "%s\\n" "$@"',
    }.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{body}\n")
        (tmp_path / name).chmod(0o755)
    env = {"PATH": f"{tmp_path}:/usr/bin:/bin", "SLURM_JOB_NODELIST": "node-[a-b]", "SLURM_JOB_ID": "7"}
    done = subprocess.run(["/bin/bash", "-c", script], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:-1] == [
        "train", "my config.yaml", "--launcher", "torchrun", "--", "--nnodes=2", "--nproc_per_node=8",
        "--node_rank=1", "--rdzv_backend=c10d", "--rdzv_endpoint=node-a:29500", "--rdzv_id=7",
    ]  # fmt: skip


def test_a_job_of_the_bundled_trainer_on_one_node_is_a_launch(planned):
    _, plan, workload = planned()
    assert job_script(workload, plan, config="c.yaml").endswith('config=c.yaml\nsrun cpadvisor launch "$config"\n')


def test_a_job_of_the_bundled_trainer_on_two_nodes_brings_the_shape_of_its_model(planned, tmp_path):
    _, plan, workload = planned(layout=Layout(dp_shard=2, cp=8), nodes=2)
    script = job_script(workload, plan, config=str(tmp_path / "c.yaml"))
    head = script.partition("mapfile")[0]
    subprocess.run(["/bin/bash", "-c", head], check=True)
    assert find_model(str(tmp_path / "model")).parameters == workload.model.parameters


def test_slurm_numbers_gpus_from_zero_so_foreign_indices_are_left_out(planned):
    layout = Layout(cp=4)
    _, plan, workload = planned(engine="axolotl-0.21", layout=layout, order=(4, 5, 6, 7))
    assert "CUDA_VISIBLE_DEVICES" not in job_script(workload, plan, config="c.yaml")
    _, plan, workload = planned(engine="axolotl-0.21", layout=layout, order=(0, 2, 3, 1))
    assert "export CUDA_VISIBLE_DEVICES=0,2,3,1" in job_script(workload, plan, config="c.yaml")


def test_a_command_can_be_pasted_into_a_shell(planned):
    _, plan, workload = planned()
    words = shlex.split(command_text(workload, plan, config="/a b/c.yaml"))
    assert words[-1] == "/a b/c.yaml"
