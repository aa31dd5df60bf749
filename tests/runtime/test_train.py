import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from real_run import (
    answer,
    ask,
    environment,
    events,
    is_alive,
    of_kind,
    started,
    torchrun,
    train,
    train_on,
    wait_for_step,
)
from small_disk import fill, on_small_disk
from tiny_run import write_folder

from runtime.telemetry import events_path


def test_one_process_trains_reports_and_writes_the_model(tmp_path: Path) -> None:
    path = write_folder(tmp_path, gradient_accumulation_steps=2, logging_steps=1)
    (tmp_path / "run.json").write_text("{}")
    result = train(path)
    assert result.returncode == 0, result.stderr
    found = events(tmp_path)
    kinds = ["process", "start", "warning", *["step", "memory"] * 4, "checkpoint", "end"]
    assert [event["kind"] for event in found] == kinds
    start = found[1]
    assert start["resumed_from"] is None
    assert start["layout"] == {"dp_replicate": 1, "dp_shard": 1, "tp": 1, "cp": 1}
    assert (start["world"], start["backend"], start["device"], start["kernel"]) == (1, "gloo", "cpu", "cpu")
    assert (start["steps"], start["global_batch"], start["local_tokens"]) == (4, 2, 128)
    assert start["recompute"] == {"none": 2}
    # 2 layers x (32x32 x2 + 32x16 x2 + 3x32x96 + 2x32) + 2 x 384x32 + 32
    assert start["parameters"] == 2 * 12_352 + 2 * 12_288 + 32
    steps = [event for event in found if event["kind"] == "step"]
    assert [event["step"] for event in steps] == [1, 2, 3, 4]
    assert all(event["tokens"] == 256 for event in steps)
    assert steps[-1]["loss"] < steps[0]["loss"]
    assert steps[0]["tokens_per_s_per_gpu"] == pytest.approx(256 / steps[0]["step_s"])
    assert sum(steps[1]["split_s"].values()) == pytest.approx(steps[1]["step_s"], rel=0.1)
    assert found[-1]["state"] == "done"
    lines = [line for line in result.stdout.splitlines() if line.startswith("step ")]
    assert len(lines) == 4
    assert (tmp_path / "out" / "model.safetensors").stat().st_size > 4 * start["parameters"]


def test_a_config_that_cannot_run_says_why_on_one_line_and_leaves_with_2(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{}")
    path = write_folder(tmp_path, sample_packing=True)
    result = train(path)
    assert result.returncode == 2
    assert result.stderr.splitlines()[-1] == (
        f"error: {path}: sample_packing true: the bundled trainer does not pack documents; set it to false"
    )
    assert "Traceback" not in result.stderr
    [end] = events(tmp_path)
    assert (end["state"], end["cause"]) == ("failed", "config")
    assert "does not pack documents" in end["reason"]


def test_a_loss_that_is_no_number_ends_the_run_at_its_step(tmp_path: Path) -> None:
    path = write_folder(tmp_path, learning_rate=1e30, save_strategy="no")
    result = train(path)
    assert result.returncode == 1
    end = events(tmp_path / "out")[-1]
    assert (end["kind"], end["state"], end["cause"]) == ("end", "failed", "not_a_number")
    assert "at step 2; lower learning_rate" in end["reason"]
    assert end["reason"] in result.stderr
    assert not (tmp_path / "out" / "model.safetensors").exists()


def test_two_ranks_under_torchrun_stop_on_sigterm_and_say_so(tmp_path: Path) -> None:
    path = write_folder(tmp_path, context_parallel_size=2, max_steps=100_000)
    (tmp_path / "run.json").write_text("{}")
    with started(torchrun(path, 2), tmp_path) as agent:
        for rank in (0, 1):
            wait_for_step(tmp_path, rank, 2)
        agent.send_signal(signal.SIGTERM)
        assert agent.wait(timeout=30) != 0
    for rank in (0, 1):
        found = events(tmp_path, rank)
        assert [event["state"] for event in found if event["kind"] == "end"] == ["stopped"], (
            tmp_path / "log"
        ).read_text()
        assert found[-1]["kind"] == "end"
        assert [event["kind"] for event in found[:2]] == ["process", "start"]
        assert found[1]["layout"]["cp"] == 2
        assert found[1]["cp_method"] == "ring"
        assert not is_alive(found[0]["pid"])
        assert not Path(found[0]["door"]).parent.exists()


def test_a_rank_that_waits_for_its_peer_in_vain_still_stops_on_sigterm(tmp_path: Path) -> None:
    path = write_folder(tmp_path, context_parallel_size=2)
    (tmp_path / "run.json").write_text("{}")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    alone = {**environment(), "WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    rank_0 = subprocess.Popen([sys.executable, "-m", "runtime.train", str(path)], env=alone)
    try:
        deadline = time.monotonic() + 60
        while not events_path(tmp_path, 0).exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        time.sleep(3)  # now the main thread waits in the rendezvous, outside Python
        rank_0.send_signal(signal.SIGTERM)
        assert rank_0.wait(timeout=10) == 128 + signal.SIGTERM
    finally:
        rank_0.kill()
    process, end = events(tmp_path)
    assert (process["kind"], process["pid"]) == ("process", rank_0.pid)
    assert (end["state"], end["reason"]) == ("stopped", "SIGTERM at step 0")
    assert not Path(process["door"]).parent.exists()


def test_a_process_says_who_it_is_before_anything_else_and_a_fault_that_is_none_is_refused(tmp_path: Path) -> None:
    path = write_folder(tmp_path)
    (tmp_path / "run.json").write_text("{}")
    result = train(path, CPADVISOR_FAULT="hung:step=1")
    assert result.returncode == 2
    assert result.stderr.splitlines()[-1].startswith("error: CPADVISOR_FAULT: 'hung:step=1': unknown fault 'hung'")
    process, end = events(tmp_path)
    assert (process["kind"], process["rank"], process["host"]) == ("process", 0, socket.gethostname())
    assert process["pid_start"] > 0
    assert (end["state"], end["cause"]) == ("failed", "config")


def test_a_rank_that_hangs_and_one_that_waits_for_it_answer_at_their_doors(tmp_path: Path, short_folder: Path) -> None:
    path = write_folder(tmp_path, context_parallel_size=2)
    (tmp_path / "run.json").write_text("{}")
    planted = {"CPADVISOR_FAULT": "hang:rank=1,step=2", "XDG_RUNTIME_DIR": str(short_folder)}
    with started(torchrun(path, 2), tmp_path, **planted) as agent:
        for rank in (0, 1):
            wait_for_step(tmp_path, rank, 1)
        doors = [of_kind(tmp_path, "process", rank)[0]["door"] for rank in (0, 1)]
        assert all(Path(door).is_relative_to(short_folder) for door in doors)
        assert [stat.S_IMODE(Path(door).stat().st_mode) for door in doors] == [0o600, 0o600]
        assert [stat.S_IMODE(Path(door).parent.stat().st_mode) for door in doors] == [0o700, 0o700]
        waiting, hanging = _answers_at_rest(doors)
        assert (hanging["rank"], hanging["step"], hanging["phase"]) == (1, 2, "forward")
        assert hanging["stack"][-1].endswith(" _hang")
        assert hanging["since_s"] > 0.5
        assert (waiting["rank"], waiting["step"], waiting["phase"]) == (0, 2, "forward")
        assert "/torch/distributed/" in waiting["stack"][-1]
        # Sharded parameters were gathered for the forward pass by both; the next thing is a hop that one never begins.
        assert waiting["exchanges"] > hanging["exchanges"] > 0
        # What torch itself answers without the interpreter's lock names the same place.
        assert b"_hang" in ask(doors[1], "dump_traceback")
        agent.send_signal(signal.SIGTERM)
        agent.wait(timeout=30)
    for rank in (0, 1):
        assert of_kind(tmp_path, "end", rank)[0]["state"] == "stopped"
        assert not is_alive(of_kind(tmp_path, "process", rank)[0]["pid"])
    assert list(short_folder.iterdir()) == []


def _answers_at_rest(doors: list[str]) -> list[dict[str, Any]]:
    """The answers once both ranks have stood still for a while."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        answers = [answer(door) for door in doors]
        if all(told["since_s"] > 0.5 and told["step"] == 2 for told in answers):
            return answers
        time.sleep(0.1)
    raise AssertionError(f"the ranks did not come to rest: {answers}")


def test_a_loss_without_a_number_names_step_and_rank(tmp_path: Path) -> None:
    path = write_folder(tmp_path, context_parallel_size=2, save_strategy="no")
    (tmp_path / "run.json").write_text("{}")
    result = train_on(path, 2, CPADVISOR_FAULT="nan:rank=1,step=3")
    assert result.returncode == 1
    for rank in (0, 1):
        end = of_kind(tmp_path, "end", rank)[0]
        assert (end["state"], end["cause"], end["step"], end["ranks"]) == ("failed", "not_a_number", 3, [1])
        assert end["reason"].startswith("loss is nan (the part of rank 1 is not finite) and gradient norm ")
        assert end["reason"].endswith(" at step 3; lower learning_rate or max_grad_norm")
        assert len(of_kind(tmp_path, "step", rank)) == 2
    assert result.stderr.count("error: loss is nan") == 1


def test_out_of_memory_says_where_the_memory_was_and_then_ends(tmp_path: Path) -> None:
    path = write_folder(tmp_path, save_strategy="no")
    (tmp_path / "run.json").write_text("{}")
    result = train(path, CPADVISOR_FAULT="out-of-memory:rank=0,step=2")
    assert result.returncode == 1
    short, end = events(tmp_path)[-2:]
    assert (short["kind"], short["step"], short["phase"]) == ("out_of_memory", 2, "forward")
    gib = 2**30
    assert (short["requested_bytes"], short["free_bytes"], short["limit_bytes"]) == (2 * gib, gib, 8 * gib)
    # Of 8 GiB 1 is free, 6 are allocated and a half is reserved beside them: a half is held by others.
    assert (short["allocated_bytes"], short["reserved_bytes"], short["other_bytes"]) == (
        6 * gib,
        13 * gib // 2,
        gib // 2,
    )
    parameters = 4 * of_kind(tmp_path, "start")[0]["parameters"]
    terms = short["terms_bytes"]
    assert (terms["parameters"], terms["gradients"]) == (parameters, 0)
    # Two moments like the parameters, and a float32 counter for each of the 21.
    assert terms["optimizer"] == 2 * parameters + 4 * 21
    assert sum(terms.values()) == 6 * gib
    assert (end["state"], end["cause"]) == ("failed", "out_of_memory")
    assert end["reason"].startswith("out of GPU memory: Tried to allocate 2.00 GiB.")


def test_out_of_memory_while_the_model_is_built_counts_too(tmp_path: Path) -> None:
    path = write_folder(tmp_path)
    (tmp_path / "run.json").write_text("{}")
    assert train(path, CPADVISOR_FAULT="out-of-memory:step=0").returncode == 1
    kinds = [event["kind"] for event in events(tmp_path)]
    assert kinds == ["process", "warning", "out_of_memory", "end"]
    (short,) = of_kind(tmp_path, "out_of_memory")
    assert (short["step"], short["phase"]) == (0, "build")
    assert short["terms_bytes"] == {"parameters": 6 * 2**30, "gradients": 0, "optimizer": 0, "activations": 0}
    assert of_kind(tmp_path, "end")[0]["cause"] == "out_of_memory"


def test_a_ring_that_drops_what_arrives_errs_from_the_first_step_and_says_that_it_was_made_to(tmp_path: Path) -> None:
    whole, dropped = tmp_path / "whole", tmp_path / "dropped"
    for folder, cp in ((whole, 1), (dropped, 2)):
        folder.mkdir()
        write_folder(folder, context_parallel_size=cp, save_strategy="no")
        (folder / "run.json").write_text("{}")
    assert train(whole / "config.yaml").returncode == 0
    assert train_on(dropped / "config.yaml", 2, CPADVISOR_FAULT="drop-exchange:rank=1").returncode == 0
    for rank in (0, 1):
        assert [event["rule"] for event in of_kind(dropped, "warning", rank)] == ["planted_fault"]
    right, wrong = ([event["loss"] for event in of_kind(folder, "step")] for folder in (whole, dropped))
    # Layouts agree to 1e-6 relative; this is far beyond.
    assert all(abs(loss / truth - 1) > 1e-4 for loss, truth in zip(wrong, right, strict=True))


def test_a_run_whose_directory_vanishes_ends_in_words_and_makes_it_not_again(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    path = write_folder(folder, max_steps=100_000, context_parallel_size=2, save_steps=1)
    (folder / "run.json").write_text("{}")
    with started(torchrun(path, 2), tmp_path) as agent:
        for rank in (0, 1):
            wait_for_step(folder, rank, 2)
        folder.rename(tmp_path / "elsewhere")
        assert agent.wait(timeout=60) == 1
    assert not folder.exists()
    said = (tmp_path / "log").read_text()
    assert f"error: the run directory {folder} is gone: nobody can watch, stop or resume this run any more" in said


def test_a_disk_that_fills_up_ends_the_run_with_its_cause_in_the_space_held_back(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    def fill_in_mid_run(disk: Path) -> None:
        path = write_folder(disk, max_steps=100_000)
        (disk / "run.json").write_text("{}")
        (disk / "ballast").write_bytes(bytes(64 << 10))
        with started([sys.executable, "-m", "runtime.train", str(path)], tmp_path) as training:
            wait_for_step(disk, 0, 2)
            fill(disk)
            assert training.wait(timeout=60) == 1
        end = events(disk)[-1]
        assert (end["kind"], end["state"], end["cause"]) == ("end", "failed", "disk_full")
        assert end["reason"].startswith(
            f"the disk is full: cannot write {events_path(disk, 0)}: No space left on device (0 bytes are free there)"
        )
        assert not (disk / "ballast").exists()
        assert f"error: {end['reason']}" in (tmp_path / "log").read_text()

    on_small_disk(request, tmp_path / "disk", 1024, fill_in_mid_run)


def test_a_log_that_finds_no_space_ends_the_run_too_and_leaves_with_1(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    def log_to_a_full_disk(disk: Path) -> None:
        path = write_folder(tmp_path, save_strategy="no")
        (tmp_path / "run.json").write_text("{}")
        with (disk / "log").open("wb") as log:
            fill(disk)
            env = environment(PYTHONUNBUFFERED="")  # what cannot be written then waits in a buffer
            training = subprocess.run(
                [sys.executable, "-m", "runtime.train", str(path)], env=env, stdout=log, stderr=log, timeout=120
            )
        assert training.returncode == 1
        end = events(tmp_path)[-1]
        assert (end["state"], end["cause"]) == ("failed", "disk_full")
        assert f"cannot write {disk / 'log'}: No space left on device" in end["reason"]

    on_small_disk(request, tmp_path / "disk", 256, log_to_a_full_disk)


def test_a_run_interrupted_after_a_training_state_goes_on_as_if_it_had_never_stopped(tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    for folder in (whole, broken):
        folder.mkdir()
        write_folder(folder, context_parallel_size=2, max_steps=6, save_steps=4)
        (folder / "run.json").write_text("{}")
    assert train_on(whole / "config.yaml", 2).returncode == 0
    assert train_on(broken / "config.yaml", 2, CPADVISOR_FAULT="exception:rank=0,step=6").returncode == 1
    assert [event["step"] for event in of_kind(broken, "step")] == [1, 2, 3, 4, 5]
    own, peer = (of_kind(broken, "end", rank)[0] for rank in (0, 1))
    assert (own["state"], own["cause"], own["step"]) == ("failed", "exception", 5)
    assert own["reason"] == "RuntimeError: planted fault exception:rank=0,step=6"
    assert own["t"] < peer["t"], "the peer falls after it"
    assert train_on(broken / "config.yaml", 2, CPADVISOR_RESUME="1").returncode == 0
    first, second = of_kind(broken, "start")
    assert (first["resumed_from"], second["resumed_from"]) == (None, 4)
    expected = {event["step"]: (event["loss"], event["grad_norm"]) for event in of_kind(whole, "step")}
    assert [event["step"] for event in of_kind(broken, "step")] == [1, 2, 3, 4, 5, 5, 6]
    assert all(expected[event["step"]] == (event["loss"], event["grad_norm"]) for event in of_kind(broken, "step"))
    model = "out/model.safetensors"
    assert (broken / model).read_bytes() == (whole / model).read_bytes()
    saved = [event for event in of_kind(broken, "checkpoint") if event["resumable"]]
    assert [event["step"] for event in saved] == [4, 6]
    assert all(event["bytes"] > 3 * 4 * first["parameters"] and event["seconds"] > 0 for event in saved)
    seqs = [event["seq"] for event in events(broken)]
    assert seqs == list(range(len(seqs)))


def test_a_run_that_may_resume_but_holds_no_state_says_so_and_begins_at_step_0(tmp_path: Path) -> None:
    path = write_folder(tmp_path, save_strategy="no")
    (tmp_path / "run.json").write_text("{}")
    assert train(path, CPADVISOR_RESUME="1").returncode == 0
    (warning,) = of_kind(tmp_path, "warning")
    assert warning["rule"] == "no_checkpoint"
    assert warning["message"] == (f"{tmp_path / 'checkpoints'} holds no whole training state: the run begins at step 0")
    assert of_kind(tmp_path, "start")[0]["resumed_from"] is None
    assert [event["step"] for event in of_kind(tmp_path, "step")] == [1, 2, 3, 4]
