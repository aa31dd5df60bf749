"""One file becomes two that differ in context parallelism alone."""

from collections.abc import Callable
from pathlib import Path

import pytest

from cpadvisor.catalog import find_model, require_gpu
from cpadvisor.errors import InfeasibleError, LayoutError, UsageError
from cpadvisor.launch.jobfile import JobFile, read_job
from cpadvisor.parity.pair import make_pair
from cpadvisor.parity.room import Room
from cpadvisor.yaml_reader import read_yaml

MakeJob = Callable[..., JobFile]


def values(text: str) -> dict:
    return read_yaml(text, name="made")[0]


def room(model: str, gpu: str = "h100-80g", *, limit: int | None = None) -> Room:
    spec = require_gpu(gpu)
    return Room(model=find_model(model), gpu=spec, limit_bytes=limit or spec.memory_bytes, dp_shard=1)


def test_both_have_the_same_steps_length_seed_and_data_and_save_nothing(make_job: MakeJob):
    job = make_job()
    pair = make_pair(job, steps=4)
    for text in (pair.parallel, pair.whole):
        found = values(text)
        assert (found["max_steps"], found["sequence_len"], found["save_strategy"]) == (4, 512, "no")
        assert "save_steps" not in found and "prediction" not in found["cpadvisor"]
        assert found["output_dir"] == str(job.path.parent / "out")
        assert "# the smallest one" in text
    assert (pair.cp, pair.sequence_len, pair.notes) == (2, 512, ())


def test_nothing_but_cp_differs(make_job: MakeJob):
    pair = make_pair(make_job(), steps=4)
    parallel, whole = values(pair.parallel), values(pair.whole)
    assert (parallel["context_parallel_size"], whole["context_parallel_size"]) == (2, 1)
    assert (parallel["cpadvisor"]["method"], whole["cpadvisor"]["method"]) == ("ring", "none")
    assert (parallel["cpadvisor"]["rank_order"], whole["cpadvisor"]["rank_order"]) == ([1, 0], [1])
    for found in (parallel, whole):
        del found["context_parallel_size"], found["cpadvisor"]["method"], found["cpadvisor"]["rank_order"]
    assert parallel == whole


def test_cp_1_takes_the_first_gpu_of_each_context_parallel_group(make_job: MakeJob):
    job = make_job("dp_shard_size: 1 -> dp_shard_size: 2", "rank_order: [1, 0] -> rank_order: [3, 2, 1, 0]")
    whole = values(make_pair(job, steps=1).whole)
    assert (whole["dp_shard_size"], whole["cpadvisor"]["rank_order"]) == (2, [3, 1])


def test_an_asked_length_counts_whatever_fits(make_job: MakeJob):
    pair = make_pair(make_job(), steps=2, sequence_len=1024, room=room("tiny", limit=1))
    assert values(pair.whole)["sequence_len"] == values(pair.parallel)["sequence_len"] == 1024
    assert pair.notes == ()


def test_a_length_that_fits_is_kept(make_job: MakeJob):
    pair = make_pair(make_job(), steps=2, room=room("llama-3.2-1b"))
    assert (pair.sequence_len, pair.notes) == (512, ())


def test_where_only_recomputation_is_missing_cp_1_recomputes(make_job: MakeJob):
    # 1B at 32K keeps 62 GiB without recomputation and 23 GiB with it, measured on one H200.
    job = make_job("sequence_len: 512 -> sequence_len: 32768", "{none: 2} -> {none: 16}")
    pair = make_pair(job, steps=2, room=room("llama-3.2-1b", limit=40 * 2**30))
    assert pair.sequence_len == 32768
    assert values(pair.whole)["cpadvisor"]["recompute"] == {"full": 16}
    assert values(pair.parallel)["cpadvisor"]["recompute"] == {"none": 16}
    assert "cp 1 recomputes every layer" in pair.notes[0]


def test_a_length_that_does_not_fit_becomes_the_longest_that_does(make_job: MakeJob):
    job = make_job("sequence_len: 512 -> sequence_len: 1048576", "{none: 2} -> {full: 16}")
    space = room("llama-3.2-1b", limit=40 * 2**30)
    pair = make_pair(job, steps=2, room=space)
    assert pair.sequence_len % 4 == 0
    assert space.fits(pair.sequence_len, "full") and not space.fits(pair.sequence_len + 4, "full")
    assert values(pair.parallel)["sequence_len"] == values(pair.whole)["sequence_len"] == pair.sequence_len
    assert "1M tokens need" in pair.notes[0] and f"both runs take {pair.sequence_len:,}" in pair.notes[0]


def test_a_model_that_fits_at_no_length_is_infeasible(make_job: MakeJob):
    job = make_job("sequence_len: 512 -> sequence_len: 8192")
    with pytest.raises(
        InfeasibleError, match=r"llama-3.1-8b does not fit at cp 1 at any length: .* raise dp_shard_size"
    ):
        make_pair(job, steps=2, room=room("llama-3.1-8b"))


def test_gradient_checkpointing_stands_in_where_no_policy_is_written(make_job: MakeJob):
    job = make_job("sequence_len: 512 -> sequence_len: 32768", "  recompute: {none: 2}\n -> ")
    pair = make_pair(job, steps=2, room=room("llama-3.2-1b", limit=40 * 2**30))
    assert values(pair.whole)["gradient_checkpointing"] is True
    assert "gradient_checkpointing" not in values(pair.parallel)


def test_a_file_without_context_parallelism_names_the_nearest_that_has_it(make_job: MakeJob):
    with pytest.raises(UsageError, match=r"context_parallel_size is 1.* the nearest that works is .*: 2"):
        make_pair(make_job("context_parallel_size: 2 -> context_parallel_size: 1"), steps=4)


def test_a_file_for_axolotl_is_told_apart(tmp_path: Path):
    path = tmp_path / "axolotl.yaml"
    path.write_text("base_model: meta-llama/Llama-3.1-8B\ncontext_parallel_size: 2\n")
    with pytest.raises(UsageError, match=r"axolotl\.yaml is for axolotl .* write one with `cpadvisor write"):
        make_pair(read_job(path), steps=4)


@pytest.mark.parametrize("steps", [0, -1])
def test_no_steps_compare_nothing(make_job: MakeJob, steps: int):
    with pytest.raises(UsageError, match=f"--steps {steps} compares nothing; use 1 or more"):
        make_pair(make_job(), steps=steps)


def test_an_uneven_length_names_both_neighbours(make_job: MakeJob):
    with pytest.raises(LayoutError, match=r"sequence_len 1022 .* use 1020 or 1024"):
        make_pair(make_job(), steps=1, sequence_len=1022)
