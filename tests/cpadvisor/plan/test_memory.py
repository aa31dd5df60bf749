from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cpadvisor.catalog import find_model
from cpadvisor.plan.candidate import Candidate
from cpadvisor.plan.engines import AXOLOTL_020, AXOLOTL_021, CPADVISOR
from cpadvisor.plan.layout import Layout
from cpadvisor.plan.memory import communicators, estimate_memory, state_bytes
from cpadvisor.plan.methods import cp_ways

GIB = 2**30


@pytest.fixture(scope="session")
def two_gpus(llama_8b, h100):
    return Candidate(
        model=llama_8b,
        engine=CPADVISOR,
        gpu=h100,
        layout=Layout(cp=2),
        sequence_len=32768,
        recompute="full",
        cp_method="ring",
    )


def peak(candidate):
    return estimate_memory(candidate, limit_bytes=80 * GIB)


def test_states_are_sixteen_bytes_a_parameter_over_the_shard_group(two_gpus):
    # 16 x 8,030,261,248 / 2 = 59.8 GiB; replicas do not shard.
    assert state_bytes(two_gpus) == 8 * 8_030_261_248
    assert state_bytes(replace(two_gpus, layout=Layout(cp=2, dp_replicate=4))) == 8 * 8_030_261_248
    assert state_bytes(replace(two_gpus, layout=Layout(cp=2, dp_shard=4))) == 2 * 8_030_261_248


def test_more_cp_at_the_same_gpus_takes_nothing_from_sharding(two_gpus):
    layouts = [Layout(dp_shard=8), Layout(dp_shard=4, cp=2), Layout(cp=8)]
    assert len({state_bytes(replace(two_gpus, layout=layout)) for layout in layouts}) == 1


# Measured on 2 x H200: transformers 5.17, accelerate 1.15, FSDP2 x torch context_parallel, full recomputation; peak
# allocated in GiB. The stack gathers K and V and has Hugging Face's layers, as the axolotl engines do.
@pytest.mark.parametrize(
    ("sequence_len", "fused_loss", "measured"),
    [(16384, True, 62.3), (32768, True, 63.5), (65536, True, 67.1), (131072, True, 78.6), (32768, False, 78.1)],
)
def test_the_stack_measured_on_two_h200_is_met_within_six_percent(two_gpus, sequence_len, fused_loss, measured):
    stack = replace(AXOLOTL_021, bytes_per_logit=14, loss_chunk_logits=2**27 if fused_loss else None)
    candidate = replace(two_gpus, engine=stack, sequence_len=sequence_len, cp_method="allgather")
    assert peak(candidate).allocated_bytes / GIB == pytest.approx(measured, rel=0.06)


def test_gradients_are_absent_at_the_loss_and_whole_at_the_tail(two_gpus):
    long = peak(replace(two_gpus, sequence_len=1048576, recompute="none"))
    assert long.instant in ("loss", "backward")
    assert "gradients" not in long.terms_bytes
    short = peak(replace(two_gpus, sequence_len=4096))
    assert short.instant == "tail"
    assert short.terms_bytes["gradients"] > 4 * 6_900_000_000 / 2


def test_accumulation_keeps_sharded_gradients_through_the_step(two_gpus):
    long = replace(two_gpus, sequence_len=1048576, recompute="none")
    assert peak(replace(long, accumulation=8)).terms_bytes["gradients"] == 4 * 8_030_261_248 // 2


def test_deferred_reduction_keeps_two_bytes_of_every_gradient_whole(two_gpus):
    stack = replace(two_gpus, engine=AXOLOTL_021, sequence_len=131072, accumulation=16, cp_method="ulysses", ulysses=2)
    assert "unsharded_gradients" not in peak(stack).terms_bytes
    deferred = peak(replace(stack, defers_reduction=True))
    assert deferred.terms_bytes["unsharded_gradients"] == 2 * 8_030_261_248


def test_logits_of_a_whole_sequence_are_an_axolotl_term_and_tp_does_not_divide_them(two_gpus):
    stack = replace(two_gpus, engine=AXOLOTL_020, layout=Layout(dp_shard=2), sequence_len=65536, cp_method="none")
    # 6 bytes x 128,256 x 65,536.
    assert peak(stack).terms_bytes["logits"] == 6 * 128256 * 65536
    assert peak(replace(stack, layout=Layout(dp_shard=2, tp=2))).terms_bytes["logits"] == 6 * 128256 * 65536


def test_a_cpu_process_has_no_context_no_nccl_and_no_square_of_the_length(two_gpus, cpu):
    one = replace(two_gpus, gpu=cpu, layout=Layout(), cp_method="none", sequence_len=65536)
    terms = peak(one).terms_bytes
    assert terms["process"] == 400 * 2**20
    assert "context" not in terms
    assert "nccl" not in terms
    # What does not grow with the length stays under 200 GiB, so twice the length is less than twice the bytes.
    assert peak(replace(one, sequence_len=131072)).peak_bytes < 2 * peak(one).peak_bytes


# Resident peak of the bundled trainer, 4 steps of `tiny` at 8,192 tokens on two gloo processes.
@pytest.mark.parametrize(("layout", "measured"), [(Layout(cp=2), 549_294_080), (Layout(dp_shard=2), 684_584_960)])
def test_the_trainer_measured_on_two_cpu_processes_is_inside_the_band(two_gpus, cpu, layout, measured):
    tiny = find_model("tiny")
    method = "ring" if layout.cp > 1 else "none"
    memory = peak(
        replace(two_gpus, model=tiny, gpu=cpu, layout=layout, sequence_len=8192, recompute="none", cp_method=method)
    )
    assert memory.peak_bytes == pytest.approx(measured, rel=0.03)
    assert memory.low_bytes < measured < memory.high_bytes


def test_each_group_above_one_gpu_is_a_communicator(two_gpus):
    assert communicators(replace(two_gpus, layout=Layout())) == 0
    assert communicators(replace(two_gpus, layout=Layout(dp_shard=2, cp=4))) == 3
    usp = replace(two_gpus, layout=Layout(dp_shard=2, cp=4), cp_method="usp", ulysses=2)
    assert communicators(usp) == 4
    assert communicators(replace(usp, cp_method="ulysses", ulysses=4)) == 3


candidates = st.builds(
    lambda *drawn: drawn,
    st.sampled_from([CPADVISOR, AXOLOTL_021, AXOLOTL_020]),
    st.builds(
        Layout,
        dp_replicate=st.sampled_from([1, 2]),
        dp_shard=st.sampled_from([1, 2, 8]),
        tp=st.sampled_from([1, 2, 8]),
        cp=st.sampled_from([1, 2, 8]),
    ),
    st.integers(1, 2**21),
    st.sampled_from(["none", "attention_saved", "full"]),
    st.sampled_from([1, 4]),
    st.sampled_from([1, 16]),
    st.integers(0, 4),
)


def build(llama_8b, h100, drawn):
    engine, layout, tokens, policy, micro, accumulation, place = drawn
    ways = cp_ways(engine, llama_8b, layout, gpus_per_node=8)
    way = ways[place % len(ways)]
    return Candidate(
        model=llama_8b, engine=engine, gpu=h100, layout=layout, sequence_len=tokens, recompute=policy,
        cp_method=way.method, ulysses=way.ulysses, micro_batch=micro, accumulation=accumulation,
    )  # fmt: skip


@given(drawn=candidates)
def test_terms_are_positive_and_add_up_to_the_peak_inside_the_band(llama_8b, h100, drawn):
    memory = peak(build(llama_8b, h100, drawn))
    assert sum(memory.terms_bytes.values()) == memory.peak_bytes
    assert all(size > 0 for size in memory.terms_bytes.values())
    assert memory.low_bytes <= memory.peak_bytes <= memory.high_bytes


@given(drawn=candidates, more=st.integers(1, 2**20))
def test_a_longer_sequence_never_needs_less(llama_8b, h100, drawn, more):
    candidate = build(llama_8b, h100, drawn)
    longer = replace(candidate, sequence_len=candidate.sequence_len + more)
    assert peak(longer).peak_bytes >= peak(candidate).peak_bytes


@given(drawn=candidates)
def test_more_sharding_never_needs_more_states_and_more_recomputation_never_more_activations(llama_8b, h100, drawn):
    candidate = build(llama_8b, h100, drawn)
    wider = replace(candidate, layout=replace(candidate.layout, dp_shard=2 * candidate.layout.dp_shard))
    assert state_bytes(wider) <= state_bytes(candidate)
    lightest = peak(replace(candidate, recompute="full")).peak_bytes
    # The log-sum-exp of one layer and rounding are all that recomputation may add.
    assert lightest <= peak(replace(candidate, recompute="none")).peak_bytes * 1.001
