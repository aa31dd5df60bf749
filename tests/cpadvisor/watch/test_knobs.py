from typing import Any

import pytest

from cpadvisor.watch.knobs import Job, Knob, free_others, nearest_knob, whole_segments

OWN = {"cpadvisor": {"recompute": {"full": 32}}}


def turned(config: dict[str, Any], *, phase: str | None = "backward", **facts: Any) -> Knob | None:
    job = {
        "config": config,
        "subject": "/job.yaml",
        "model": "llama-3.1-8b",
        "sequence_len": 32768,
        "world": 8,
        **facts,
    }
    return nearest_knob(Job(**job), phase=phase)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (
            {"micro_batch_size": 4, "gradient_accumulation_steps": 2, **OWN},
            "set micro_batch_size to 1, and gradient_accumulation_steps to 8 for the same batch",
        ),
        ({"attn_implementation": "sdpa"}, "set attn_implementation to flash_attention_2"),
        (
            {"cpadvisor": {"recompute": {"none": 32}}},
            "recompute all but attention: cpadvisor.recompute {attention_saved: 32}",
        ),
        (
            {"cpadvisor": {"recompute": {"none": 10, "full": 22}}},
            "recompute all but attention: cpadvisor.recompute {attention_saved: 10, full: 22}",
        ),
        (
            {"cpadvisor": {"recompute": {"attention_saved": 10, "full": 22}}},
            "recompute every layer: cpadvisor.recompute {full: 32}",
        ),
        ({"cpadvisor": {}}, "set gradient_checkpointing to true"),
        ({"flash_attention": True}, "set gradient_checkpointing to true"),
    ],
)
def test_the_knobs_of_the_cards_row_d1_come_in_its_order(config: dict[str, Any], words: str) -> None:
    knob = turned(config)
    assert knob is not None
    assert (knob.words, knob.command) == (words, "cpadvisor doctor /job.yaml --symptom oom")


def test_more_cp_takes_the_gpus_from_the_data_ranks_and_keeps_the_batch() -> None:
    knob = turned({"context_parallel_size": 2, "gradient_accumulation_steps": 8, **OWN})
    assert knob is not None
    assert knob.words == (
        "raise context_parallel_size to 4, with dp_shard_size 2 and "
        "gradient_accumulation_steps 16 for the same batch on the same GPUs"
    )
    assert knob.command == "cpadvisor plan --model llama-3.1-8b --seq 32768 --lock cp=4"


@pytest.mark.parametrize(
    ("config", "facts"),
    [
        ({"context_parallel_size": 8}, {}),  # cp 16 is above the card's 8
        ({"context_parallel_size": 2, "dp_shard_size": 1}, {"world": 2}),  # no data ranks to take GPUs from
        ({"context_parallel_size": 2, "dp_shard_size": 3}, {"world": 6}),  # 3 data ranks have no half
        ({"context_parallel_size": 2}, {"sequence_len": 16388}),  # does not split into 8 chunks
    ],
)
def test_where_more_cp_changes_nothing_the_sequence_is_halved(config: dict[str, Any], facts: dict[str, Any]) -> None:
    knob = turned(config | OWN, **facts)
    assert knob is not None and knob.words.startswith("halve sequence_len to ")


def test_half_a_sequence_still_splits() -> None:
    knob = turned({"context_parallel_size": 4, "dp_shard_size": 1, **OWN}, world=4, sequence_len=10_008)
    # 5,004 is not a multiple of 8; 5,000 is.
    assert knob is not None
    assert (knob.words, knob.command) == (
        "halve sequence_len to 5,000 tokens",
        "cpadvisor plan --model llama-3.1-8b --seq 5000",
    )


def test_states_need_shards_and_no_shorter_sequence() -> None:
    replicas = turned({"dp_replicate_size": 2, "dp_shard_size": 4, "micro_batch_size": 4}, phase="optimizer")
    assert replicas is not None
    assert replicas.words == "shard in place of copying: dp_replicate_size 1 and dp_shard_size 8"
    sharded = turned({"micro_batch_size": 4}, phase="build")
    assert sharded is not None and sharded.words.startswith("shard the states over more GPUs")


def test_where_no_knob_is_left_none_is_offered() -> None:
    assert turned({"cpadvisor": {"recompute": {"full": 2}}}, world=1, sequence_len=512) is None
    assert turned({"cpadvisor": {"recompute": {"full": 2}}}, world=1, sequence_len=None) is None


def test_others_are_ended_and_not_the_config_changed() -> None:
    assert free_others(3) == Knob(
        words="end the other processes on GPU 3, or plan with --gpus on others", command="cpadvisor inspect"
    )


def test_fragments_ask_for_segments_that_grow_unless_they_do() -> None:
    knob = whole_segments("cpadvisor launch --resume r", {})
    assert knob is not None
    assert knob.command == "PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True cpadvisor launch --resume r"
    assert whole_segments("x", {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"}) is None


def test_segments_grow_by_the_newer_name_where_it_is_set_for_it_wins():
    older = {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"}
    knob = whole_segments("x", {**older, "PYTORCH_ALLOC_CONF": "max_split_size_mb:64"})
    assert knob is not None and knob.command == "PYTORCH_ALLOC_CONF=expandable_segments:True x"
    assert whole_segments("x", {"PYTORCH_ALLOC_CONF": "expandable_segments:True"}) is None
