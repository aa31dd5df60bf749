import subprocess
from pathlib import Path

from cpadvisor.launch.command import axolotl_argv, trainer_argv

RUN = Path("/runs/r")


def test_torchrun_meets_on_the_loopback_interface_and_starts_the_trainer() -> None:
    argv = trainer_argv(python="/venv/bin/python", world=4, run_dir=RUN, config=RUN / "config.yaml")
    assert argv[:3] == ("/venv/bin/python", "-m", "torch.distributed.run")
    for option in ("--standalone", "--local-addr=127.0.0.1", "--nproc-per-node=4", "--redirects=3"):
        assert option in argv
    assert argv[-4:] == ("/venv/bin/python", "-m", "runtime.train", "/runs/r/config.yaml")


def test_a_port_of_ones_own_takes_the_rendezvous_that_refuses_one_that_is_taken() -> None:
    for make in (trainer_argv, axolotl_argv):
        argv = make(python="python", world=2, run_dir=RUN, config=RUN / "config.yaml", port=29400)
        assert {"--rdzv-backend=static", "--rdzv-endpoint=127.0.0.1:29400", "--nnodes=1"} <= set(argv)
        assert "--standalone" not in argv


def test_a_rank_becomes_its_command_and_writes_to_files_of_its_number(tmp_path: Path) -> None:
    argv = trainer_argv(python="echo", world=1, run_dir=RUN, config=RUN / "config.yaml")
    rank = argv[argv.index("--no-python") + 1 :]
    subprocess.run(rank, cwd=tmp_path, env={"RANK": "3", "PATH": "/usr/bin:/bin"}, check=True)
    assert (tmp_path / "log-rank3.txt").read_text() == "-m runtime.train /runs/r/config.yaml\n"
    probe = [*rank[:4], "/bin/sh", "-c", "echo $NCCL_DEBUG_FILE"]
    subprocess.run(probe, cwd=tmp_path, env={"RANK": "3", "PATH": "/usr/bin:/bin"}, check=True)
    assert (tmp_path / "log-rank3.txt").read_text().endswith(f"{tmp_path}/nccl-rank3.log\n")


def test_axolotl_is_told_the_number_of_processes_behind_the_dashes() -> None:
    argv = axolotl_argv(python="python", world=8, run_dir=RUN, config=RUN / "config.yaml")
    assert argv[:7] == ("python", "-m", "axolotl.cli.main", "train", "/runs/r/config.yaml", "--launcher", "torchrun")
    assert "--nproc-per-node=8" in argv[argv.index("--") :]
