"""Bad input ends with its exit status and one message that names the value, the rule and what works."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import IO

import pytest

from cpadvisor.cli import main

PLAN = ("plan", "--node", "dgx-h100", "--model", "llama-3.1-8b", "--seq", "32k")

PAIR = "\tGPU0\tGPU1\tCPU Affinity\tNUMA Affinity\nGPU0\t X \tNV18\t0-31\t0\nGPU1\tNV18\t X \t0-31\t0\n"

CONFIG = """\
base_model: {model}
cpadvisor:
  method: ring
  random_weights: true
  model: tiny
datasets:
  - path: {data}
    ds_type: text
    type: completion
sequence_len: {tokens}
micro_batch_size: 1
gradient_accumulation_steps: 1
max_steps: 2
learning_rate: 2e-5
dp_shard_size: 1
context_parallel_size: 2
fsdp_version: 2
fsdp_config:
  reshard_after_forward: true
bf16: false
output_dir: {out}
"""


@pytest.fixture
def config(tmp_path):
    """Writes a config for `tiny` that is sound but for what a test changes."""

    def write(*, data="hello world\n" * 2000, tokens=1024, edit=lambda text: text):
        source = tmp_path / "data.txt"
        source.write_text(data)
        file = tmp_path / "config.yaml"
        text = CONFIG.format(model="tiny", data=source, tokens=tokens, out=tmp_path / "out")
        file.write_text(edit(text))
        return str(file)

    return write


def refused(capsys, *argv, code):
    """The message of a command that has to end with `code` and print no data."""
    try:
        status = main(argv)
    except SystemExit as leave:
        status = leave.code
    printed = capsys.readouterr()
    assert status == code, printed.err
    assert "Traceback" not in printed.err
    return " ".join((printed.out + printed.err).split())


def test_an_unknown_model_names_the_nearest_one(capsys):
    message = refused(capsys, *PLAN, "--model", "lama-3.1-8b", code=2)
    assert "lama-3.1-8b" in message
    assert "llama-3.1-8b" in message.replace("lama-3.1-8b", "", 1)


def test_a_sequence_that_does_not_split_names_both_neighbours(capsys):
    message = refused(capsys, *PLAN, "--seq", "10001", "--lock", "cp=8", code=2)
    assert "10001 does not split into 16 equal chunks" in message
    assert "use 10000 or 10016" in message


def test_more_gpus_than_there_are_names_how_many_there_are(capsys):
    assert "16 GPUs were asked for and dgx-h100 has 8; use 1 to 8" in refused(capsys, *PLAN, "--gpus", "16", code=2)


def test_a_gpu_that_is_not_there_is_named(capsys):
    message = refused(capsys, *PLAN, "--gpus", "0,9", code=2)
    assert "GPU 9 is not on dgx-h100" in message


@pytest.mark.parametrize(
    ("lock", "words"),
    [
        ("dp_replicate=1,dp_shard=2,tp=1,cp=2", "multiply to 4 and there are 8 GPUs"),
        ("cp=3", "multiply to 3, which does not divide 8 GPUs; the nearest product that does is 2"),
    ],
)
def test_a_layout_whose_product_is_wrong_names_both_numbers(capsys, lock, words):
    assert words in refused(capsys, *PLAN, "--lock", lock, code=2)


@pytest.mark.parametrize(("lock", "near"), [("cpp=2", "cp"), ("dp_shards=2", "dp_shard")])
def test_a_misspelt_axis_names_the_nearest_one(capsys, lock, near):
    assert f"did you mean {near}?" in refused(capsys, *PLAN, "--lock", lock, code=2)


def test_a_method_of_context_parallelism_is_one_that_the_engine_can_be_asked_for(capsys):
    assert "did you mean ulysses?" in refused(capsys, *PLAN, "--cp-method", "ulyses", code=2)
    message = refused(capsys, *PLAN, "--engine", "axolotl-0.21", "--cp-method", "ring", code=2)
    assert "leave --cp-method out, or use the engine cpadvisor" in message


@pytest.mark.parametrize("engine", ["axolotl-0.22", "cpadviser"])
def test_an_unknown_engine_names_the_nearest_one(capsys, engine):
    assert "did you mean" in refused(capsys, *PLAN, "--engine", engine, code=2)


def test_an_unknown_flag_is_one_line(capsys):
    assert "--sequence" in refused(capsys, *PLAN, "--sequence", "1", code=2)


def test_a_misspelt_key_names_the_nearest_one(capsys, config):
    file = config(edit=lambda text: text.replace("context_parallel_size", "context_paralel_size"))
    message = refused(capsys, "check", file, code=1)
    assert "context_paralel_size" in message
    assert "context_parallel_size" in message


def test_a_duplicate_key_names_both_lines(capsys, config):
    file = config(edit=lambda text: text + "sequence_len: 2048\n")
    message = refused(capsys, "check", file, code=1)
    assert "sequence_len" in message
    assert "line 10" in message
    assert "line 22" in message


def test_a_learning_rate_without_a_point_is_a_number(capsys, config):
    assert main(["check", config()]) == 0
    assert "nothing to mend" in capsys.readouterr().out


@pytest.mark.parametrize("content", [None, "{not json", "[]", '{"model_type": "llama"}'])
def test_an_unreadable_config_json_names_the_file(capsys, tmp_path, content):
    file = tmp_path / "config.json"
    if content is not None:
        file.write_text(content)
    assert "config.json" in refused(capsys, *PLAN, "--model", str(file), code=2)


@pytest.mark.parametrize("architecture", ["MixtralForCausalLM", "DeepseekV3ForCausalLM"])
def test_a_mixture_of_experts_is_refused_by_its_name(capsys, tmp_path, architecture):
    file = tmp_path / "config.json"
    file.write_text(f'{{"architectures": ["{architecture}"], "model_type": "mixtral", "hidden_size": 4096}}')
    assert architecture in refused(capsys, *PLAN, "--model", str(file), code=2)


def test_output_that_cannot_be_written_leaves_the_old_file(capsys, tmp_path, monkeypatch):
    target = tmp_path / "plan.yaml"
    target.write_text("# mine\n")

    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    monkeypatch.setattr(Path, "replace", full)
    message = refused(capsys, "write", *PLAN[1:], "-o", str(target), code=1)
    assert "plan.yaml" in message
    assert target.read_text() == "# mine\n"
    assert [path.name for path in tmp_path.iterdir() if path.name not in ("plan.yaml", "plan.yaml.bak")] == []


def test_output_into_a_folder_that_is_a_file_says_so(capsys, tmp_path):
    (tmp_path / "file").write_text("")
    message = refused(capsys, "write", *PLAN[1:], "-o", str(tmp_path / "file" / "plan.yaml"), code=1)
    assert "plan.yaml" in message


def test_an_empty_dataset_is_refused_before_anything_starts(capsys, config):
    message = refused(capsys, "check", config(data=""), code=1)
    assert "data.txt" in message
    assert "empty" in message


def test_a_sequence_longer_than_the_data_names_both_lengths(capsys, config, tmp_path):
    message = refused(
        capsys, "launch", config(data="short text", tokens=1024), "--runs", str(tmp_path / "runs"), code=1
    )
    assert "1,024" in message.replace("1024", "1,024")


def test_a_pasted_topology_without_a_gpu_lists_the_names(capsys, tmp_path):
    file = tmp_path / "topo.txt"
    file.write_text(PAIR)
    message = refused(capsys, "plan", "--topo", str(file), "--model", "llama-3.1-8b", "--seq", "32k", code=2)
    assert "--gpu" in message
    assert "h100-80g" in message
    assert main(["plan", "--topo", str(file), "--gpu", "h200", "--model", "llama-3.1-8b", "--seq", "32k"]) == 0


def test_text_that_is_no_topology_says_what_to_run(capsys, tmp_path):
    file = tmp_path / "topo.txt"
    file.write_text("hello\n")
    assert "nvidia-smi topo -m" in refused(capsys, "inspect", "--topo", str(file), code=2)


def test_an_unknown_node_names_the_shipped_ones(capsys):
    assert "dgx-h100" in refused(capsys, "inspect", "--node", "dgx-h10", code=2)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--lock", "cp=²"), "size '²' of cp is not a whole number"),
        (("--nodes", "2", "--nic", "0"), "network rate '0' carries nothing"),
        (("--nodes", "1000000000", "--nic", "400g"), "1000000000 nodes were asked for; use 1 to 4096"),
        (("--headroom", "500g"), "headroom 500 GiB leaves nothing of a GPU's 79.6 GiB"),
        (("--headroom", "9" * 400), "is not a number with an optional k, m, g or t"),
    ],
)
def test_a_number_without_sense_is_refused(capsys, flags, words):
    assert words in refused(capsys, *PLAN, *flags, code=2)


def test_a_global_batch_of_any_size_is_answered(capsys):
    main((*PLAN, "--global-batch", str(10**18), "--json"))
    plans = json.loads(capsys.readouterr().out)["plans"]
    sizes = [one["micro_batch"] * one["accumulation"] * one["layout"]["dp_shard"] for one in plans]
    assert sizes == [10**18] * len(plans)


@pytest.mark.parametrize("steps", ["0", "-3"])
def test_a_training_of_no_steps_is_refused(capsys, tmp_path, steps):
    message = refused(capsys, "write", *PLAN[1:], "-o", str(tmp_path / "c.yaml"), "--steps", steps, code=2)
    assert f"--steps {steps} trains nothing; use 1 or more" in message
    assert not list(tmp_path.iterdir())


def test_a_file_and_json_do_not_share_stdout(capsys):
    assert "both claim stdout" in refused(capsys, "write", *PLAN[1:], "-o", "-", "--json", code=2)


def test_a_job_script_does_not_take_the_place_of_its_config(capsys, tmp_path):
    file = str(tmp_path / "job.yaml")
    message = refused(capsys, "write", *PLAN[1:], "-o", file, "--launcher", "slurm", code=2)
    assert "job.yaml is where the job script expects its config; write the script to" in message


def test_a_job_script_on_stdout_names_a_config(capsys):
    assert main(("write", *PLAN[1:], "-o", "-", "--launcher", "slurm")) == 0
    printed = capsys.readouterr()
    assert "config=config.yaml\n" in printed.out
    assert "the job script trains config.yaml beside it" in printed.err


def test_data_that_is_not_there_yet_is_said(capsys, tmp_path):
    data = str(tmp_path / "none.txt")
    assert main(("write", *PLAN[1:], "-o", "-", "--data", data)) == 0
    assert f"there is no file {data} yet" in capsys.readouterr().err


def test_a_torn_record_hides_no_other_run(capsys, tmp_path):
    for name, text in (("20260101T000000Z-torn", "{"), ("20260102T000000Z-sound", "{}")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text(text)
    assert main(["runs", "--runs", str(tmp_path)]) == 0
    shown = capsys.readouterr()
    assert "20260102T000000Z-sound" in shown.out
    assert "warning: cannot read" in shown.err and "20260101T000000Z-torn" in shown.err


def in_a_process(*argv: str, stdout: IO[bytes] | int = subprocess.PIPE, env: Mapping[str, str]):
    """A command with its real streams: status, bytes of stdout, text of stderr."""
    done = subprocess.run(
        [sys.executable, "-m", "cpadvisor", *argv],
        stdout=stdout,
        stderr=subprocess.PIPE,
        env={**os.environ, **env},
        check=False,
    )
    return done.returncode, done.stdout, done.stderr.decode()


ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def test_a_terminal_without_unicode_shows_a_question_mark():
    status, out, err = in_a_process(*PLAN, env=ASCII)
    assert (status, err) == (0, "")
    assert b"dp_shard 2 ? cp 4" in out


def test_a_file_on_stdout_is_the_same_in_every_locale():
    argv = ("write", *PLAN[1:], "-o", "-")
    assert in_a_process(*argv, env=ASCII)[1] == in_a_process(*argv, env={"PYTHONUTF8": "1"})[1]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_behind_stdout_is_one_line():
    with Path("/dev/full").open("wb") as full:
        status, _, err = in_a_process("inspect", "--node", "dgx-h100", stdout=full, env={"PYTHONUNBUFFERED": ""})
    assert (status, err) == (1, "cpadvisor: [Errno 28] No space left on device\n")


def test_an_empty_value_is_not_a_value_that_was_left_out(capsys):
    assert "length ''" in refused(capsys, *PLAN, "--seq", "", code=2)
    assert "model ''" in refused(capsys, *PLAN, "--model", "", code=2)


def test_a_product_for_a_node_without_gpus_is_refused(capsys):
    assert "--gpu h200: the node cpu has no GPU" in refused(capsys, "inspect", "--node", "cpu", "--gpu", "h200", code=2)


def test_a_slurm_script_for_cpu_processes_is_refused(capsys, tmp_path):
    job = ("write", "--node", "cpu", "--launcher", "slurm", "-o", str(tmp_path / "job.sh"))
    assert "--launcher slurm asks for GPUs" in refused(capsys, *job, code=2)
