from dataclasses import replace
from time import perf_counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cpadvisor.model import ModelSpec
from cpadvisor.plan.advice import Plan, Rejection
from cpadvisor.plan.layout import AXES, Layout, factorisations
from cpadvisor.plan.mend import longest_fit
from cpadvisor.plan.problem import survey
from cpadvisor.plan.search import advise, explain
from cpadvisor.plan.workload import ENGINES, OBJECTIVES, Workload

GIB = 2**30


@pytest.fixture(scope="session")
def tiny():
    return ModelSpec(
        name="tiny", family="llama", hidden_size=128, intermediate_size=384, layers=2, heads=4, kv_heads=2,
        head_dim=32, vocab_size=512, tied_embeddings=True, max_positions=131072, rope_theta=10000.0,
    )  # fmt: skip


@pytest.fixture(scope="session")
def llama_70b(llama_8b):
    # https://huggingface.co/meta-llama/Llama-3.1-70B/blob/main/config.json
    return replace(llama_8b, name="llama-3.1-70b", hidden_size=8192, intermediate_size=28672, layers=80, heads=64)


@pytest.fixture(scope="session")
def rtx4090(h100):
    # NVIDIA Ada white paper: 165 TFLOP/s bf16 with float32 sums, 24 GB at 1.01 TB/s; no NVLink, no peer access.
    return replace(
        h100, key="rtx-4090", memory_bytes=24564 * 2**20, peak_flops_per_s=165e12, matmul_flops_per_s=140e12,
        attention_forward_flops_per_s=120e12, attention_backward_flops_per_s=100e12, hbm_bytes_per_s=1.01e12,
        nvlink_bytes_per_s=None, pcie_bytes_per_s=20e9, p2p=False,
    )  # fmt: skip


def decision(advice):
    return next(step for step in advice.trace if step.rule == "decision")


def asked(advice, words):
    return next(step for step in advice.trace if words in step.question)


def test_8b_at_4k_on_eight_h100_needs_no_cp(make_node, h100, llama_8b):
    advice = advise(make_node(8, "NV18"), h100, Workload(model=llama_8b, sequence_len=4096))
    assert advice.plans[0].layout == Layout(dp_shard=8)
    assert advice.plans[0].cp_method == "none"


def test_8b_at_1m_on_eight_h100_takes_cp_8(make_node, h100, llama_8b):
    advice = advise(make_node(8, "NV18"), h100, Workload(model=llama_8b, sequence_len=2**20))
    assert advice.plans[0].layout == Layout(cp=8)
    assert advice.plans[0].recompute == {"full": 32}
    assert any("131072 positions" in warning for warning in advice.plans[0].warnings)


def test_70b_at_8k_on_eight_4090_fits_nowhere_and_names_the_knob(make_node, rtx4090, llama_70b):
    advice = advise(make_node(8, "SYS"), rtx4090, Workload(model=llama_70b, sequence_len=8192))
    assert advice.plans == ()
    assert advice.rejected[0].rule == "memory"
    assert advice.rejected[0].value > advice.rejected[0].limit
    assert "GPUs" in advice.rejected[0].fix
    assert decision(advice).answer.startswith("none: use ")


def test_tiny_at_8k_on_two_cpu_processes_needs_no_cp(make_node, cpu, tiny):
    advice = advise(make_node(2, "SYS"), cpu, Workload(model=tiny, sequence_len=8192))
    assert advice.plans[0].layout == Layout(dp_shard=2)


def test_a_lock_is_kept_and_what_it_replaced_is_told(make_node, cpu, tiny):
    workload = Workload(model=tiny, sequence_len=8192, lock={"cp": 2})
    advice = advise(make_node(2, "SYS"), cpu, workload)
    assert {plan.layout for plan in advice.plans} == {Layout(cp=2)}
    assert "we would choose dp_shard 2" in asked(advice, "locked").answer


def test_a_lock_that_does_not_divide_the_gpus_is_an_f1_rejection(make_node, h100, llama_8b):
    workload = Workload(model=llama_8b, sequence_len=8192, lock={"cp": 3})
    advice = advise(make_node(8, "NV18"), h100, workload)
    assert [one.rule for one in advice.rejected] == ["F1"]


def test_the_deciding_lines_flip_with_length_gpus_and_links(make_node, h100, llama_8b):
    def ask(tokens, gpus=8, code="NV18"):
        return advise(make_node(gpus, code), h100, Workload(model=llama_8b, sequence_len=tokens))

    without = "without context parallelism"
    assert asked(ask(65536), without).answer.startswith("yes")
    assert asked(ask(131072), without).answer.startswith("no")
    assert asked(ask(131072), "How much").value == 2
    assert asked(ask(262144), "How much").value == 4
    assert asked(ask(32768, gpus=1), "fit one GPU").answer.startswith("no")
    assert asked(ask(4096, gpus=2), "sharded over all").answer.startswith("yes")
    assert not ask(262144, gpus=2).plans
    assert ask(262144, gpus=8).plans
    assert asked(ask(131072), "on NVLink").answer.startswith("yes")
    assert asked(ask(131072, code="SYS"), "on NVLink").answer.startswith("no")
    assert asked(ask(4096, gpus=2), "hide a ring").answer.startswith("yes")
    assert asked(ask(4096, gpus=2, code="SYS"), "hide a ring").answer.startswith("no")


def test_the_method_is_the_one_that_the_time_model_finds_fastest(make_node, h100, llama_8b):
    def best(code, *, cp=8, **asked):
        workload = Workload(model=llama_8b, sequence_len=65536, lock={"cp": cp}, **asked)
        return advise(make_node(8, code), h100, workload).plans[0]

    fast, slow = best("NV18"), best("SYS", cp=2)
    # Over 8 ranks heads move fewer bytes than 7 hops; over 2 a ring moves fewer, and hides them behind long chunks.
    assert (fast.cp_method, slow.cp_method) == ("ulysses", "ring")
    for plan in (fast, slow):
        assert plan.methods[0].method == plan.cp_method
        seconds = [one.step_s for one in plan.methods if one.step_s is not None]
        assert seconds == sorted(seconds)
        assert seconds[0] == plan.step.total_s
    assert best("NV18", cp_method="ring").step.total_s == pytest.approx(
        next(one.step_s for one in fast.methods if one.method == "ring")
    )


def test_what_decided_between_the_methods_is_told_with_what_is_out(make_node, h100, llama_8b):
    workload = Workload(model=llama_8b, sequence_len=65536, lock={"cp": 2})
    advice = advise(make_node(2, "NV18"), h100, workload)
    step, words = asked(advice, "By which method"), advice.plans[0].method_words
    assert step.answer == words
    assert words.startswith(f"{advice.plans[0].cp_method} ")
    assert words.endswith("; no usp: cp 2 has no divisor between 1 and itself")
    assert " a step against " in words
    assert step.value is not None and step.limit is not None and step.value <= step.limit


def test_a_method_that_is_asked_for_is_the_only_one_and_is_refused_where_heads_forbid_it(make_node, h100, llama_8b):
    node = make_node(8, "NV18")
    workload = Workload(model=replace(llama_8b, heads=28, kv_heads=4), sequence_len=32768, cp_method="ulysses")
    advice = advise(node, h100, workload)
    assert {plan.cp_method for plan in advice.plans} <= {"ulysses", "none"}
    found = explain(node, h100, workload, Layout(cp=8))
    assert isinstance(found, Rejection)
    assert (found.rule, found.value) == ("cp-method", 8)
    assert found.why == "ulysses at cp 8: 28 query heads do not divide over 8 ranks"
    assert found.fix == "use --cp-method usp, or leave it out"
    usp = advise(node, h100, replace(workload, cp_method="usp", lock={"cp": 4})).plans[0]
    assert (usp.cp_label, usp.ulysses) == ("usp 2×2", 2)
    assert asked(advise(node, h100, replace(workload, lock={"cp": 4})), "By which").answer == "ulysses, as asked"


def test_the_length_at_which_the_trace_says_it_turns_is_where_it_turns(make_node, h100, llama_8b):
    node = make_node(8, "NV18")
    problem = survey(node, h100, Workload(model=llama_8b, sequence_len=4096))
    longest = longest_fit(problem, Layout(dp_shard=8))
    for tokens, answer in ((longest, "yes"), (longest + 512, "no")):
        advice = advise(node, h100, Workload(model=llama_8b, sequence_len=tokens))
        assert asked(advice, "without context").answer.startswith(answer)


def test_the_mend_of_a_rejection_mends_it(make_node, h100, llama_8b):
    node, workload = make_node(8, "NV18"), Workload(model=llama_8b, sequence_len=262144)
    found = explain(node, h100, workload, Layout(dp_shard=8))
    assert isinstance(found, Rejection)
    assert found.fix == "raise cp to 4 (dp_shard 2 × cp 4)"
    assert isinstance(explain(node, h100, workload, Layout(dp_shard=2, cp=4)), Plan)


def test_explain_tells_even_of_a_layout_of_another_size(make_node, h100, llama_8b):
    found = explain(make_node(8, "NV18"), h100, Workload(model=llama_8b, sequence_len=8192), Layout(tp=2, cp=8))
    assert isinstance(found, Rejection)
    assert found.rule == "F1"


def test_a_wanted_batch_is_reached_by_micro_batch_and_accumulation(make_node, h100, llama_8b):
    advice = advise(make_node(8, "NV18"), h100, Workload(model=llama_8b, sequence_len=32768, global_batch=32))
    assert all(plan.micro_batch * plan.accumulation * plan.layout.data_ranks == 32 for plan in advice.plans)


def test_held_memory_and_headroom_are_subtracted(make_node, h100, llama_8b):
    node = make_node(8, "NV18", memory_bytes=80 * GIB, used_bytes=10 * GIB)
    workload = Workload(model=llama_8b, sequence_len=4096, headroom_bytes=5 * GIB)
    assert advise(node, h100, workload).plans[0].memory.limit_bytes == 65 * GIB


def test_a_layout_that_waits_for_its_links_does_not_recompute_for_nothing(make_node, h100, llama_8b):
    slow = replace(h100, pcie_bytes_per_s=5e9)
    found = explain(make_node(8, "PIX"), slow, Workload(model=llama_8b, sequence_len=2048), Layout(dp_shard=8))
    assert isinstance(found, Plan)
    assert found.recompute == {"none": 32}


def test_the_memory_objective_takes_the_lightest_first(make_node, h100, llama_8b):
    plans = advise(make_node(8, "NV18"), h100, Workload(model=llama_8b, sequence_len=65536, objective="memory")).plans
    peaks = [plan.memory.peak_bytes for plan in plans]
    assert peaks == sorted(peaks)
    assert plans[0].layout == Layout(cp=8)


def test_a_tight_plan_comes_after_those_that_fit_and_says_so(make_node, h100, llama_8b):
    plans = advise(make_node(8, "NV18"), h100, Workload(model=llama_8b, sequence_len=2**20)).plans
    assert plans[0].memory.verdict == "tight"
    assert any(warning.startswith("tight") for warning in plans[0].warnings)


def test_no_gpu_is_an_answer_too(make_node, h100, llama_8b):
    advice = advise(make_node(0, "NV18"), h100, Workload(model=llama_8b, sequence_len=4096))
    assert (advice.plans, advice.gpus) == ((), 0)
    assert advice.rejected[0].rule == "F1"


def test_eight_gpus_answer_at_once_and_a_thousand_in_seconds(make_node, h100, llama_8b):
    node = make_node(8, "NV18")
    for nodes, limit in ((1, 0.5), (128, 5.0)):
        began = perf_counter()
        advise(node, h100, Workload(model=llama_8b, sequence_len=131072, nodes=nodes, engine="axolotl-0.20"))
        assert perf_counter() - began < limit


questions = st.fixed_dictionaries(
    {
        "sequence_len": st.integers(1, 2**21),
        "engine": st.sampled_from(ENGINES),
        "nodes": st.sampled_from([1, 2, 3]),
        "nic_bytes_per_s": st.sampled_from([None, 1e9, 50e9]),
        "global_batch": st.sampled_from([None, 1, 6, 64]),
        "objective": st.sampled_from(OBJECTIVES),
        "lock": st.sampled_from([{}, {"cp": 2}, {"tp": 2, "cp": 4}, {"dp_shard": 5}]),
    }
)


SIZES = ("8b", "70b", "tiny")


@settings(max_examples=60, deadline=None)
@given(
    asked=questions,
    gpus=st.integers(1, 8),
    size=st.sampled_from(SIZES),
    on_cpu=st.booleans(),
    data=st.data(),
)
def test_every_question_has_an_answer_or_a_reason(
    make_node, h100, cpu, llama_8b, llama_70b, tiny, asked, gpus, size, on_cpu, data
):
    codes = {
        (i, j): data.draw(st.sampled_from(["NV18", "NV4", "PIX", "SYS", None])) for j in range(gpus) for i in range(j)
    }
    node = make_node(gpus, lambda low, high: codes[low, high])
    workload = Workload(model=dict(zip(SIZES, (llama_8b, llama_70b, tiny), strict=True))[size], **asked)
    advice = advise(node, cpu if on_cpu else h100, workload)
    assert advice.plans or advice.rejected
    assert all(one.why and (one.fix or one.rule != "memory") for one in advice.rejected)
    judged = [plan.layout for plan in advice.plans] + [one.layout for one in advice.rejected]
    assert len(set(judged)) == len(judged)
    if not asked["lock"]:
        assert set(judged) == set(factorisations(gpus * asked["nodes"]))
    for plan in advice.plans:
        assert plan.layout.world == gpus * asked["nodes"]
        assert sorted(plan.order) == list(range(gpus))
        assert all(plan.layout.degree(axis) == size for axis, size in asked["lock"].items())
        assert plan.memory.peak_bytes <= plan.memory.limit_bytes
        for axis in AXES:
            assert sorted(rank for group in plan.groups[axis] for rank in group) == list(range(plan.layout.world))


@settings(max_examples=30, deadline=None)
@given(gpus=st.sampled_from([1, 2, 4]), tokens=st.integers(8, 2**12))
def test_more_gpus_never_lose_a_length_that_fitted(make_node, h100, llama_8b, gpus, tokens):
    workload = Workload(model=llama_8b, sequence_len=tokens * 256)
    fewer = advise(make_node(gpus, "NV18"), h100, workload)
    if fewer.plans:
        assert advise(make_node(2 * gpus, "NV18"), h100, workload).plans
