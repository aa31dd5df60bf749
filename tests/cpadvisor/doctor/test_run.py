"""A run judged by what it told: its failure first, each figure beside its prediction, and mends for the next launch."""

from dataclasses import replace
from pathlib import Path

import pytest
from sound_subjects import PREDICTION, RING_BYTES, TINY, SoundRun

from cpadvisor.doctor.mending import apply
from cpadvisor.doctor.run import config_of, examine_run
from cpadvisor.doctor.run_facts import transports_in
from cpadvisor.errors import LaunchError
from cpadvisor.watch.failure import Failure
from cpadvisor.watch.monitor import Monitor

SMALL_H100 = {
    "base_model": "meta-llama/Llama-3.1-8B",
    "sequence_len": 32768,
    "context_parallel_size": 4,
    "dp_shard_size": 2,
    "bf16": True,
    "learning_rate": 2e-5,
    "cpadvisor": {"model": "llama-3.1-8b", "method": "ring", "recompute": {"none": 32}, "corpus": "python-stdlib"},
}


def judged(run, view=None):
    found = examine_run(run.directory, view=view)
    rules = [one.rule for one in found]
    assert len(set(rules)) == len(rules), rules
    return {one.rule: one for one in found}


def with_failure(run, **fields):
    return replace(Monitor(run.directory).poll(), state="failed", failure=Failure(**fields))


@pytest.fixture
def run(tmp_path):
    return SoundRun(tmp_path / "run")


def test_a_run_that_went_well_shows_each_figure_beside_its_prediction(run):
    found = judged(run.whole())
    assert found["memory"].evidence.startswith("peak 515 MiB by the allocator, 525 MiB predicted (-2 %)")
    assert "a step takes 2.00 s, 2,048 tokens/s/GPU; 2.00 s and 2,048 were predicted (+0 %)" in found["speed"].evidence
    assert found["split-time"].evidence.startswith("backward 65 %, forward 30 %")
    assert found["loss"].evidence.startswith("loss 5.9000 at first, 5.5000 at step 5")
    assert "failure" not in found


def test_what_could_not_be_read_is_a_finding(run):
    view = replace(Monitor(run.whole().directory).poll(), notes=("events of rank 1: 3 lines are no JSON",))
    found = judged(run, view=view)
    assert (found["directory"].severity, found["directory"].evidence) == ("warning", view.notes[0])
    assert "directory" not in judged(run)


def test_context_parallelism_is_proven_by_lengths_and_bytes(run):
    found = judged(run.whole())
    assert found["cp-on"].title == "context parallelism is on: ring"
    assert found["local-length"].evidence == ("rank 0 4,096, rank 1 4,096; 8,192 tokens x micro_batch 1 / cp 2 = 4,096")
    assert "rank 0 sent 8.0 MiB (8,388,608 bytes) in 6 messages of step 5" in found["ring-bytes"].evidence
    assert "gives 8.0 MiB (8,388,608 bytes)" in found["ring-bytes"].evidence
    assert found["cp-waiting"].evidence == (
        "rank 0 waits 20 ms of 50 ms on the wire, 1 % of a step of 2.00 s; 10 % is much"
    )


USP_HEADS = 2 * 2048 * (3 * 4 * 384 + 2 * 4 * 8) // 2
"""Of `tiny` over 2 ranks: 2,048 tokens, three times 384 numbers of q, k, v and output, twice 8 log-sum-exps."""


def test_a_usp_run_is_held_against_its_smaller_ring_and_tells_both_exchanges(tmp_path):
    config = {"context_parallel_size": 4, "cpadvisor": {**TINY["cpadvisor"], "method": "usp"}}
    run = SoundRun(tmp_path / "run", config=config, layout={"cp": 4}, world=4)
    for rank in range(4):
        # Heads over 2 ranks: 4,096 tokens meet 2 KV heads, 2 x 4,096 x 2 x 16 x 4 bytes = 1 MiB a share of a ring of 2.
        halves = 4 if rank < 2 else 5
        run.started(rank, cp_method="usp", local_tokens=2048)
        told = {"group": "cp", "op": "all_to_all", "count": 12, "bytes": USP_HEADS, "exposed_s": 0.1, "wire_s": 0.1}
        for number in range(1, 6):
            run.stepped(rank, number, sent=2 * halves * 2**19)
            run.event(rank, 1.0 + 2 * number, "nccl", step=number, **told)
    found = judged(run)
    assert found["ring-bytes"].severity == "ok", found["ring-bytes"].evidence
    assert found["cp-bytes.all_to_all"].title == "heads are exchanged on 4 ranks"
    assert found["cp-waiting"].evidence.startswith("rank 0 waits 120 ms of 150 ms on the wire, 6 %")


def test_accumulation_and_recomputation_are_in_the_bytes_that_are_expected(tmp_path):
    run = SoundRun(tmp_path / "run", config={"gradient_accumulation_steps": 3, "gradient_checkpointing": True})
    for rank in (0, 1):
        # Two recomputed layers repeat what a rank sends forward, a share of 2 MiB or half of it, in each of 3 batches.
        run.started(rank, recompute={"full": 2})
        run.stepped(rank, 1, sent=3 * (RING_BYTES[rank] + 2 * (rank + 1) * 2**20))
    assert judged(run)["ring-bytes"].severity == "ok"


def test_a_run_without_context_parallelism_is_not_asked_for_its_ring(tmp_path):
    run = SoundRun(tmp_path / "run", config={"context_parallel_size": 1}, layout={"cp": 1}, world=1)
    run.started(0, cp_method="none", local_tokens=8192)
    run.stepped(0, 1, sent=None)
    found = judged(run)
    assert found["cp-on"].title == "context parallelism is off"
    assert found["local-length"].severity == "ok"
    assert "ring-bytes" not in found


def test_a_trainer_that_does_not_tell_its_bytes_is_noted(run):
    for rank in (0, 1):
        run.started(rank)
        run.stepped(rank, 1, sent=None)
    assert (judged(run)["ring-bytes"].severity, judged(run)["ring-bytes"].evidence) == (
        "note",
        "the trainer did not tell what it sent",
    )


def test_a_run_that_has_told_nothing_yet_is_judged_by_its_config(run):
    found = judged(run)
    assert "F3" in found and "C8" in found
    assert not {"memory", "speed", "loss", "cp-on-run", "local-length"} & set(found)


def test_the_failure_comes_first_with_its_own_mend(run):
    view = with_failure(
        run.whole(),
        kind="port_taken",
        headline="port 29500 is taken",
        mend="take a free one",
        command="cpadvisor launch --port 0",
    )
    first = examine_run(run.directory, view=view)[0]
    assert (first.rule, first.title, first.effect) == ("failure", "port 29500 is taken", "failed after 5 of 5 steps")
    assert [mend.command for mend in first.mends] == ["cpadvisor launch --port 0"]


def test_evidence_keeps_the_lines_of_a_failure(run):
    view = with_failure(
        run.whole(), kind="exception", headline="rank 1: ValueError", evidence=("Traceback", "ValueError: x")
    )
    assert judged(run, view)["failure"].evidence == "Traceback\nValueError: x"


def test_a_loss_that_became_nan_is_mended_by_the_card_s_rate(tmp_path):
    run = SoundRun(tmp_path / "run", config={"cpadvisor": {**TINY["cpadvisor"], "random_weights": False}})
    view = with_failure(run.whole(), kind="not_a_number", headline="the loss of step 3 is nan")
    mend = judged(run, view)["failure"].mends[0]
    assert mend.text == "write learning_rate: 1e-05 in place of 0.001 (card C8); launch it again"
    assert mend.command == f"cpadvisor launch {run.record.config}"
    apply(Path(str(config_of(run.directory))), mend)
    assert "learning_rate: 1.0e-05" in Path(str(run.record.config)).read_text()


def test_a_mend_that_only_leads_to_the_doctor_gives_way_to_one_that_changes_the_file(run):
    lead = {"mend": "lower learning_rate", "command": "cpadvisor doctor a --symptom nan"}
    view = with_failure(run.whole(), kind="not_a_number", headline="the loss of step 3 is nan", **lead)
    assert [bool(mend.changes) for mend in judged(run, view)["failure"].mends] == [True]
    view = with_failure(run, kind="exception", headline="x", **lead)
    assert [mend.text for mend in judged(run, view)["failure"].mends] == ["lower learning_rate"]


def test_a_run_out_of_memory_is_given_every_knob_with_its_peak(tmp_path):
    run = SoundRun(tmp_path / "run", config=SMALL_H100, layout={"cp": 4, "dp_shard": 2}, world=8, gpus=tuple(range(8)))
    for rank in range(8):
        run.started(rank, device="NVIDIA H100 80GB HBM3", sequence_len=32768, local_tokens=8192, recompute={"none": 32})
    view = replace(
        with_failure(
            run,
            kind="out_of_memory",
            headline="rank 2 ran out of GPU memory",
            evidence=("asked for 4.0 GiB",),
            mend="recompute",
        ),
        state="out_of_memory",
    )
    one = judged(run, view)["failure"]
    assert one.card == ("D1", "L3")
    assert "predicted for this file: 61.3 GiB at the peak" in one.evidence
    assert one.mends[0].text.startswith(
        "write gradient_checkpointing: true and cpadvisor.recompute: {attention_saved: 32}"
    )
    assert one.mends[0].changes and one.mends[-1].text == "recompute"


def out_of_memory_view(run, **fields):
    view = with_failure(run, kind="out_of_memory", headline="rank 0 ran out of GPU memory", **fields)
    return replace(view, state="out_of_memory", peak_bytes=2**40, prediction=PREDICTION)


def test_a_run_out_of_memory_lists_each_mend_once(run):
    plan = {"mend": "halve sequence_len to 4,096 tokens", "command": "cpadvisor plan --model tiny --seq 4096"}
    found = judged(run.whole(), out_of_memory_view(run, **plan))
    texts = [mend.text for one in found.values() for mend in one.mends if one.severity != "ok"]
    assert found["memory"].severity == "warning" and any(mend.changes for mend in found["failure"].mends)
    assert len(texts) == len(set(texts)), texts
    assert not any(text.startswith("halve") for text in texts)


def test_where_others_hold_the_memory_that_is_mended_first(run):
    told = {"term": "others", "mend": "end the other processes on GPU 0", "command": "cpadvisor inspect"}
    mends = judged(run.whole(), out_of_memory_view(run, **told))["failure"].mends
    assert mends[0].command == "cpadvisor inspect" and mends[1].changes


def test_what_the_attempt_before_a_resume_warned_of_is_gone(run):
    run.event(0, 1.0, "process", pid=1)
    run.event(0, 1.1, "warning", rule="planted_fault", message="a fault")
    run.started(0)
    assert "planted-fault" in judged(run)
    run.event(0, 9.0, "process", pid=2)
    run.event(0, 9.1, "warning", rule="padding", message="half is padding")
    run.started(0)
    assert {"planted-fault", "padding"} & set(judged(run)) == {"padding"}


@pytest.mark.parametrize("norm", ["7.5", {"total": 7.5}, [7.5], True, None])
def test_a_gradient_norm_of_another_shape_counts_as_none(norm, run):
    for number in range(1, 6):
        run.stepped(0, number, grad_norm=norm if number == 3 else 1.0)
    one = judged(run)["loss"]
    assert (one.severity, "gradient norm 1 in the middle, 1 at most" in one.evidence) == ("ok", True)


@pytest.mark.parametrize("told", [{"full": None}, {"full": "2"}, ["full"], "full"])
def test_recomputation_told_in_another_shape_leaves_the_ring_s_bytes_unknown(told, run):
    for rank in (0, 1):
        run.started(rank, recompute=told)
        run.stepped(rank, 1)
    one = judged(run)["ring-bytes"]
    assert (one.severity, one.evidence) == ("note", "the trainer told its length or its recomputation otherwise")


def test_a_start_of_another_shape_is_judged_without_a_crash(run):
    for rank in (0, 1):
        run.started(rank, local_tokens="4096", sequence_len=[8192], device={"name": "cpu"}, cp_method=None, kernel=1)
        run.stepped(rank, 1, split_s=["data"], step_s="2", loss="5.9")
    assert judged(run)["cp-on"].severity == "ok"


def test_a_spike_that_a_resume_rolled_back_is_told_no_longer(run):
    for number in (7, 8, 9, 10):
        run.stepped(0, number, grad_norm=100.0 if number >= 9 else 1.0)
    run.started(0)
    for number in (9, 10, 11):
        run.stepped(0, number)
    assert judged(run)["loss"].severity == "ok"


def test_commands_of_a_run_elsewhere_lead_to_it(tmp_path):
    (tmp_path / "my runs").mkdir()
    run = SoundRun(tmp_path / "my runs" / "r", prediction={**PREDICTION, "step_high_s": 1.0})
    found = judged(run.whole())
    assert found["speed"].mends[0].command == f"cpadvisor doctor '{run.directory}' --symptom slow"
    assert found["memory"].mends[0].command == f"cpadvisor doctor '{run.record.config}' --symptom oom"


def test_a_mend_of_a_run_that_goes_on_says_that_the_run_stays_as_it_is(run):
    for rank in (0, 1):
        run.started(rank, cp_method="none")
    view = replace(Monitor(run.directory).poll(), state="running")
    assert (
        judged(run, view)["cp-on"].mends[0].text
        == "write cpadvisor.method: ring; this run goes on as it is; launch another"
    )


def test_mends_change_the_file_that_the_run_was_started_from(run):
    assert config_of(run.directory) == run.directory.parent / "job.yaml"
    (run.directory.parent / "job.yaml").unlink()
    assert config_of(run.directory) == run.directory.parent / "job.yaml", "never the run's own copy"


def lost_file(run, *, state="failed"):
    """A run in trouble whose own file is gone: its loss is NaN, and a rank holds another part than the others."""
    Path(str(run.record.config)).unlink()
    run.started(0)
    run.started(1, local_tokens=2048)
    run.stepped(0, 1)
    view = with_failure(run, kind="not_a_number", headline="the loss of step 3 is nan")
    return judged(run, replace(view, state=state))


def test_a_mend_of_a_run_whose_file_is_gone_changes_nothing_and_says_how_to_bring_the_file_back(tmp_path):
    folder = tmp_path / "my runs"
    run = SoundRun(folder / "r")
    found = lost_file(run)
    mend = found["failure"].mends[0]
    assert mend.command == f"cp '{folder}/r/config.yaml' '{folder}/job.yaml'"
    assert mend.text == (
        "write learning_rate: 0.0003 in place of 0.001 (at most a third, as weights start at random); "
        f"{folder}/job.yaml is gone: bring the run's copy back and change that; "
        f"`cpadvisor launch --resume '{folder}/r'` goes on with the old values"
    )
    assert not any(mend.changes for one in found.values() for mend in one.mends)


def test_no_command_for_a_run_whose_file_is_gone_reads_that_file(tmp_path):
    folder = tmp_path / "my runs"
    found = lost_file(SoundRun(folder / "r"))
    assert found["memory"].mends[0].command == f"cpadvisor doctor '{folder}/r' --symptom oom"
    assert found["local-length"].mends[0].command == f"cpadvisor parity '{folder}/r/config.yaml'"
    told = [mend.command or "" for one in found.values() for mend in one.mends]
    assert not [command for command in told if "job.yaml" in command and not command.startswith("cp ")]


def test_a_run_that_goes_on_is_not_offered_to_be_resumed(run):
    assert "--resume" not in lost_file(run, state="running")["failure"].mends[0].text


def test_what_the_launcher_sets_itself_is_no_fault(tmp_path):
    from cpadvisor.launch.environment import threads

    env = {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": str(threads(2, gpu=False)), "NCCL_DEBUG": "TRACE"}
    assert not [rule for rule in judged(SoundRun(tmp_path / "a", env=env).whole()) if rule.startswith("env")]
    on_gpus = judged(SoundRun(tmp_path / "b", env=env, gpus=(0, 1)).whole())
    assert "env.NCCL_DEBUG" in on_gpus


def test_a_peak_is_held_against_what_its_own_gpu_has(tmp_path):
    run = SoundRun(tmp_path / "run", prediction=None, gpus=(0, 1))
    for rank in (0, 1):
        run.started(rank, device="NVIDIA H100 80GB HBM3")
        run.stepped(rank, 1)
    run.event(1, 5.0, "memory", peak_allocated_bytes=84_000_000_000)
    memory = judged(run)["memory"]
    assert (memory.severity, memory.title) == ("warning", "memory is almost full")
    assert "nothing was predicted, of 79.6 GiB a GPU has" in memory.evidence


def test_a_prediction_with_terms_is_compared_without_what_the_allocator_does_not_see(tmp_path):
    terms = {"parameters": 300_000_000, "context": 100_000_000, "allocator": 10_000_000}
    run = SoundRun(tmp_path / "run", prediction={**PREDICTION, "terms_bytes": terms}).whole()
    # 550 MB less 110 MB of context and fragments are 440 MB, 420 MiB; 540 MB measured is 23 % more.
    assert "420 MiB predicted (+23 %)" in judged(run)["memory"].evidence


def test_a_config_that_cannot_be_read_hides_nothing_else(run):
    run.whole()
    (run.directory / "config.yaml").write_text("a: [\n")
    found = judged(run)
    assert found["ring-bytes"].evidence == "the model is not known here"
    assert found["speed"].severity == "ok"


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(LaunchError, match="is no run"):
        examine_run(tmp_path)


LOG = """\
host:1:1 [0] NCCL INFO Channel 00/24 : 0 1
host:1:1 [0] NCCL INFO Channel 22/0 : 0[0] -> 1[1] via P2P/CUMEM
host:1:1 [0] NCCL INFO Channel 00/1 : 0[0] -> 1[1] via P2P/CUMEM
host:1:1 [0] NCCL INFO Channel 00 : 1[4f000] -> 0[4e000] via SHM/direct/direct
host:1:1 [0] NCCL INFO Channel 03/0 : 0[0] -> 1[1] [send] via NET/IB/0/GDRDMA
host:1:1 [0] NCCL INFO Connected all rings
"""
"""The first three lines are of 2 x H200 with NCCL 2.28.9; the others are the forms of nccl src/transport."""


def test_the_transport_of_each_channel_is_read_from_nccl_s_log():
    assert dict(transports_in(LOG)) == {"P2P/CUMEM": 2, "SHM/direct": 1, "NET/IB": 1}


def test_a_run_whose_channels_are_all_peer_to_peer_is_well(run):
    (run.directory / "nccl-rank0.log").write_text("\n".join(LOG.splitlines()[:3]))
    one = judged(run.whole())["ring-transport"]
    assert (one.severity, one.evidence) == ("ok", "NCCL's log: 2 channels via P2P/CUMEM")
