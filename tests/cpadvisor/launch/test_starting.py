import contextlib
import json
import os
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from cpadvisor import catalog, launch, rundir
from cpadvisor.errors import LaunchError, MissingError, ModelError, WriteError
from cpadvisor.launch.environment import RUN_VARIABLE
from cpadvisor.node import Gpu, Node
from cpadvisor.probe import nvml
from cpadvisor.runrecord import RunRecord, read_record, write_record
from cpadvisor.watch.logs import tail
from cpadvisor.watch.view import RunView

Until = Callable[..., RunView]


def test_a_run_goes_from_its_config_to_done(config: Path, runs: Path, fake_torch: Callable[[str], None]) -> None:
    fake_torch("train")
    seen: list[str] = []
    run_dir = launch.start(config, runs=runs)
    view = launch.wait(run_dir, lambda view: seen.append(view.state), poll_s=0.02)
    assert (view.state, view.exit, view.reason) == ("done", 0, None)
    assert view.step == view.steps == 3
    assert [step for step, _ in view.loss] == [1, 2, 3]
    assert view.loss[1][1] == 2.0
    assert view.peak_bytes == 2001
    assert view.prediction == {"peak_bytes": 2100, "step_s": 0.2}
    assert (view.layout_label, view.cp_method, view.kernel, view.world) == ("1×1×1×2", "ring", "cpu", 2)
    assert seen[-1] == "done" and "running" in seen


def test_the_run_directory_is_private_and_holds_all_that_runs(
    config: Path, runs: Path, fake_torch: Callable[[str], None]
) -> None:
    fake_torch("train")
    run_dir = launch.start(config, runs=runs)
    launch.wait(run_dir, poll_s=0.02)
    assert stat.S_IMODE(run_dir.stat().st_mode) == 0o700
    copy = (run_dir / "config.yaml").read_text()
    assert f"output_dir: {config.parent}/out\n" in copy
    assert "# the smallest one" in copy
    assert json.loads((run_dir / "model" / "config.json").read_text())["architectures"] == ["LlamaForCausalLM"]
    assert (run_dir / "code" / "runtime" / "telemetry.py").is_file()
    assert json.loads((run_dir / "exit.json").read_text())["exit"] == 0
    ballast = (run_dir / "ballast").stat()
    assert ballast.st_size == 64 << 10 <= ballast.st_blocks * 512


def test_each_rank_has_one_log_with_both_streams_in_order(
    config: Path, runs: Path, fake_torch: Callable[[str], None]
) -> None:
    fake_torch("train")
    run_dir = launch.start(config, runs=runs)
    launch.wait(run_dir, poll_s=0.02)
    assert tail(run_dir, 1, 10) == ("rank 1 reads config.yaml", "to standard error")
    assert tail(run_dir, 0, 1) == ("to standard error",)


def open_files(pid: int) -> set[Path]:
    """What the descriptors of a process point to; it may close one while they are listed."""
    links: set[Path] = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            links.add(entry.readlink())
    return links


def test_the_agent_leads_its_own_session_without_terminal_and_without_our_descriptors(
    config: Path, runs: Path, fake_torch: Callable[[str], None], tmp_path: Path
) -> None:
    fake_torch("long")
    secret = (tmp_path / "secret").open("w")
    os.set_inheritable(secret.fileno(), True)
    run_dir = launch.start(config, runs=runs)
    agent = read_record(run_dir).agent
    assert agent is not None
    assert os.getsid(agent.pid) == agent.pid
    links = open_files(agent.pid)
    assert Path("/dev/null") in links
    assert Path(secret.name) not in links
    secret.close()
    launch.stop(run_dir)


def test_the_record_names_what_ran_and_keeps_passwords_out(
    config: Path, runs: Path, fake_torch: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_torch("train")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    run_dir = launch.start(config, runs=runs)
    record = read_record(run_dir)
    launch.wait(run_dir, poll_s=0.02)
    assert record.run == run_dir.name
    assert record.config == str(config)
    assert record.interpreter == sys.executable
    assert record.argv[1:3] == ("-m", "torch.distributed.run")
    assert "--nproc-per-node=2" in record.argv
    assert record.layout == {"dp_replicate": 1, "dp_shard": 1, "tp": 1, "cp": 2}
    assert (record.sequence_len, record.steps, record.world, record.gpus) == (512, 3, 2, None)
    assert record.env["CUDA_VISIBLE_DEVICES"] == ""
    assert record.env["PYTHONSAFEPATH"] == "1"
    assert "hf_secret" not in (run_dir / "run.json").read_text()


def test_a_purpose_stands_in_the_name_of_the_run_and_the_model_keeps_its_own(
    config: Path, runs: Path, fake_torch: Callable[[str], None]
) -> None:
    fake_torch("train")
    run_dir = launch.start(config, runs=runs, purpose="parity")
    assert run_dir.name.endswith("-tiny-parity-1x1x1x2")
    assert launch.wait(run_dir, poll_s=0.02).model == "tiny"


def test_a_run_inherits_the_environment_that_it_is_given(
    config: Path, runs: Path, fake_torch: Callable[[str], None]
) -> None:
    fake_torch("train")
    run_dir = launch.start(config, runs=runs, environ={**os.environ, "NCCL_ALGO": "Ring"})
    assert read_record(run_dir).env["NCCL_ALGO"] == "Ring"
    assert "NCCL_ALGO" not in os.environ
    assert launch.wait(run_dir, poll_s=0.02).state == "done"


def test_two_runs_within_one_second_have_two_directories(
    config: Path, runs: Path, fake_torch: Callable[[str], None]
) -> None:
    fake_torch("train")
    first, second = launch.start(config, runs=runs), launch.start(config, runs=runs)
    assert first != second
    assert {launch.wait(run, poll_s=0.02).state for run in (first, second)} == {"done"}


def test_a_run_goes_on_when_the_process_that_started_it_is_killed(
    config: Path, runs: Path, fake_torch: Callable[[str], None], poll_until: Until
) -> None:
    fake_torch("long")
    script = (
        "import sys, os, signal; from pathlib import Path; from cpadvisor import launch; "
        "print(launch.start(Path(sys.argv[1]), runs=Path(sys.argv[2])), flush=True); "
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    root = Path(rundir.__file__).parents[1]
    child = subprocess.run(
        [sys.executable, "-c", script, config, runs],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{os.environ['PYTHONPATH']}"},
    )
    assert child.returncode == -9, child.stderr
    run_dir = Path(child.stdout.strip())
    view = poll_until(run_dir, lambda view: (view.step or 0) >= 4)
    assert view.state == "running"
    assert launch.stop(run_dir).state == "stopped"


def test_a_failing_rank_is_named_with_its_own_words(
    config: Path, runs: Path, fake_torch: Callable[[str], None]
) -> None:
    fake_torch("fail")
    view = launch.wait(launch.start(config, runs=runs), poll_s=0.02)
    assert (view.state, view.exit) == ("failed", 1)
    assert view.reason == "rank 1: ValueError: the loss of step 1 is not a number"


def test_a_rank_that_dies_before_its_first_event_is_told_by_its_log(
    config: Path, runs: Path, fake_torch: Callable[[str], None]
) -> None:
    fake_torch("crash")
    view = launch.wait(launch.start(config, runs=runs), poll_s=0.02)
    assert view.state == "failed"
    assert view.reason == "rank 1: ImportError: libcudnn.so.9 is not there"


def test_a_torchrun_that_cannot_start_is_told_by_its_last_line(
    config: Path, runs: Path, fake_torch: Callable[[str], None], tmp_path: Path
) -> None:
    fake_torch("train")
    (tmp_path / "site" / "torch" / "distributed" / "run.py").write_text("raise OSError('libgomp.so.1: cannot open')\n")
    view = launch.wait(launch.start(config, runs=runs), poll_s=0.02)
    assert (view.state, view.exit) == ("failed", 1)
    assert view.reason == "OSError: libgomp.so.1: cannot open"


def test_an_unknown_model_is_refused_before_a_directory_is_made(
    config: Path, runs: Path, fake_torch: Callable[[str], None]
) -> None:
    fake_torch("train")
    config.write_text(config.read_text().replace("model: tiny", "model: tinny"))
    with pytest.raises(ModelError, match=r"cpadvisor.model: .*tinny"):
        launch.start(config, runs=runs)
    assert rundir.list_runs(runs) == ()


def test_a_hub_name_is_found_in_the_catalogue(config: Path, runs: Path, fake_torch: Callable[[str], None]) -> None:
    fake_torch("train")
    text = config.read_text().replace("base_model: tiny", "base_model: Qwen/Qwen3-0.6B").replace("  model: tiny\n", "")
    config.write_text(text)
    run_dir = launch.start(config, runs=runs)
    launch.wait(run_dir, poll_s=0.02)
    assert "-qwen3-0.6b-1x1x1x2" in run_dir.name
    assert json.loads((run_dir / "model" / "config.json").read_text())["hidden_size"] == 1024


def test_a_folder_with_the_model_needs_no_copy_of_its_shape(
    config: Path, runs: Path, fake_torch: Callable[[str], None]
) -> None:
    fake_torch("train")
    (config.parent / "weights").mkdir()
    shape = catalog.config_json(catalog.find_model("tiny"))
    (config.parent / "weights" / "config.json").write_text(json.dumps(shape))
    config.write_text(
        config.read_text().replace("base_model: tiny", "base_model: weights").replace("  model: tiny\n", "")
    )
    run_dir = launch.start(config, runs=runs)
    launch.wait(run_dir, poll_s=0.02)
    assert not (run_dir / "model").exists()
    assert f"base_model: {config.parent}/weights" in (run_dir / "config.yaml").read_text()


def test_an_axolotl_file_asks_for_axolotl(config: Path, runs: Path, fake_torch: Callable[[str], None]) -> None:
    fake_torch("train")
    config.write_text(config.read_text().split("cpadvisor:")[0])
    with pytest.raises(
        MissingError, match=r"this file is for axolotl .*(\n.* has no axolotl)+\ninstall with `.* axolotl`"
    ):
        launch.start(config, runs=runs)


def test_a_start_that_fails_leaves_no_directory(
    config: Path, runs: Path, fake_torch: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_torch("train")

    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError(11, "Resource temporarily unavailable")

    monkeypatch.setattr("cpadvisor.launch.starting.find_python", lambda *args, **kwargs: sys.executable)
    monkeypatch.setattr("cpadvisor.launch.spawning.subprocess.Popen", refuse)
    with pytest.raises(LaunchError, match=r"cannot start .*: Resource temporarily unavailable"):
        launch.start(config, runs=runs)
    assert list(runs.iterdir()) == []


@pytest.mark.parametrize("failure", [WriteError("no space left"), KeyboardInterrupt()], ids=["full disk", "ctrl-c"])
def test_a_start_that_fails_behind_the_first_process_leaves_neither_process_nor_directory(
    config: Path,
    runs: Path,
    fake_torch: Callable[[str], None],
    processes_of: Callable[[Path], list[int]],
    monkeypatch: pytest.MonkeyPatch,
    failure: BaseException,
) -> None:
    fake_torch("long")
    seen: list[Path] = []

    def fail_once_the_agent_is_known(run_dir: Path, record: RunRecord) -> None:
        seen.append(run_dir)
        if record.agent is not None:
            raise failure
        write_record(run_dir, record)

    monkeypatch.setattr("cpadvisor.launch.spawning.write_record", fail_once_the_agent_is_known)
    with pytest.raises(type(failure)):
        launch.start(config, runs=runs)
    assert len(seen) == 2
    assert processes_of(seen[0]) == []
    assert list(runs.iterdir()) == []


def test_every_process_carries_the_mark_of_its_run(
    config: Path, runs: Path, fake_torch: Callable[[str], None], poll_until: Until
) -> None:
    fake_torch("long")
    run_dir = launch.start(config, runs=runs)
    view = poll_until(run_dir, lambda view: all(rank.pid for rank in view.ranks))
    for rank in view.ranks:
        environ = Path(f"/proc/{rank.pid}/environ").read_bytes().split(b"\0")
        assert f"{RUN_VARIABLE}={run_dir}".encode() in environ
    launch.stop(run_dir)


def test_bf16_on_a_machine_without_gpus_is_an_error_of_the_environment(
    config: Path, runs: Path, fake_torch: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_gpu(**_: object) -> None:
        raise nvml.NoGpuError("no NVIDIA driver")

    fake_torch("train")
    monkeypatch.setattr(nvml, "read_node", no_gpu)
    config.write_text(config.read_text().replace("bf16: false", "bf16: true"))
    with pytest.raises(MissingError, match="bf16: true, which needs GPUs, and this machine shows none"):
        launch.start(config, runs=runs)
    config.write_text(config.read_text().replace("bf16: true", "bf16: auto"))
    assert launch.wait(launch.start(config, runs=runs), poll_s=0.02).state == "done"


def test_a_driver_that_does_not_answer_is_told_only_where_gpus_are_needed(
    config: Path, runs: Path, fake_torch: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(**_: object) -> None:
        raise MissingError("the NVIDIA driver does not answer (GPU is lost)")

    fake_torch("train")
    monkeypatch.setattr(nvml, "read_node", broken)
    config.write_text(config.read_text().replace("bf16: false", "bf16: true"))
    with pytest.raises(MissingError, match="GPU is lost"):
        launch.start(config, runs=runs)
    config.write_text(config.read_text().replace("bf16: true", "bf16: auto"))
    assert launch.wait(launch.start(config, runs=runs), poll_s=0.02).state == "done"


def test_a_run_on_gpus_records_them_in_the_order_of_its_ranks(
    config: Path, runs: Path, fake_torch: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    gpus = (Gpu(index=0), Gpu(index=1))
    node = Node(name="node", source="nvml", gpus=gpus, links=((None, "NV18"), ("NV18", None)))
    fake_torch("train")
    monkeypatch.setattr(nvml, "read_node", lambda **_: node)
    text = config.read_text().replace("bf16: false", "bf16: true").replace("  method", "  rank_order: [1, 0]\n  method")
    config.write_text(text)
    run_dir = launch.start(config, runs=runs)
    view = launch.wait(run_dir, poll_s=0.02)
    assert [rank.gpu for rank in view.ranks] == [1, 0]
    assert read_record(run_dir).env["CUDA_VISIBLE_DEVICES"] == "1,0"


def test_a_port_that_is_taken_is_told_before_anything_is_started(
    config: Path, runs: Path, fake_torch: Callable[[str], None]
) -> None:
    fake_torch("train")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        with pytest.raises(LaunchError, match=r"port \d+ of this host cannot be listened on: process \d+"):
            launch.start(config, runs=runs, port=listener.getsockname()[1])
    assert rundir.list_runs(runs) == ()


def test_two_launches_in_one_instant_do_not_take_the_same_gpus(
    config: Path, runs: Path, fake_torch: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    gpus = (Gpu(index=0), Gpu(index=1))
    node = Node(name="node", source="nvml", gpus=gpus, links=((None, "NV18"), ("NV18", None)))
    fake_torch("long")
    monkeypatch.setattr(nvml, "read_node", lambda **_: node)
    config.write_text(config.read_text().replace("bf16: false", "bf16: true"))
    refused: list[str] = []

    def begin() -> None:
        try:
            launch.start(config, runs=runs)
        except LaunchError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=begin) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    (run,) = rundir.list_runs(runs)
    assert len(refused) == 2
    assert all(f"run {run.name} is " in text and "on GPU 0, 1" in text for text in refused), refused
    launch.stop(run)
