import os
import socket
from pathlib import Path
from typing import Any

import pytest

from cpadvisor.runrecord import RunRecord
from cpadvisor.units import GIB
from cpadvisor.watch.case import Case
from cpadvisor.watch.clues import Clues
from cpadvisor.watch.failure import KINDS, Failure
from cpadvisor.watch.host import Space
from cpadvisor.watch.mends import again, mended

RECORD = RunRecord(run="r", engine="cpadvisor", model="llama-3.1-8b", sequence_len=32768, world=8, gpus=(3, 1, 2, 0))
AGAIN = "cpadvisor launch --resume r"


def case(**facts: Any) -> Case:
    return Case(**{"record": RECORD, "name": "r", **facts})


def failure(kind: str, headline: str = "x", **facts: Any) -> Failure:
    return Failure(kind=kind, headline=headline, **facts)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("vanished", "hung", "config")])
def test_every_kind_has_words_and_a_command(kind: str) -> None:
    record = RunRecord(run="r", model="tiny", sequence_len=8192, interpreter="/venv/bin/python")
    told = mended(failure(kind, rank=0), case(record=record))
    assert told.mend and told.command


@pytest.mark.parametrize("kind", ["killed", "host_memory", "launcher_killed", "lost"])
def test_what_ended_from_outside_is_started_again(kind: str) -> None:
    assert mended(failure(kind), case()).command == AGAIN


@pytest.mark.parametrize(
    ("engine", "step", "words"),
    [
        ("cpadvisor", 40, "it goes on from its checkpoint of step 40"),
        ("cpadvisor", None, "it begins anew, as it has kept no checkpoint (save_strategy: steps keeps some)"),
        ("axolotl", None, "axolotl goes on from its own checkpoints where auto_resume_from_checkpoints is true"),
    ],
)
def test_where_a_run_goes_on_is_told_as_it_is(engine: str, step: int | None, words: str) -> None:
    record = RunRecord(run="r", engine=engine, config="/job.yaml")
    for kind in ("killed", "host_memory"):
        told = mended(failure(kind), case(record=record, checkpoint_step=step))
        assert told.mend is not None and told.mend.endswith(f"start it again: {words}")


def test_a_run_of_axolotl_is_launched_anew() -> None:
    record = RunRecord(run="r", engine="axolotl", config="/my jobs/job.yaml")
    assert again(record, "r") == "cpadvisor launch '/my jobs/job.yaml'"


def test_a_port_that_is_taken_is_named_with_who_has_it_now() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        line = f"DistNetworkError: The server socket has failed to listen. port: {port}, code: -98, name: EADDRINUSE"
        told = mended(failure("port_taken", line), case())
    assert told.headline == f"port {port} of this host was taken already"
    assert told.evidence[0] == line
    assert told.evidence[1].startswith(f"process {os.getpid()} (")
    assert told.command == AGAIN


def test_a_port_that_is_free_again_is_said_to_be() -> None:
    line = "OSError: [Errno 98] Address already in use: ('127.0.0.1', 1)"
    told = mended(failure("port_taken", "rank 0 failed", evidence=("Traceback", line, "more")), case())
    assert told.headline == "port 1 of this host was taken already"
    assert told.evidence == (line, "nobody that this user may see listens on port 1 now")


def test_a_taken_address_without_a_port_stays_as_it_was_told() -> None:
    assert mended(failure("port_taken", "Address already in use"), case()).headline == "Address already in use"


def test_a_full_disk_is_named_with_what_is_free() -> None:
    space = Space(place=Path("/scratch"), free_bytes=4096, free_files=None)
    told = mended(failure("disk_full", "No space left on device"), case(clues=Clues(space=space)))
    assert told.evidence == ("/scratch has 4.0 KiB free now",)
    assert told.mend is not None and "/scratch" in told.mend
    assert "`cpadvisor runs rm`" in told.mend
    assert told.command == AGAIN


def test_a_full_disk_is_that_of_the_path_that_could_not_be_written() -> None:
    space = Space(place=Path("/scratch"), free_bytes=10**12, free_files=None)
    line = "the disk is full: cannot write /proc/out/model.safetensors: No space left on device; free some space"
    told = mended(failure("disk_full", line), case(clues=Clues(space=space)))
    assert told.mend == "free some space on /proc, then go on"
    assert told.evidence == ("/proc has 0 B free now",)


def test_a_full_shared_memory_is_not_taken_for_the_disk() -> None:
    space = Space(place=Path("/scratch"), free_bytes=10**12, free_files=None)
    line = "Error while creating shared memory segment /dev/shm/nccl-x: No space left on device"
    told = mended(failure("disk_full", line), case(clues=Clues(space=space)))
    assert told.mend is not None and "/dev/shm" in told.mend and "/scratch" not in told.mend


def test_a_refused_config_is_checked_again_while_the_file_is_there(tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    record = RunRecord(run="r", config=str(file))
    assert mended(failure("config"), case(record=record)).command is None
    file.touch()
    assert mended(failure("config"), case(record=record)).command == f"cpadvisor check {file}"


def oom(**changes: Any) -> dict[str, Any]:
    terms = {"parameters": GIB, "gradients": GIB, "optimizer": 2 * GIB, "activations": 60 * GIB}
    facts = {"step": 2, "phase": "backward", "requested_bytes": GIB, "free_bytes": 0, "limit_bytes": 80 * GIB}
    return facts | {"allocated_bytes": 64 * GIB, "reserved_bytes": 64 * GIB, "terms_bytes": terms} | changes


def out_of_memory(event: dict[str, Any] | None, **config: Any) -> Failure:
    predicted = {"parameters": GIB, "gradients": GIB, "optimizer": 2 * GIB, "activations": 40 * GIB, "context": GIB}
    record = RunRecord(**{**_fields(RECORD), "prediction": {"terms_bytes": predicted}})
    events = {} if event is None else {1: event}
    found = failure("out_of_memory", "rank 1: out of GPU memory: Tried to allocate 1 GiB", rank=1, step=2)
    return mended(found, case(record=record, out_of_memory=events, clues=Clues(config=config)))


def _fields(record: RunRecord) -> dict[str, Any]:
    return {name: getattr(record, name) for name in RunRecord.__dataclass_fields__}


def test_out_of_memory_names_the_term_and_the_nearest_knob() -> None:
    told = out_of_memory(oom(), context_parallel_size=2, cpadvisor={"recompute": {"full": 32}})
    assert told.term == "activations"
    assert told.headline == (
        "rank 1 ran out of GPU memory in the backward pass of step 2: "
        "activations need 61.0 GiB, 40.0 GiB were predicted"
    )
    assert told.mend is not None and told.mend.startswith("raise context_parallel_size to 4")
    assert told.command == "cpadvisor plan --model llama-3.1-8b --seq 32768 --lock cp=4"


def test_out_of_memory_has_the_step_that_its_headline_names() -> None:
    told = out_of_memory(oom(step=1), micro_batch_size=4)
    assert "of step 1:" in told.headline and told.step == 1
    told = out_of_memory(oom(step=0, phase="build"), micro_batch_size=4)
    assert "while the model was built:" in told.headline and told.step is None


def test_memory_of_others_is_freed_on_the_gpu_of_that_rank() -> None:
    told = out_of_memory(oom(other_bytes=50 * GIB), micro_batch_size=4)
    assert told.term == "others"
    assert told.mend == "end the other processes on GPU 1, or plan with --gpus on others"


def test_fragments_let_the_allocator_grow() -> None:
    told = out_of_memory(oom(reserved_bytes=120 * GIB), micro_batch_size=4)
    assert told.term == "fragments"
    assert told.command is not None and told.command.endswith(f"expandable_segments:True {AGAIN}")


def test_out_of_memory_without_its_event_keeps_the_trainers_words_and_has_a_knob() -> None:
    told = out_of_memory(None, micro_batch_size=4)
    assert (told.term, told.headline) == (None, "rank 1: out of GPU memory: Tried to allocate 1 GiB")
    assert told.mend is not None and told.mend.startswith("set micro_batch_size to 1")


def test_a_model_in_a_folder_is_planned_by_its_path() -> None:
    told = out_of_memory(oom(), base_model="/models/my llama", cpadvisor={"recompute": {"full": 32}})
    assert told.command == "cpadvisor plan --model '/models/my llama' --seq 32768 --lock cp=2"
